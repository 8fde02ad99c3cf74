"""An SQLite file as galleries use it: opened or made, of a version, with transactions, and rewritten after removals.

The write-ahead log is synced at every commit (`synchronous=FULL`), so that what was acknowledged survives a crash.

A removal rewrites the file (`VACUUM`) and empties the log before it returns. `secure_delete` alone is not enough: where
SQLite has moved rows between pages, copies of them stay in the unused parts of the pages. A removal that was
interrupted there is completed when the gallery is opened next.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vlfew.core.errors import DataError, WriteError
from vlfew.core.files import NO_SPACE
from vlfew.gallery.store import DamagedStore, ReadOnlyStore, StoreUnavailable

APPLICATION_ID = 0x766C6667  # "vlfg"
BUSY_SECONDS = 20.0
"""How long a write waits for those of other processes."""
PAGE_SIZE = 8192
"""Bytes; three embeddings of 512 numbers in a page."""
CACHE_KIB = 65536
"""Pages that are kept in memory: those of the indices, which many enrollments change in all places."""
PURGE = "purge"
"""The setting that says that something was removed, and that the file has not been rewritten since."""
PARTS = 500
"""Ids in a query."""
MIGRATIONS = (
    """
    CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE identities (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        created TEXT NOT NULL
    );
    CREATE TABLE items (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        identity_id INTEGER NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
        kind TEXT NOT NULL CHECK (kind IN ('image', 'text')),
        digest BLOB NOT NULL,
        text TEXT NOT NULL,
        source TEXT NOT NULL,
        created TEXT NOT NULL,
        embedding BLOB NOT NULL
    );
    CREATE UNIQUE INDEX items_by_digest ON items (digest, identity_id, kind);
    CREATE INDEX items_of_identity ON items (identity_id, kind);
    CREATE TABLE images (
        item_id INTEGER PRIMARY KEY REFERENCES items (id) ON DELETE CASCADE,
        thumbnail BLOB,
        content BLOB
    );
    CREATE TABLE idempotency_keys (
        key BLOB PRIMARY KEY,
        request BLOB,
        result TEXT,
        identity_id INTEGER REFERENCES identities (id) ON DELETE SET NULL
    ) WITHOUT ROWID;
    CREATE INDEX keys_of_identity ON idempotency_keys (identity_id);
    CREATE TABLE changes (version INTEGER PRIMARY KEY AUTOINCREMENT, identity_id INTEGER);
    """,
)
"""What makes each schema version from the one before; `user_version` counts them."""


class SQLiteFile:
    """A file with the tables of a gallery.

    Args:
        path: of an existing gallery; `make_file` makes an empty one.

    Raises:
        DataError: missing, damaged, of another program, or of a later version.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "there is no such gallery"
            raise DataError(f"{path}: {what}; make one with vlfew gallery create {path} --model RUN")
        self.read_only = not (os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK))
        self._stamp: tuple[int, ...] = ()
        self._depth = 0
        with self._errors():
            self._connect()
            try:
                self._check_kind()
                self._migrate()
                if not self.read_only and self._purge_pending():
                    self._purge()
            except BaseException:
                self.db.close()
                raise

    def _connect(self) -> None:
        uri = f"file:{quote(str(self.path.absolute()))}?mode={'ro' if self.read_only else 'rw'}"
        if self.read_only:
            self._stamp = self._file_stamp()
            if not any(self._stamp[2:]):
                # Without its log, a file in a folder that takes no files can be read in this way alone.
                uri += "&immutable=1"
        self.db = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        # Of the connection alone: the file, which may be that of another program, stays as it is.
        for setting in (
            "synchronous = FULL",
            "secure_delete = ON",
            "foreign_keys = ON",
            "temp_store = MEMORY",
        ):
            self.db.execute(f"PRAGMA {setting}")

    def _file_stamp(self) -> tuple[int, ...]:
        """Changes when another process has written to a file that is only read here."""
        status, log = self.path.stat(), Path(f"{self.path}-wal")
        return status.st_mtime_ns, status.st_size, log.stat().st_size if log.exists() else 0

    def _follow_file(self) -> None:
        """Opens a file that is only read again where another process has written to it."""
        if self.read_only and not self._depth and self._stamp != self._file_stamp():
            self.db.close()
            with self._errors():
                self._connect()

    def _check_kind(self) -> None:
        (application,) = self.db.execute("PRAGMA application_id").fetchone()
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise DataError(f"{self.path} is no gallery but another SQLite database; it is left as it is")
        if version > len(MIGRATIONS):
            raise DataError(
                f"{self.path} has schema version {version}; this vlfew reads up to {len(MIGRATIONS)}: update vlfew"
            )
        if version < len(MIGRATIONS) and self.read_only:
            raise DataError(
                f"{self.path} has schema version {version} and is read-only; open it once where it is not"
            )

    def _migrate(self) -> None:
        if self.db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS):
            return
        with self._write():
            (version,) = self.db.execute(
                "PRAGMA user_version"
            ).fetchone()  # another process may have been faster
            for script in MIGRATIONS[version:]:
                for statement in script.split(";"):
                    self.db.execute(statement)
            self.db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with _sqlite_errors(self.name):
            yield

    @contextmanager
    def _write(self) -> Iterator[None]:
        """A write transaction: all of the block, or nothing of it."""
        if self.read_only:
            raise ReadOnlyStore(
                f"{self.path} is read-only; copy it to a place where you can write, or change its permissions"
            )
        with self._errors():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._errors():
            if self._depth == 0:
                self._follow_file()
                self.db.execute("BEGIN")
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0 and self.db.in_transaction:
                    self.db.execute("ROLLBACK")

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._errors():
            return self.db.execute(query, values).fetchall()

    def _all_rows(
        self, query: str, ids: Sequence[Any] | None, column: str, order: str
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of all ids or of these, read in parts."""
        with self._errors():
            if ids is None:
                cursor = self.db.execute(f"{query} ORDER BY {order}")
                while rows := cursor.fetchmany(4096):
                    yield from rows
                return
            for start in range(0, len(ids), PARTS):
                part = sorted(ids[start : start + PARTS])
                marks = ",".join("?" * len(part))
                yield from self.db.execute(
                    f"{query} WHERE {column} IN ({marks}) ORDER BY {order}", part
                ).fetchall()

    def _plan_purge(self) -> None:
        """Notes in the transaction of a removal that the file has to be rewritten, under the removal's version."""
        self.db.execute("INSERT OR REPLACE INTO settings SELECT ?, max(version) FROM changes", (PURGE,))

    def _purge(self) -> None:
        """Rewrites the file and empties the log, so that nothing that was removed is left in them.

        Raises:
            WriteError: there is no space for that; what was removed is, all the same.
            StoreUnavailable: another process does not let it, likewise.
        """
        try:
            self._rewrite()
        except (WriteError, StoreUnavailable) as error:
            why = "the disk is full or fails" if isinstance(error, WriteError) else "another process uses it"
            raise type(error)(
                f"{self.path}: it is removed, but the file cannot be rewritten yet, as {why}; bytes of it "
                f"stay in the file until vlfew gallery check {self.path} has done that"
            ) from None

    def _rewrite(self) -> None:
        noted = self._rows("SELECT value FROM settings WHERE key = ?", (PURGE,))
        with self._errors():
            self.db.execute("VACUUM")
        self._empty_log()
        with self._write():  # unless another process has removed something since
            self.db.executemany(
                "DELETE FROM settings WHERE key = ? AND value = ?", [(PURGE, value) for (value,) in noted]
            )
        self._empty_log()

    def _empty_log(self) -> None:
        until = time.monotonic() + BUSY_SECONDS
        while True:
            with self._errors():
                busy, *_ = self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                return
            if time.monotonic() > until:
                raise DataError(
                    f"{self.path}: it is removed, but a process that has been reading for {BUSY_SECONDS:.0f} s keeps "
                    f"the log {self.path}-wal from being emptied; end that process and run vlfew gallery check "
                    f"{self.path}"
                )
            time.sleep(0.01)  # SQLite itself does not wait for the checkpoint of another process

    def _purge_pending(self) -> bool:
        return bool(self._rows("SELECT 1 FROM settings WHERE key = ?", (PURGE,)))

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self.db.close()

    def destroy(self) -> None:
        self.close()
        delete_file(self.path)


def make_file(path: Path) -> None:
    """Makes the file of a new gallery.

    Raises:
        DataError: it exists.
        WriteError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb"):
            pass
    except FileExistsError:
        raise DataError(f"{path} exists; choose another name, or enroll into it") from None
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror}; name another place") from None
    try:
        with _sqlite_errors(str(path)):
            db = sqlite3.connect(path, isolation_level=None)
            db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.close()
    except BaseException:
        delete_file(path)
        raise


def delete_file(path: Path) -> None:
    """Deletes a gallery."""
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        file.unlink(missing_ok=True)


@contextmanager
def _sqlite_errors(name: str) -> Iterator[None]:
    """Raises errors of SQLite as one line with the way out.

    Raises:
        WriteError: a full disk, or a file that is read-only.
        DataError: anything else.
    """
    try:
        yield
    except sqlite3.Error as error:
        kind = getattr(error, "sqlite_errorname", "") or ""
        if kind.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreUnavailable(
                f"{name}: another process has been writing to it for {BUSY_SECONDS:.0f} s; try again"
            ) from None
        if kind.startswith(
            ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_TRUNCATE")
        ):
            why = NO_SPACE[28] if kind == "SQLITE_FULL" else "the disk is full or fails"
            raise WriteError(
                f"{name} cannot be written: {why}; nothing was changed; make space there"
            ) from None
        if kind.startswith("SQLITE_READONLY"):
            raise ReadOnlyStore(f"{name} is read-only; copy it to a place where you can write") from None
        if kind.startswith("SQLITE_CANTOPEN"):
            raise DataError(f"{name} cannot be opened: {error}") from None
        if kind.startswith("SQLITE_NOTADB"):
            raise DataError(
                f"{name} is no gallery: it is not an SQLite file, or damaged; it is left as it is"
            ) from None
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.ProgrammingError | sqlite3.IntegrityError | sqlite3.InterfaceError
        ):
            raise DamagedStore(
                f"{name} is damaged: {error}; it is left as it is: go back to a copy or an export of it"
            ) from None
        raise
