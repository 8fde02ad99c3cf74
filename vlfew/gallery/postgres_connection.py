"""One connection to Postgres, which is made again where the server was away, with errors in one line.

A store has one connection and a lock: its calls are short, a gallery makes one call at a time anyway, and what many
queries cost is saved by sending them together. A pool would add threads and a waiting time without a server.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from selectors import EVENT_READ, DefaultSelector
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

import psycopg
from psycopg import errors, sql

from vlfew.core.errors import ConfigError, DataError, WriteError, first_line
from vlfew.gallery.postgres_rows import Wire, WireDumper
from vlfew.gallery.store import ReadOnlyStore, StoreUnavailable

EXAMPLE = "postgresql://USER@HOST/DATABASE?gallery=NAME"
DEFAULT_NAME = "gallery"
WAIT_SECONDS = 20
"""How long a write waits for those of others."""
IDLE_SECONDS = 300
"""How long the server waits for a client in the middle of a transaction, which keeps others from writing."""
DEFAULTS = {
    "fallback_application_name": "vlfew",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "tcp_user_timeout": "20000",
}
"""Of the connection: a server that is gone without a word is noticed."""


@dataclass(frozen=True)
class Address:
    """Where a gallery is.

    Attributes:
        url: of the database, for libpq.
        gallery: name of the gallery, which is that of its schema.
        name: the URL without passwords, for messages.
        ef_search: how many candidates an HNSW search looks at.
    """

    url: str
    gallery: str
    name: str
    ef_search: int

    @classmethod
    def parse(cls, url: str) -> Address:
        """
        Raises:
            ConfigError: not such a URL; the message has nothing of it, since it may hold a password.
        """
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
            gallery, ef_search = options.pop("gallery", DEFAULT_NAME), options.pop("ef_search", "")
            plain = _joined(parts, parts.netloc, options)
            psycopg.conninfo.conninfo_to_dict(plain)
            if parts.fragment:
                raise ValueError("#")
        except (ValueError, psycopg.Error):
            raise ConfigError(
                f"the URL of the gallery cannot be read; it should look like {EXAMPLE}, with special characters of a "
                "password percent-encoded (@ is %40, / is %2F) or, better, the password in ~/.pgpass"
            ) from None
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", gallery) or gallery.startswith("pg_"):
            raise ConfigError(
                f"gallery={gallery!r} in the URL must be lower-case letters, digits and _, up to 63 of them, not "
                "beginning with a digit or pg_"
            )
        if gallery in ("public", "information_schema"):
            raise ConfigError(
                f"gallery={gallery} in the URL is a schema of Postgres itself; choose another name"
            )
        if ef_search and not (ef_search.isascii() and ef_search.isdigit() and 1 <= int(ef_search) <= 1000):
            raise ConfigError(f"ef_search={ef_search!r} in the URL must be a number from 1 to 1000")
        host = parts.netloc.rpartition("@")
        user = host[0].partition(":")[0] + "@" if host[0] else ""
        shown = {k: v for k, v in options.items() if "password" not in k} | {"gallery": gallery}
        return cls(plain, gallery, _joined(parts, user + host[2], shown), int(ef_search or 0))


def _joined(parts: SplitResult, place: str, options: dict[str, str]) -> str:
    query = urlencode(options, quote_via=quote, safe="/")
    return f"{parts.scheme}://{place}{parts.path}" + (f"?{query}" if query else "")


class PostgresConnection:
    """The connection of a store, in autocommit mode outside `transaction`.

    Args:
        address: of the gallery, whose schema is searched first.

    Raises:
        StoreUnavailable: the server does not answer, or refuses.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.lock = threading.RLock()
        self._connection: psycopg.Connection[Any] | None = None
        self._depth = 0
        self._closed = False
        with self._errors():
            self._connected()

    @contextmanager
    def use(self) -> Iterator[psycopg.Connection[Any]]:
        """The connection, for this thread alone; in the running transaction, where there is one."""
        with self.lock, self._errors():
            yield self._connected()

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Connection[Any]]:
        """As `use`; statements are sent without waiting for the answers of those before."""
        with self.use() as db, db.pipeline():
            yield db

    @contextmanager
    def transaction(self, *, pipeline: bool = False) -> Iterator[psycopg.Connection[Any]]:
        """A transaction: all of the block, or nothing of it; durable at the end."""
        with self.use() as db:
            self._depth += 1
            try:
                with self._pipelined_transaction(db) if pipeline else db.transaction():
                    db.execute(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
                    yield db
            finally:
                self._depth -= 1

    @contextmanager
    def _pipelined_transaction(self, db: psycopg.Connection[Any]) -> Iterator[None]:
        """As psycopg's own, which waits for the server several times."""
        try:
            with db.pipeline():
                db.execute("BEGIN")
                yield
                db.execute("COMMIT")
        except BaseException:
            if not db.closed:
                with suppress(psycopg.Error):
                    db.execute("ROLLBACK")
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Reads of the block see one state."""
        with self.use() as db:
            if self._depth:
                yield
                return
            with db.transaction():
                db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1

    def close(self) -> None:
        with self.lock:
            self._closed = True
            self._drop()

    def _connected(self) -> psycopg.Connection[Any]:
        """The connection; made again where it has ended since the last call."""
        if self._closed:
            raise DataError(f"{self.address.name}: the gallery is closed")
        if self._connection is None and self._depth:
            raise StoreUnavailable(
                f"{self.address.name}: the server went away in the middle of a transaction"
            )
        if self._connection is not None and not self._depth and _has_ended(self._connection):
            self._drop()
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> psycopg.Connection[Any]:
        given = psycopg.conninfo.conninfo_to_dict(self.address.url)
        options: dict[str, Any] = {key: value for key, value in DEFAULTS.items() if key not in given}
        try:
            connection = psycopg.connect(self.address.url, autocommit=True, **options)
        except psycopg.OperationalError as error:
            raise _unreachable(error, self.address.name) from None
        connection.adapters.register_dumper(Wire, WireDumper)
        try:
            self.set_search_path(connection)
            connection.execute(
                "SELECT set_config('client_encoding', 'UTF8', false), set_config('jit', 'off', false), "
                "set_config('idle_in_transaction_session_timeout', %s, false), CASE WHEN "
                "current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', false) END",
                (f"{IDLE_SECONDS}s",),
            )
        except BaseException:
            connection.close()
            raise
        return connection

    def set_search_path(self, connection: psycopg.Connection[Any]) -> None:
        """Names are those of the gallery's schema, and of pgvector where it is."""
        found = connection.execute(
            "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
            "WHERE e.extname = 'vector'"
        ).fetchone()
        schemas = [self.address.gallery, *(found or ())]
        path = sql.SQL(", ").join(map(sql.Identifier, schemas)).as_string(connection)
        connection.execute("SELECT set_config('search_path', %s, false)", (path,))

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises errors of Postgres as one line with the way out.

        Raises:
            StoreUnavailable: the server is gone, does not answer, or others keep what is needed.
            WriteError: a full disk, or a server or role that may not write.
            DataError: anything else.
        """
        try:
            yield
        except psycopg.Error as error:
            ended = self._connection is None or self._connection.closed
            if ended:
                self._drop()
            raise _translated(error, self.address.name, ended) from None
        except UnicodeEncodeError:
            raise DataError(
                f"{self.address.name}: a text or a path has characters that are not Unicode; rename it"
            ) from None


def _has_ended(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server has ended a connection, without asking it."""
    try:
        with DefaultSelector() as selector:
            selector.register(connection.fileno(), EVENT_READ)
            # First what it says, then that there is no more.
            while not connection.closed and selector.select(0):
                connection.pgconn.consume_input()
                if connection.pgconn.is_busy() or connection.pgconn.error_message:
                    return True
    except (psycopg.Error, OSError, ValueError):
        return True
    return connection.closed


def _unreachable(error: psycopg.OperationalError, name: str) -> StoreUnavailable:
    why = first_line(error).removeprefix("connection failed: ")
    if "FATAL:" in why:
        return StoreUnavailable(
            f"{name}: the server refuses the connection: {why.partition('FATAL:')[2].strip()}"
        )
    return StoreUnavailable(
        f"{name}: the server does not answer ({why}); see that it runs, and that the URL is right"
    )


def _translated(error: psycopg.Error, name: str, ended: bool) -> Exception:
    why = first_line(error)
    if isinstance(error, errors.LockNotAvailable):
        return StoreUnavailable(
            f"{name}: another client has been writing to it for {WAIT_SECONDS} s; try again"
        )
    if isinstance(error, errors.DeadlockDetected | errors.SerializationFailure | errors.QueryCanceled):
        return StoreUnavailable(f"{name}: {why}; nothing was changed; try again")
    if isinstance(error, errors.TooManyConnections):
        return StoreUnavailable(f"{name}: {why}; try again, or raise max_connections of the server")
    if isinstance(error, errors.DiskFull):
        return WriteError(
            f"{name} cannot be written: the server's disk is full; nothing was changed; make space there"
        )
    if isinstance(error, errors.ReadOnlySqlTransaction | errors.InsufficientPrivilege):
        return ReadOnlyStore(f"{name}: {why}; connect to a server, and as a role, that may write there")
    if isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName):
        return DataError(f"{name}: there is no such gallery any more ({why})")
    if isinstance(error, psycopg.OperationalError) and ended:
        return StoreUnavailable(
            f"{name}: the server does not answer ({why}); what was being written is there as a whole or not at all: "
            "try again, with the same idempotency key"
        )
    if isinstance(error, psycopg.OperationalError):
        return StoreUnavailable(f"{name}: {why}; try again")
    return DataError(f"{name}: {why}")
