"""Pages of names follow what others write, in every store."""

from __future__ import annotations

import random

import pytest

from tests.gallery.conftest import id_of, identity
from vlfew.gallery import directory
from vlfew.gallery.directory import Directory
from vlfew.gallery.store import Store


def names(pages: Directory, search: str = "", limit: int = 3) -> list[str]:
    """All names, page by page."""
    found: list[str] = []
    after = ""
    while True:
        page = pages.page(search, after, limit)
        found += [row.name for row in page.identities]
        if page.next is None:
            assert page.total == len(found)
            return found
        after = page.next


def test_pages_follow_the_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pages, rng = Directory(store), random.Random(0)
    expected: set[str] = set()
    assert names(pages) == []
    for step in range(40):
        if step % 20 == 10:
            monkeypatch.setattr(directory, "MOST_CHANGES", step % 3)  # everything is read again
        name = rng.choice(["ann", "Ann", "anna", "Bob", "bob", "ß", "SS", "Éa", "éb"]) + rng.choice(
            ["", " 2"]
        )
        if name not in expected:
            store.enroll([identity(name, step), identity(f"n{step % 7}", 100 + step)], "f")
            expected |= {name, f"n{step % 7}"}
        elif rng.random() < 0.5:
            store.remove([id_of(store, name)])
            expected.remove(name)
        else:
            store.rename(id_of(store, name), f"{name} {step}")
            expected = expected - {name} | {f"{name} {step}"}
        assert names(pages) == sorted(expected, key=lambda one: (one.casefold(), one))
        assert names(pages, "AN") == [one for one in names(pages) if "an" in one.casefold()]
