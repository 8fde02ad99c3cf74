"""Check that the texts of different classes differ for the text encoder."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Container, Sequence
from typing import Any

from vlfew.core.errors import DataError
from vlfew.encoders.text.base import TextEncoder


def check_distinct_texts(
    encoder: TextEncoder,
    class_names: Sequence[Any],
    class_texts: Sequence[Sequence[str]],
    *,
    with_images: Container[Any] = (),
    way_out: str = "",
) -> None:
    """Checks that no two classes have the same tokens, as texts with unknown or truncated words may have.

    Args:
        encoder: of the texts.
        class_names: of N classes.
        class_texts: texts of each class.
        with_images: classes that have images, too; two of these may share their texts.
        way_out: what else to do, for the message.

    Raises:
        DataError: all texts of two classes have the same tokens; says which classes.
    """
    token_ids = iter(encoder.token_ids([text for texts in class_texts for text in texts]))
    seen: dict[frozenset[tuple[int, ...]], int] = {}
    for number, texts in enumerate(class_texts):
        tokens = frozenset(next(token_ids) for _ in texts)
        other = seen.setdefault(tokens, number)
        names = class_names[other], class_names[number]
        if other != number and tokens and not all(name in with_images for name in names):
            shown = [
                textwrap.shorten(class_texts[n][0], 60, placeholder=" ...") or "..." for n in (other, number)
            ]
            same = f"the same text {shown[0]!r}"
            if set(class_texts[other]) != set(texts):
                spelled = [{_without_marks(text) for text in class_texts[n]} for n in (other, number)]
                why = "it does not know the words, or cuts texts before they differ"
                if spelled[0] == spelled[1]:
                    why = "they differ in case, accents or spaces alone, which it does not see"
                same = f"the same tokens for the text encoder ({shown[0]!r} and {shown[1]!r}: {why})"
            raise DataError(
                f"classes {names[0]!r} and {names[1]!r} have {same}; change the text of one{way_out}"
            )


def _without_marks(text: str) -> str:
    """The text in lower case, with single spaces and without accents."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(letter for letter in letters if not unicodedata.combining(letter)).split())
