"""The identities of a gallery by name, page by page."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from vlfew.gallery.store import IdentityRow, Store


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
    """Names in order, read again when the store has changed.

    Args:
        store: of the gallery.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._version = store, -1
        self._entries: list[tuple[str, str, int]] = []

    def page(self, search: str, after: str, limit: int) -> Page:
        """Identities whose names contain a text, whatever its case.

        Args:
            search: the text; "" for all.
            after: name that the page begins after; "" for the first page.
            limit: most identities of the page.
        """
        with self._store.snapshot():
            version = self._store.version()
            if version != self._version:
                names = self._store.names().items()
                self._entries = sorted((name.casefold(), name, identity) for identity, name in names)
                self._version = version
            wanted = search.strip().casefold()
            entries = [one for one in self._entries if wanted in one[0]] if wanted else self._entries
            start = bisect_right(entries, (after.casefold(), after, 2**63)) if after else 0
            part = entries[start : start + limit]
            rows = {row.id: row for row in self._store.identities([identity for _, _, identity in part])}
        following = part[-1][1] if start + limit < len(entries) else None
        return Page([rows[identity] for _, _, identity in part], len(entries), following)
