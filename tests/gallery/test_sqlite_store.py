"""What is particular to galleries in SQLite files: durability, removal from the file, files that are no galleries."""

from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path

import pytest
import torch

from tests.gallery.conftest import DIM, id_of, identity, item, vector
from vlfew.core.errors import DataError, WriteError
from vlfew.gallery import sqlite_file
from vlfew.gallery.gallery import Gallery
from vlfew.gallery.sqlite_pages import unclean_free_pages
from vlfew.gallery.sqlite_store import SQLiteStore
from vlfew.gallery.store import NewIdentity, NewItem
from vlfew.models import DualStream

SETTINGS = {"fingerprint": "f", "dim": DIM}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    SQLiteStore.create(tmp_path / "a.db", SETTINGS).close()
    return tmp_path / "a.db"


def files_of(path: Path) -> bytes:
    """The bytes of a gallery's file and of what SQLite keeps beside it."""
    return b"".join(part.read_bytes() for part in path.parent.glob(f"{path.name}*"))


def test_settings_of_the_database(path: Path) -> None:
    store = SQLiteStore(path)
    pragmas = (
        "journal_mode",
        "synchronous",
        "secure_delete",
        "foreign_keys",
        "application_id",
        "user_version",
    )
    values = [store.db.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert values == ["wal", 2, 1, 1, sqlite_file.APPLICATION_ID, len(sqlite_file.MIGRATIONS)]
    store.close()
    assert [part.name for part in path.parent.iterdir()] == ["a.db"]


def test_create_overwrites_nothing(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"a\.db exists; choose another name"):
        SQLiteStore.create(path, SETTINGS)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 8192, b"SQLite format 3\0" + b"x" * 8192])
def test_other_files_are_left_as_they_are(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"other\.db .*left as it is"):
        SQLiteStore(path)
    assert path.read_bytes() == content and len(list(tmp_path.iterdir())) == 1


def test_other_databases_are_left_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(DataError, match="no gallery but another SQLite database"):
        SQLiteStore(path)
    assert path.read_bytes() == before


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        SQLiteStore(tmp_path)
    with pytest.raises(DataError, match=r"there is no such gallery; make one with vlfew gallery create"):
        SQLiteStore(tmp_path / "none.db")


def test_a_later_version_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(DataError, match="schema version 99; this vlfew reads up to 1: update vlfew"):
        SQLiteStore(path)


def test_an_earlier_version_is_migrated_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SQLiteStore(path)
    store.enroll([identity("ann", 1)], "f")
    store.close()
    more = (
        *sqlite_file.MIGRATIONS,
        "ALTER TABLE items ADD COLUMN note TEXT NOT NULL DEFAULT 'new'; SELECT 1",
    )
    monkeypatch.setattr(sqlite_file, "MIGRATIONS", more)
    for _ in range(2):
        store = SQLiteStore(path)
        assert store.db.execute("SELECT note FROM items").fetchall() == [("new",)]
        assert store.db.execute("PRAGMA user_version").fetchone() == (2,)
        store.close()


def test_a_failed_migration_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = (*sqlite_file.MIGRATIONS, "CREATE TABLE more (x); INSERT INTO nothing VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_file, "MIGRATIONS", bad)
        with pytest.raises(DataError):
            SQLiteStore(path)
    store = SQLiteStore(path)
    assert not store.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'more'").fetchall()
    store.close()


def test_a_damaged_file_is_one_line(path: Path) -> None:
    store = SQLiteStore(path)
    store.enroll([identity(f"n{n}", n) for n in range(200)], "f")
    store.close()
    content = bytearray(path.read_bytes())
    content[3 * 8192 : 6 * 8192] = b"\xff" * (3 * 8192)
    path.write_bytes(content)
    store = SQLiteStore(path)
    with pytest.raises(DataError, match=r"a\.db is damaged: .*go back to a copy or an export"):
        list(store.items())
        list(store.identities())
        store.enroll([identity("ann", 1)], "f")
    try:
        problems = store.check()
    except DataError as error:
        problems = [str(error)]
    assert problems
    store.close()
    assert path.read_bytes() == content


def test_a_full_disk_is_one_line_and_changes_nothing(path: Path) -> None:
    store = SQLiteStore(path)
    store.enroll([identity("ann", 1)], "f")
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(WriteError, match="the disk is full; nothing was changed; make space"):
        store.enroll([NewIdentity("bob", [item(2, content=b"x" * 10**6)])], "f")
    assert [row.name for row in store.identities()] == ["ann"]
    store.enroll([identity("ann", 3)], "f")
    assert store.count() == (1, 2) and store.check() == []
    store.close()


def test_a_locked_database_is_one_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
    other, store = sqlite3.connect(path, isolation_level=None), SQLiteStore(path)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DataError, match="another process has been writing to it"):
        store.enroll([identity("ann", 1)], "f")
    assert store.count() == (0, 0)
    other.execute("ROLLBACK")
    store.enroll([identity("ann", 1)], "f")
    other.close()
    store.close()


def test_a_file_that_is_only_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = SQLiteStore(path)
    writer.enroll([identity("ann", 1)], "f")
    writer.close()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        reader = SQLiteStore(path)
    assert reader.read_only and [row.name for row in reader.identities()] == ["ann"]
    for write in (lambda: reader.enroll([identity("bob", 2)], "f"), lambda: reader.remove("ann")):
        with pytest.raises(WriteError, match="is read-only; copy it"):
            write()
    assert reader.check() == []
    before, writer = reader.version(), SQLiteStore(path)
    writer.enroll([identity("bob", 2)], "f")
    assert reader.version() > before
    assert [row.name for row in reader.identities()] == ["ann", "bob"]
    writer.close()
    assert [row.name for row in reader.identities()] == ["ann", "bob"]
    reader.close()


def test_two_stores_see_each_other(path: Path) -> None:
    one, two = SQLiteStore(path), SQLiteStore(path)
    start = two.version()
    one.enroll([identity("ann", 1)], "f")
    assert two.version() > start and two.count() == (1, 1)
    two.remove([id_of(two, "ann")])
    assert one.count() == (0, 0)
    one.close()
    two.close()


def test_nothing_of_what_was_removed_is_in_the_file(path: Path) -> None:
    """After random enrollments, renamings and removals, which move rows between pages in all ways."""
    rng, live, removed = random.Random(0), dict[str, list[bytes]](), list[bytes]()
    store = SQLiteStore(path)
    for step in range(150):
        choice = rng.random()
        name = rng.choice(sorted(live)) if live else ""
        if choice < 0.55 or len(live) < 5:
            name, marks = (
                f"{rng.randbytes(20).hex()}-{step}",
                [rng.randbytes(16) for _ in range(rng.randint(1, 4))],
            )
            items = [
                NewItem(
                    "image", m + m, (m * 200)[: rng.choice([64, 2048])], "", m.hex(), m * rng.randint(9, 400)
                )
                for m in marks
            ]
            new = [NewIdentity(name, items, key=f"key {step}" if choice < 0.2 else "")]
            new += [identity(f"n{step}-{n}", 1000 * step + n) for n in range(20)] if step % 5 == 0 else []
            store.enroll(new, "f")
            live[name] = marks
        elif choice < 0.8:
            store.remove([id_of(store, name)])
            removed += [name.encode(), *live.pop(name)]
        elif choice < 0.9:
            store.rename(id_of(store, name), new_name := f"{rng.randbytes(20).hex()}-{step}")
            live[new_name] = live.pop(name)
            removed.append(name.encode())
        else:
            found = store.find(name)
            assert found is not None
            first = next(iter(store.items(found.id)))
            store.remove_item(first.id)
            removed.append(first.digest[:16])
            live[name].remove(first.digest[:16])
            if not live[name]:
                removed.append(name.encode())
                del live[name]
        if choice >= 0.55 and removed:
            content = files_of(path)
            assert not [mark for mark in removed if mark in content or mark.hex().encode() in content]
    assert len(removed) > 50 and store.check() == []
    content = files_of(path)
    assert all(
        name.encode() in content and all(mark in content for mark in marks) for name, marks in live.items()
    )
    store.close()


def test_an_interrupted_removal_is_completed_at_the_next_opening(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLiteStore(path)
    secret = b"a secret" * 8
    store.enroll(
        [NewIdentity("ann", [NewItem("image", secret[:32], vector(1), source=secret.decode())])], "f"
    )
    with monkeypatch.context() as patch:
        patch.setattr(SQLiteStore, "_purge", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.remove([id_of(store, "ann")])
    assert store.find("ann") is None and secret in files_of(path)
    assert "purge" not in store.settings()
    other = SQLiteStore(path)
    assert secret not in files_of(path)
    other.close()
    store.close()


def test_a_reader_that_stays_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.1)
    store, reader = SQLiteStore(path), SQLiteStore(path)
    store.enroll([identity("ann", 1)], "f")
    with reader.snapshot():
        reader.count()
        with pytest.raises(DataError, match=r"it is removed, but a process that has been reading"):
            store.remove([id_of(store, "ann")])
    assert store.find("ann") is None
    assert store.check() == []  # which completes it
    reader.close()
    store.close()


def test_check_finds_what_is_wrong(path: Path) -> None:
    store = SQLiteStore(path)
    store.enroll([identity("ann", 1), identity("bob", 2)], "f")
    store.db.execute("PRAGMA foreign_keys = OFF")
    store.db.execute("DELETE FROM identities WHERE name = 'ann'")
    store.db.execute("DELETE FROM items WHERE identity_id = 2")
    problems = store.check()
    assert any("row 1 of items belongs to nothing in identities" in line for line in problems)
    assert any("identity 'bob' has no item" in line for line in problems)
    store.close()


@pytest.mark.parametrize(("secure", "clean"), [(True, True), (False, False)])
def test_free_pages_are_looked_at(tmp_path: Path, secure: bool, clean: bool) -> None:
    db = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    db.execute(f"PRAGMA secure_delete = {secure}")
    db.execute("CREATE TABLE t (x)")
    db.executemany("INSERT INTO t VALUES (?)", [(b"\xab" * 5000,)] * 50)
    db.execute("DELETE FROM t")
    assert db.execute("PRAGMA freelist_count").fetchone()[0] > 50
    assert (not unclean_free_pages(db.serialize())) == clean
    db.close()


def test_a_removal_that_cannot_rewrite_the_file_says_that_it_is_one(
    path: Path, model: DualStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VACUUM needs as much space again; the removal itself is done by then."""
    with Gallery.create(tmp_path / "g.db", model) as gallery:
        gallery.enroll_embeddings(["ann", "bob"], torch.eye(DIM)[:2])
        assert gallery.identify_embeddings(torch.eye(DIM)[:1])[0][0].name == "ann"

        def full(self: SQLiteStore) -> None:
            raise WriteError("the disk is full; nothing was changed")

        with monkeypatch.context() as patch:
            patch.setattr(SQLiteStore, "_rewrite", full)
            with pytest.raises(
                WriteError, match=r"it is removed, but the file cannot be rewritten yet.*gallery check"
            ):
                gallery.remove("ann")
        assert "ann" not in gallery and [*gallery._index.names.values()] == ["bob"]
        assert gallery.check() == []
