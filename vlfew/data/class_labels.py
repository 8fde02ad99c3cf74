"""Labels of foreign data sets as plain numbers, truth values or texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from vlfew.core.errors import DataError, describe_value
from vlfew.core.plurals import counted


class LabelError(DataError):
    """Labels that are missing, or no labels of a class each; says where and why, but not what to do.

    Args:
        what: the message.
        values: all values, as they were found.
        missing: numbers of those that are missing; empty where all are there.
    """

    def __init__(self, what: str, values: list[Any], missing: list[int]) -> None:
        self.values, self.missing = values, missing
        super().__init__(what)


def plain_labels(values: Iterable[Any], unit: str, unlabeled: int | None = None) -> list[Any]:
    """The labels as `int`, `bool` or `str`, all of one kind.

    Args:
        values: of any library; whole numbers such as 2.0 are taken as integers.
        unit: what each belongs to ("row").
        unlabeled: a number that stands for a missing label.

    Raises:
        LabelError: a missing label (None, NaN, an empty text), values that name no class, or several kinds of labels.
    """
    plain = [_plain(value) for value in values]
    missing = [n for n, v in enumerate(plain) if v is None or (v == unlabeled and isinstance(v, int))]
    if missing:
        have = "has" if len(missing) == 1 else "have"
        of = f"{len(missing):,} of {counted(len(plain), unit)} {have}"
        raise LabelError(f"{of} no label (first: {unit} {missing[0]})", plain, missing)
    first: dict[str, int] = {}
    for n, value in enumerate(plain):
        first.setdefault(_kind(value), n)
    if "" in first:
        value = plain[first[""]]
        why = "several labels, or none" if isinstance(value, list) else f"a {type(value).__name__}"
        raise LabelError(
            f"{unit} {first['']} is {describe_value(value)}, {why}, not the label of one class", plain, []
        )
    if len(first) > 1:
        found = " and ".join(f"{unit} {n} is {describe_value(plain[n])}, {kind}" for kind, n in first.items())
        raise LabelError(f"labels are of several kinds: {found}", plain, [])
    return plain


def _plain(value: Any) -> Any:
    """A value as Python has it; None where it is missing."""
    if math.prod(getattr(value, "shape", (0,))) == 1 and hasattr(value, "item"):
        value = value.item()
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return list(value) if isinstance(value, tuple) else value


def _kind(value: Any) -> str:
    """What a label is; empty for what is no label."""
    kinds: Mapping[type, str] = {bool: "a truth value", int: "a number", str: "a text"}
    return kinds.get(type(value), "")
