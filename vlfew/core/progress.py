"""A progress bar with rate and remaining time, shown after two seconds and on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
DELAY = 2.0
"""Seconds before the bar appears; shorter work shows none."""


class Progress(tqdm):
    """Shows `label:  13%|━━   | 120/900 [00:02<00:19, 41.2 steps/s]` while work is running.

    Args:
        label: description of the work.
        total: number of units.
        unit: name of the unit in the rate.
        start: units completed before (a resumed run).
    """

    monitor_interval = 0  # no thread that watches the bar

    def __init__(self, label: str, total: int, unit: str = "it", start: int = 0) -> None:
        super().__init__(
            desc=label,
            total=total,
            unit=f" {unit}",
            initial=start,
            delay=DELAY,
            disable=None,  # shown on terminals
            leave=False,
            dynamic_ncols=True,
        )

    def step(self, n: int = 1, note: str = "") -> None:
        """Advance by `n`; `note` is shown at the end of the line."""
        if note:
            self.set_postfix_str(note, refresh=False)
        self.update(n)

    def print(self, line: str) -> None:
        """Print a permanent line to standard error, above the bar if there is one."""
        self.write(line, file=sys.stderr)


def progress(items: Iterable[T], label: str, total: int, unit: str = "it") -> Iterator[T]:
    """Iterate over `items` with a progress bar."""
    with Progress(label, total, unit) as bar:
        for item in items:
            yield item
            bar.step()
