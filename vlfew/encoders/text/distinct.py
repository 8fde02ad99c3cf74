"""Classes whose words are one to an encoder cannot be learned by them."""

from __future__ import annotations

from collections.abc import Sequence

from vlfew.core.errors import DataError
from vlfew.encoders.text.base import TextEncoder


def check_told_apart(encoder: TextEncoder, names: Sequence[str], texts: Sequence[Sequence[str]]) -> None:
    """Refuses classes whose words are the same to the encoder: unknown to it, or cut where they differ.

    Args:
        encoder: of the texts.
        names: of N classes.
        texts: those of each of them.

    Raises:
        DataError: all texts of two classes become the same tokens; says which classes.
    """
    flat = iter(encoder.token_ids([text for of_class in texts for text in of_class]))
    seen: dict[frozenset[tuple[int, ...]], int] = {}
    for number, of_class in enumerate(texts):
        tokens = frozenset(next(flat) for _ in of_class)
        other = seen.setdefault(tokens, number)
        if other != number and tokens:
            raise DataError(
                f"classes {names[other]!r} and {names[number]!r} are the same to the text encoder "
                f"({texts[other][0]!r} and {of_class[0]!r} become the same tokens); give one other words, or "
                "train without words (text.encoder=null)"
            )
