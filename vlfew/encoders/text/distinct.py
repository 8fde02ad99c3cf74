"""Check that the texts of different classes differ for the text encoder."""

from __future__ import annotations

from collections.abc import Sequence

from vlfew.core.errors import DataError
from vlfew.encoders.text.base import TextEncoder


def check_distinct_texts(
    encoder: TextEncoder, class_names: Sequence[str], class_texts: Sequence[Sequence[str]]
) -> None:
    """Checks that no two classes have the same tokens, as texts with unknown or truncated words may have.

    Args:
        encoder: of the texts.
        class_names: of N classes.
        class_texts: texts of each class.

    Raises:
        DataError: all texts of two classes have the same tokens; says which classes.
    """
    token_ids = iter(encoder.token_ids([text for texts in class_texts for text in texts]))
    seen: dict[frozenset[tuple[int, ...]], int] = {}
    for number, texts in enumerate(class_texts):
        tokens = frozenset(next(token_ids) for _ in texts)
        other = seen.setdefault(tokens, number)
        if other != number and tokens:
            raise DataError(
                f"classes {class_names[other]!r} and {class_names[number]!r} have the same tokens for the text "
                f"encoder ({class_texts[other][0]!r} and {texts[0]!r}); change the text of one, or train without "
                "text (text.encoder=null)"
            )
