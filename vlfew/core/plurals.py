"""Numbers and names of things in messages."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """`1 image`, `7,327 images`, `3 classes`, `2 identities`."""
    plural = noun[:-1] + "ies" if noun.endswith("ty") else noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def first_names(names: Sequence[str], most: int = 5) -> str:
    """`a, b, c and 3 more`."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
