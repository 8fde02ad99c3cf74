"""Class names: which are text and which are codes, and how they are displayed."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

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
    """A key that is equal for names that read the same (Unicode NFKC, case folded)."""
    return unicodedata.normalize("NFKC", display_name(name)).casefold()


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
