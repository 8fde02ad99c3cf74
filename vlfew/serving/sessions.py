"""Sessions of the web page: a cookie in place of the key, which no script can read."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence

from vlfew.serving.keys import Key, token_hash

COOKIE = "vlfew_session"
SECONDS = 12 * 3600
MOST = 10_000
"""Sessions that are kept; beyond, the oldest end."""


class Sessions:
    """Open sessions, in memory: they end with the server, and with their key."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def begin(self, key: Key) -> str:
        """The token of a new session."""
        token = secrets.token_urlsafe(32)
        self._open[token_hash(token)] = (key.id, time.monotonic() + SECONDS)
        while len(self._open) > MOST:
            self._open.popitem(last=False)
        return token

    def find(self, token: str, keys: Sequence[Key]) -> Key | None:
        """The key that a session was begun with, while both are good."""
        # Found by the hash of a random token: how long it takes tells nothing about those that there are.
        key_id, until = self._open.get(token_hash(token), ("", 0.0))
        if time.monotonic() > until:
            return None
        return next((key for key in keys if key.id == key_id), None)

    def end(self, token: str) -> None:
        self._open.pop(token_hash(token), None)
