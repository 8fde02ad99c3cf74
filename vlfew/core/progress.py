"""A progress bar with rate and remaining time, shown after two seconds and on a terminal only."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

T = TypeVar("T")
DELAY = 2.0
"""Seconds before the bar appears; shorter work shows none."""


class Progress:
    """Shows `label  ━━━━  120/900  41.2 steps/s  0:00:19` while work is running.

    Args:
        label: description of the work.
        total: number of units.
        unit: name of the unit in the rate.
        start: units completed before (a resumed run).
    """

    def __init__(self, label: str, total: int, unit: str = "it", start: int = 0) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, start
        self._start, self._began, self._note = start, time.monotonic(), ""
        self._bar: RichProgress | None = None
        self._shown = sys.stderr.isatty()

    def _open(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )
        bar.start()
        self._task = bar.add_task(self.label, total=self.total, rate="", note="")
        return bar

    def step(self, n: int = 1, note: str = "") -> None:
        """Advance by `n`; `note` is shown at the end of the line."""
        self.done += n
        elapsed = time.monotonic() - self._began
        if not self._shown or elapsed < DELAY:
            return
        if self._bar is None:
            self._bar = self._open()
        rate = (self.done - self._start) / elapsed
        self._note = note or self._note
        self._bar.update(self._task, completed=self.done, rate=f"{rate:,.1f} {self.unit}/s", note=self._note)

    def print(self, line: str) -> None:
        """Print a permanent line to standard error, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def progress(items: Iterable[T], label: str, total: int, unit: str = "it") -> Iterator[T]:
    """Iterate over `items` with a progress bar."""
    with Progress(label, total, unit) as bar:
        for item in items:
            yield item
            bar.step()
