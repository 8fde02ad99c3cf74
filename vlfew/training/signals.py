"""SIGTERM and Ctrl-C ask training to save and leave, rather than killing it in mid-step."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopRequest:
    """While entered, remembers the first SIGTERM or SIGINT; a second one acts as usual.

    Attributes:
        signal: its number, or 0 while none has come.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, object] = {}

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
