"""A gallery in a schema of a Postgres database, which several servers may share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import groupby
from operator import itemgetter
from typing import Any

import psycopg

from vlfew.gallery.postgres_check import check_postgres
from vlfew.gallery.postgres_connection import Address, PostgresConnection
from vlfew.gallery.postgres_index import PostgresIndex
from vlfew.gallery.postgres_rows import write_rows
from vlfew.gallery.postgres_schema import (
    create_schema,
    drop_schema,
    has_tables,
    is_read_only,
    open_schema,
    read_settings,
    set_settings,
)
from vlfew.gallery.postgres_templates import (
    Rules,
    build_index,
    delete_templates,
    drop_index,
    set_size,
    write_templates,
)
from vlfew.gallery.postgres_writes import enroll, forget_requests, lock, note
from vlfew.gallery.store import (
    SHARED_IMAGES,
    EmbeddingRow,
    Enrolled,
    IdentityRow,
    ItemRow,
    NewIdentity,
    by_digest,
    check_expected,
    name_taken,
    no_identity,
    no_item,
)

PAGE = 4096
"""Rows that are read at a time."""
FEW_IMAGES = 64
"""Rows with images that are read at a time."""
FEW = 200
"""Up to so many rows are inserted by statements that are sent together; more are copied."""


class PostgresStore:
    """A `Store` in a Postgres schema; see there for what its methods do.

    Args:
        url: of an existing gallery, `postgresql://USER@HOST/DATABASE?gallery=NAME`; `create` makes a new one.

    Raises:
        ConfigError: another URL.
        DataError: there is no such gallery, or one of a later version.
        StoreUnavailable: the server does not answer.
    """

    def __init__(self, url: str) -> None:
        self._connection = PostgresConnection(Address.parse(url))
        self.name = self._connection.address.name
        try:
            open_schema(self._connection)
            with self._connection.use() as db:
                self.read_only = is_read_only(db)
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def create(cls, url: str, settings: Mapping[str, Any]) -> PostgresStore:
        """A new gallery.

        Raises:
            DataError: it exists, or the database has no pgvector.
            WriteError: the role may not create a schema.
        """
        connection = PostgresConnection(Address.parse(url))
        try:
            create_schema(connection, settings)
        finally:
            connection.close()
        return cls(url)

    def snapshot(self) -> AbstractContextManager[None]:
        return self._connection.snapshot()

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._connection.use() as db:
            return db.execute(query.encode(), values, binary=True).fetchall()

    def _pages(
        self, query: str, ids: Sequence[int] | None, column: str, key: str, size: int = PAGE
    ) -> Iterator[tuple[Any, ...]]:
        """Rows of all ids or of these, of one state, read page by page; the first column is the key."""
        if ids is not None:
            yield from self._rows(f"{query} WHERE {column} = ANY(%s::bigint[]) ORDER BY {key}", [*ids])
            return
        with self._connection.snapshot():
            last = -1
            while rows := self._rows(f"{query} WHERE {key} > %s ORDER BY {key} LIMIT %s", last, size):
                yield from rows
                last = rows[-1][0]

    def settings(self) -> dict[str, Any]:
        return {key: json.loads(value) for key, value in self._rows("SELECT key, value FROM settings")}

    def write_settings(
        self,
        settings: Mapping[str, Any],
        *,
        purge: bool = False,
        expected: Mapping[str, Any] | None = None,
    ) -> None:
        with self._connection.transaction(pipeline=expected is None) as db:
            version = lock(db)
            if expected is not None:
                check_expected(read_settings(db), expected, self.name)
            set_settings(db, settings)
            note(db, version, [None])
        if purge:
            self._vacuum()

    def version(self) -> int:
        return int(self._rows("SELECT version FROM gallery")[0][0])

    def changes(self, since: int) -> set[int] | None:
        rows = self._rows("SELECT version, identity_id FROM changes WHERE version > %s", since)
        missed = rows and min(version for version, _ in rows) != since + 1
        if missed or any(identity is None for _, identity in rows):
            return None
        return {identity for _, identity in rows}

    def count(self) -> tuple[int, int]:
        (row,) = self._rows("SELECT identities, items FROM gallery")
        return row[0], row[1]

    def identities(self, ids: Sequence[int] | None = None) -> list[IdentityRow]:
        return [IdentityRow(*row) for row in self._pages(_IDENTITIES, ids, "i.id", "i.id")]

    def names(self, ids: Sequence[int] | None = None) -> dict[int, str]:
        return dict(self._pages("SELECT id, name FROM identities", ids, "id", "id"))

    def find(self, name: str) -> IdentityRow | None:
        rows = self._rows(f"{_IDENTITIES} WHERE i.name = %s", name)
        return IdentityRow(*rows[0]) if rows else None

    def items(self, identity_id: int | None = None) -> Iterator[ItemRow]:
        query = "SELECT id, identity_id, kind, digest, text, source, created, thumbnail, content FROM items"
        ids = None if identity_id is None else [identity_id]
        for row in self._pages(query, ids, "identity_id", "id", FEW_IMAGES):
            yield ItemRow(*row)

    def content(self, item_id: int) -> bytes | None:
        rows = self._rows("SELECT content FROM items WHERE id = %s", item_id)
        return rows[0][0] if rows else None

    def thumbnail(self, item_id: int) -> bytes | None:
        rows = self._rows("SELECT thumbnail FROM items WHERE id = %s", item_id)
        return rows[0][0] if rows else None

    def thumbnails(self, identity_ids: Sequence[int]) -> dict[int, int]:
        query = (
            "SELECT identity_id, min(id) FROM items WHERE identity_id = ANY(%s::bigint[]) AND kind = 'image' "
            "AND thumbnail IS NOT NULL GROUP BY identity_id"
        )
        return dict(self._rows(query, [*identity_ids]))

    def digests(self, identity_id: int) -> set[bytes]:
        query = "SELECT digest FROM items WHERE identity_id = %s AND kind = 'image'"
        return {digest for (digest,) in self._rows(query, identity_id)}

    def embeddings(self, ids: Sequence[int] | None = None) -> Iterator[EmbeddingRow]:
        query = "SELECT id, identity_id, kind, embedding FROM items"
        for item_id, *row in self._pages(
            query, ids, "identity_id", "id" if ids is None else "identity_id, id"
        ):
            yield EmbeddingRow(row[0], item_id, row[1], row[2])

    def holders(self, digests: Iterable[bytes]) -> dict[bytes, list[str]]:
        names: dict[bytes, list[str]] = {}
        query = (
            "SELECT t.digest, i.name FROM items t JOIN identities i ON i.id = t.identity_id "
            "WHERE t.digest = ANY(%s::bytea[]) AND t.kind = 'image' ORDER BY i.name"
        )
        for digest, name in self._rows(query, [*set(digests)]):
            names.setdefault(digest, []).append(name)
        return names

    def shared_images(self) -> dict[bytes, list[tuple[int, int]]]:
        return by_digest(self._rows(SHARED_IMAGES))

    def enroll(self, identities: Sequence[NewIdentity], fingerprint: str) -> list[Enrolled]:
        many = sum(len(new.items) for new in identities) > FEW
        with self._connection.transaction(pipeline=not many) as db:
            plan = enroll(db, identities, fingerprint, many, self.name)
        if plan.emptied:
            self._vacuum()
        return plan.results

    def rename(self, identity_id: int, new: str) -> None:
        with self._connection.transaction() as db:
            version = lock(db)
            rows = db.execute("SELECT id FROM identities WHERE name = %s", (new,)).fetchall()
            if rows and rows != [(identity_id,)]:
                raise name_taken(new, self.name)
            if not db.execute("UPDATE identities SET name = %s WHERE id = %s", (new, identity_id)).rowcount:
                raise no_identity(identity_id, self.name)
            note(db, version, [identity_id])
        self._vacuum()

    def remove(self, identity_ids: Sequence[int]) -> int:
        ids = sorted(set(identity_ids))
        with self._connection.transaction() as db:
            version = lock(db)
            there = {
                n for (n,) in db.execute("SELECT id FROM identities WHERE id = ANY(%s::bigint[])", (ids,))
            }
            if missing := [n for n in ids if n not in there]:
                raise no_identity(missing[0], self.name)
            removed = _remove(db, ids)
            note(db, version, [*ids], -len(ids), -removed)
        self._vacuum()
        return removed

    def remove_item(self, item_id: int) -> str:
        with self._connection.transaction() as db:
            version = lock(db)
            row = db.execute(
                "SELECT i.id, i.name, (SELECT count(*) FROM items o WHERE o.identity_id = i.id) FROM items t "
                "JOIN identities i ON i.id = t.identity_id WHERE t.id = %s",
                (item_id,),
            ).fetchone()
            if row is None:
                raise no_item(item_id, self.name)
            identity_id, name, count = row
            if count == 1:
                _remove(db, [identity_id])
                note(db, version, [identity_id], -1, -1)
            else:
                db.execute("DELETE FROM items WHERE id = %s", (item_id,))
                forget_requests(db, identity_id, item_id)
                note(db, version, [identity_id], 0, -1)
                delete_templates(db, [identity_id])
                rest = db.execute(
                    "SELECT kind, embedding FROM items WHERE identity_id = %s ORDER BY id",
                    (identity_id,),
                    binary=True,
                ).fetchall()
                write_templates(db, self._rules(), [(identity_id, rest)], many=False)
        self._vacuum()
        return str(name)

    def replace_embeddings(self, embeddings: Mapping[int, bytes], settings: Mapping[str, Any]) -> list[int]:
        with self._connection.transaction() as db:
            version = lock(db)
            rows = db.execute("SELECT identity_id, kind, id FROM items ORDER BY identity_id, id").fetchall()
            if missing := sorted(item_id for _, _, item_id in rows if item_id not in embeddings):
                return missing
            db.execute("CREATE TEMPORARY TABLE replaced (id bigint, embedding bytea) ON COMMIT DROP")
            pairs = ((item_id, embeddings[item_id]) for _, _, item_id in rows)
            write_rows(db, "replaced", {"id": "bigint", "embedding": "bytea"}, pairs, many=True)
            db.execute("UPDATE items t SET embedding = r.embedding FROM replaced r WHERE r.id = t.id")
            set_settings(db, settings)
            note(db, version, [None])
            rules = self._rules()
            drop_index(db)
            db.execute("TRUNCATE templates")
            set_size(db, rules.dim)
            items = (
                (identity_id, [(kind, embeddings[item_id]) for _, kind, item_id in own])
                for identity_id, own in groupby(rows, key=itemgetter(0))
            )
            write_templates(db, rules, items, many=True)
            if rules.indexed:
                build_index(db)
        self._vacuum()
        return []

    def _rules(self) -> Rules:
        return Rules.of(self.settings())

    def _vacuum(self) -> None:
        """Removes what was removed from the tables, as far as nobody reads it; the server does it later otherwise."""
        with self._connection.use() as db, suppress(psycopg.Error):
            db.execute("VACUUM (SKIP_LOCKED) settings, identities, items, templates, idempotency_keys")

    def check(self) -> list[str]:
        return check_postgres(self, self._connection)

    def index(self) -> PostgresIndex:
        return PostgresIndex(self, self._connection)

    def close(self) -> None:
        self._connection.close()

    def destroy(self) -> None:
        drop_schema(self._connection)
        self.close()


def gallery_exists(url: str) -> bool:
    """
    Raises:
        StoreUnavailable: the server does not answer.
    """
    connection = PostgresConnection(Address.parse(url))
    try:
        with connection.use() as db:
            return has_tables(db, connection.address.gallery)
    finally:
        connection.close()


def _remove(db: psycopg.Connection[Any], identity_ids: Sequence[int]) -> int:
    """Removes identities; returns the number of items, which go with them."""
    for identity_id in identity_ids:
        forget_requests(db, identity_id)
    (count,) = db.execute(
        "SELECT count(*) FROM items WHERE identity_id = ANY(%s::bigint[])", (identity_ids,)
    ).fetchone() or (0,)
    db.execute("DELETE FROM identities WHERE id = ANY(%s::bigint[])", (identity_ids,))
    return int(count)


_IDENTITIES = """
    SELECT i.id, i.name, i.created,
        (SELECT count(*) FROM items WHERE identity_id = i.id AND kind = 'image'),
        (SELECT count(*) FROM items WHERE identity_id = i.id AND kind = 'text')
    FROM identities i
"""
