"""A line of the report."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "note", "problem"]


class Finding(NamedTuple):
    """A line of the report.

    Attributes:
        level: `ok` states a fact; a `problem` stops some command or spoils its numbers; a `note` should be known.
        topic: what it is about, in a word or two.
        text: the fact, with the way out where there is one.
    """

    level: Level
    topic: str
    text: str
