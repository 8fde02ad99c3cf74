"""Class names: which are text and which are codes, and how they are displayed."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from textwrap import shorten
from typing import TypeVar

import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.plurals import counted, first_names

Key = TypeVar("Key", int, str)

_CODE = re.compile(
    r"(n\d{6,}|[a-z]{0,3}[_-]?\d+(\.\d+)?|(class|character|person|subject|id)[_-]?\d+)", re.IGNORECASE
)


def is_code(name: str) -> bool:
    """Whether a name has no meaning as text: `s17`, `n01532829`, `character03`, `42`, `1.0`, `class_7`.

    The rule: a WordNet number, up to three letters and a number, or a number after `class`,
    `character`, `person`, `subject` or `id`; nothing else in the name.
    """
    return _CODE.fullmatch(name.strip()) is not None


def display_name(name: str) -> str:
    """A code unchanged; text with underscores and hyphens as spaces (`hot_dog`: `hot dog`)."""
    return name if is_code(name) else " ".join(re.sub(r"[_-]", " ", name).split()) or name


def same_key(name: str) -> str:
    """A key that is equal for names that read the same (Unicode NFKC, case and space folded)."""
    return " ".join(unicodedata.normalize("NFKC", display_name(name)).casefold().split())


def check_distinct_names(names: Iterable[str], where: str, noun: str = "classes") -> None:
    """Checks that no two names read the same, such as `Red Mug` and `red_mug`.

    Args:
        names: of classes; those that are equal are one class.
        where: they come from, for the message.
        noun: what they are.

    Raises:
        DataError: two do.
    """
    first: dict[str, str] = {}
    for name in sorted(set(names)):
        other = first.setdefault(same_key(name), name)
        if other != name:
            raise DataError(
                f"{where}: {noun} {other!r} and {name!r} are the same class; merge them, or give them one name"
            )


def shared_text_note(names: Sequence[object], class_texts: Sequence[Sequence[str]]) -> str:
    """Which texts are those of several classes, which are then harder to tell apart by text; empty if none is.

    Args:
        names: of the classes.
        class_texts: all texts of each class.
    """
    owners: dict[str, list[int]] = {}
    for number, texts in enumerate(class_texts):
        for text in {" ".join(text.casefold().split()): text for text in texts}:
            owners.setdefault(text, []).append(number)
    shared = [
        f"{shorten(text, 40, placeholder='...')!r} ({first_names([str(names[n]) for n in classes], 3)})"
        for text, classes in owners.items()
        if len(classes) > 1
    ]
    return f"{counted(len(shared), 'text')} of several classes: {first_names(shared, 3)}" if shared else ""


class NameLookup:
    """Finds the class that a name means: the one of that name, otherwise the one whose name reads the same."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)
        self.by_key = {same_key(name): name for name in self.names}

    def find(self, written: str) -> str | None:
        """The name of the class; None if there is none."""
        return written if written in self.names else self.by_key.get(same_key(written))


def number_classes(keys: Sequence[Key]) -> tuple[list[Key], Tensor]:
    """The distinct keys, sorted, and the number `[S]` of each key among them."""
    classes = sorted(set(keys))
    number = {key: n for n, key in enumerate(classes)}
    return classes, torch.tensor([number[key] for key in keys], dtype=torch.int64)


def unique_names(names: Sequence[str], keys: Sequence[object]) -> tuple[str, ...]:
    """The names, with the key of the class added where several read the same."""
    count = Counter(map(same_key, names))
    pairs = zip(names, keys, strict=True)
    return tuple(f"{name} ({key})" if count[same_key(name)] > 1 else name for name, key in pairs)
