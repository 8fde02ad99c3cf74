"""WordNet's definitions as texts of classes, from the copy that timm carries (the classes of ImageNet-22k)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Literal

from vlfew.core.errors import DataError

TextSource = Literal["names", "definitions", "both"]
"""The texts of a class: its names, WordNet's definition, or all of them."""


def wordnet_definitions(wnids: Sequence[str], data: str) -> list[str]:
    """Names and definition of each class in one text.

    Such as `house finch, linnet, Carpodacus mexicanus: small finch originally of the western United States and Mexico`.

    Args:
        wnids: WordNet numbers (`n01532829`).
        data: name of the data set, for the message.

    Raises:
        DataError: a class that is not in ImageNet-22k.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet22k")
    try:
        return [info.label_name_to_description(wnid, detailed=True) for wnid in wnids]
    except KeyError as unknown:
        raise DataError(
            f"{data}: WordNet has no definition of class {unknown}; leave out the option texts"
        ) from None


def choose_texts(
    texts: TextSource, names: Sequence[tuple[str, ...]], definitions: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """The texts of each class: the definition, after the names with `both`; the names alone with `names`."""
    if texts == "names":
        return tuple(names)
    both = zip(names, definitions, strict=True)
    return tuple((*own, text) if texts == "both" else (text,) for own, text in both)


def read_wordnet_numbers(name: str) -> dict[str, str]:
    """Class to its WordNet number, from `class_lists/<name>_wordnet.txt`: a class and a number on each line."""
    text = (files("vlfew.data") / "class_lists" / f"{name}_wordnet.txt").read_text(encoding="utf-8")
    pairs = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {class_name: wnid for class_name, wnid in pairs}
