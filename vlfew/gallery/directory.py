"""The identities of a gallery by name, page by page."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import NamedTuple

from vlfew.gallery.store import IdentityRow, Store

Entry = tuple[str, str, int]
"""An identity's name without its case, the name, and the id: in this order."""
MOST_CHANGES = 1000
"""Above so many changed identities, all names are read again."""


class Page(NamedTuple):
    """Some identities in the order of their names.

    Attributes:
        identities: of this page.
        total: number of all identities that were asked for.
        next: where the next page begins; None at the end.
    """

    identities: list[IdentityRow]
    total: int
    next: str | None


class Directory:
    """Names in order, kept up to date with the store.

    Args:
        store: of the gallery.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._version = store, -1
        self._entries: list[Entry] = []
        self._by_id: dict[int, Entry] = {}

    def page(self, search: str, after: str, limit: int) -> Page:
        """Identities whose names contain a text, whatever its case.

        Args:
            search: the text; "" for all.
            after: name that the page begins after; "" for the first page.
            limit: most identities of the page.
        """
        with self._store.snapshot():
            self._follow()
            wanted = search.strip().casefold()
            entries = [one for one in self._entries if wanted in one[0]] if wanted else self._entries
            start = bisect_right(entries, (after.casefold(), after, 2**63)) if after else 0
            part = entries[start : start + limit]
            rows = {row.id: row for row in self._store.identities([identity for _, _, identity in part])}
        following = part[-1][1] if start + limit < len(entries) else None
        return Page([rows[identity] for _, _, identity in part], len(entries), following)

    def follow(self) -> None:
        """Drops what was removed, where names are in memory."""
        if self._version >= 0:
            with self._store.snapshot():
                self._follow()

    def _follow(self) -> None:
        """Takes over what this or another process has written since the last time."""
        version = self._store.version()
        if version == self._version:
            return
        changed = None if self._version < 0 else self._store.changes(self._version)
        if changed is None or len(changed) > MOST_CHANGES:
            self._by_id = {identity: _entry(identity, name) for identity, name in self._store.names().items()}
            self._entries = sorted(self._by_id.values())
        else:
            names = self._store.names(sorted(changed))
            for identity in changed:
                if (old := self._by_id.pop(identity, None)) is not None:
                    del self._entries[bisect_left(self._entries, old)]
                if identity in names:
                    entry = self._by_id[identity] = _entry(identity, names[identity])
                    insort(self._entries, entry)
        self._version = version


def _entry(identity: int, name: str) -> Entry:
    return name.casefold(), name, identity
