"""A gallery in a schema of a Postgres database, which several servers may share.

Writes are serialized by the one row of the table `gallery`, which holds the version and the highest ids: whoever has it
locked knows the ids of what is to be written. So a write is two round trips: what is there, and what becomes of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import psycopg

from vlfew.gallery.enroll_plan import Answer, EnrollPlan, KnownIdentity, keys_of, now
from vlfew.gallery.index import TemplateIndex
from vlfew.gallery.postgres_connection import Address, PostgresConnection
from vlfew.gallery.postgres_schema import create_schema, drop_schema, has_tables, is_read_only, open_schema
from vlfew.gallery.store import (
    KEPT_CHANGES,
    MANY,
    SHARED_IMAGES,
    EmbeddingRow,
    Enrolled,
    IdentityRow,
    ItemRow,
    NewIdentity,
    by_digest,
    name_taken,
    no_identity,
    no_item,
    stale_model,
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
            create_schema(connection, {key: _json(value) for key, value in settings.items()})
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

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        with self._connection.transaction(pipeline=True) as db:
            version = _lock(db)[0]
            _set(db, settings)
            _note(db, version, [None])

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
            plan, version = self._plan(db, identities, fingerprint)
            for identity_id in plan.emptied:
                db.execute("DELETE FROM items WHERE identity_id = %s", (identity_id,))
                _forget_requests(db, identity_id)
            _insert(db, plan, many)
            if plan.changed:
                added = plan.added_items - plan.removed_items
                _note(db, version, [*plan.changed], len(plan.new_identities), added)
                db.execute(
                    "UPDATE gallery SET last_identity = %s, last_item = %s",
                    (plan.last_identity, plan.last_item),
                )
        return plan.results

    def _plan(
        self, db: psycopg.Connection[Any], identities: Sequence[NewIdentity], fingerprint: str
    ) -> tuple[EnrollPlan, int]:
        """What is to be written, in one round trip, and the version before."""
        state = _lock(db, wait=False)
        current = db.execute("SELECT value FROM settings WHERE key = 'fingerprint'")
        keys = keys_of(identities)
        answered = db.execute(
            "SELECT k.key, k.request, k.result, i.name FROM idempotency_keys k LEFT JOIN identities i "
            "ON i.id = k.identity_id WHERE k.key = ANY(%s::bytea[])",
            (keys,),
            binary=True,
        )
        there = db.execute(
            "SELECT i.name, i.id, t.kind, t.digest, t.id FROM identities i LEFT JOIN items t ON t.identity_id = i.id "
            "WHERE i.name = ANY(%s::text[]) OR i.id IN (SELECT identity_id FROM idempotency_keys WHERE key = "
            "ANY(%s::bytea[])) ORDER BY i.id",
            ([*{new.name for new in identities}], keys),
            binary=True,
        )
        version, last_identity, last_item = state.fetchall()[0]
        if [json.loads(value) for (value,) in current.fetchall()] != [fingerprint]:
            raise stale_model(self.name)
        answers = {key: Answer(*row) for key, *row in answered.fetchall()}
        known: dict[str, KnownIdentity] = {}
        for name, identity_id, kind, digest, item_id in there.fetchall():
            identity = known.setdefault(name, KnownIdentity(identity_id))
            if item_id is not None:
                identity.items[kind, digest] = item_id
        return EnrollPlan(known, answers, last_identity, last_item).add(identities), version

    def rename(self, identity_id: int, new: str) -> None:
        with self._connection.transaction() as db:
            version = _lock(db)[0]
            rows = db.execute("SELECT id FROM identities WHERE name = %s", (new,)).fetchall()
            if rows and rows != [(identity_id,)]:
                raise name_taken(new, self.name)
            if not db.execute("UPDATE identities SET name = %s WHERE id = %s", (new, identity_id)).rowcount:
                raise no_identity(identity_id, self.name)
            _note(db, version, [identity_id])

    def remove(self, identity_ids: Sequence[int]) -> int:
        ids = sorted(set(identity_ids))
        with self._connection.transaction() as db:
            version = _lock(db)[0]
            there = {
                n for (n,) in db.execute("SELECT id FROM identities WHERE id = ANY(%s::bigint[])", (ids,))
            }
            if missing := [n for n in ids if n not in there]:
                raise no_identity(missing[0], self.name)
            removed = _remove(db, ids)
            _note(db, version, [*ids], -len(ids), -removed)
        return removed

    def remove_item(self, item_id: int) -> str:
        with self._connection.transaction() as db:
            version = _lock(db)[0]
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
                _note(db, version, [identity_id], -1, -1)
            else:
                db.execute("DELETE FROM items WHERE id = %s", (item_id,))
                _forget_requests(db, identity_id, item_id)
                _note(db, version, [identity_id], 0, -1)
        return str(name)

    def replace_embeddings(self, embeddings: Mapping[int, bytes], settings: Mapping[str, Any]) -> list[int]:
        with self._connection.transaction() as db:
            version = _lock(db)[0]
            ids = [n for (n,) in db.execute("SELECT id FROM items")]
            if missing := [item_id for item_id in ids if item_id not in embeddings]:
                return missing
            db.execute("CREATE TEMPORARY TABLE replaced (id bigint, embedding bytea) ON COMMIT DROP")
            rows = ((n, embeddings[n]) for n in ids)
            _write_rows(db, "replaced", {"id": "bigint", "embedding": "bytea"}, rows, many=True)
            db.execute("UPDATE items t SET embedding = r.embedding FROM replaced r WHERE r.id = t.id")
            _set(db, settings)
            _note(db, version, [None])
        return []

    def check(self) -> list[str]:
        empty = self._rows(
            "SELECT name FROM identities i WHERE NOT EXISTS (SELECT 1 FROM items WHERE identity_id = i.id)"
        )
        return [f"identity {name!r} has no item" for (name,) in empty]

    def index(self) -> TemplateIndex:
        return TemplateIndex(self)

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


def _lock(db: psycopg.Connection[Any], wait: bool = True) -> Any:
    """The gallery's version and highest ids, locked: other writers wait until the end of this transaction.

    Args:
        db: in a transaction.
        wait: whether to wait for the row; otherwise the cursor is returned.
    """
    cursor = db.execute("SELECT version, last_identity, last_item FROM gallery FOR UPDATE")
    return cursor.fetchall()[0] if wait else cursor


def _set(db: psycopg.Connection[Any], settings: Mapping[str, Any]) -> None:
    rows = [(key, _json(value)) for key, value in settings.items()]
    with db.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO settings VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            rows,
        )
    db.execute("UPDATE gallery SET settings_version = settings_version + 1")


def _note(
    db: psycopg.Connection[Any],
    version: int,
    identity_ids: Sequence[int | None],
    identities: int = 0,
    items: int = 0,
) -> None:
    """Notes that identities have changed, None for anything, and how many identities and items there are more."""
    if len(identity_ids) > MANY:
        identity_ids = [None]
    last = version + len(identity_ids)
    db.execute(
        "INSERT INTO changes SELECT * FROM unnest(%s::bigint[], %s::bigint[])",
        ([*range(version + 1, last + 1)], [*identity_ids]),
    )
    db.execute("DELETE FROM changes WHERE version <= %s", (last - KEPT_CHANGES,))
    db.execute(
        "UPDATE gallery SET version = %s, identities = identities + %s, items = items + %s",
        (last, identities, items),
    )


def _insert(db: psycopg.Connection[Any], plan: EnrollPlan, many: bool) -> None:
    since = now()
    _write_rows(
        db,
        "identities",
        {"id": "bigint", "name": "text", "created": "text"},
        ((n, name, since) for n, name in plan.new_identities.items()),
        many,
    )
    columns = {"id": "bigint", "identity_id": "bigint", "kind": "text", "digest": "bytea", "text": "text"}
    columns |= {
        "source": "text",
        "created": "text",
        "embedding": "bytea",
        "thumbnail": "bytea",
        "content": "bytea",
    }
    rows = (
        (n, of, i.kind, i.digest, i.text, i.source, since, i.embedding, i.thumbnail, i.content)
        for of, own in plan.new_items.items()
        for n, i in own
    )
    _write_rows(db, "items", columns, rows, many)
    columns = {"key": "bytea", "request": "bytea", "result": "text", "identity_id": "bigint"}
    _write_rows(db, "idempotency_keys", columns, plan.answers, many)


def _write_rows(
    db: psycopg.Connection[Any],
    table: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
    many: bool,
) -> None:
    """Inserts rows: many by COPY, few by one statement, which can be sent together with others.

    Args:
        db: in a transaction, and in a pipeline only for few rows.
        table: its name.
        columns: names and types.
        rows: their values.
        many: how.
    """
    names = ", ".join(columns)
    if many:
        with (
            db.cursor() as cursor,
            cursor.copy(f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)".encode()) as copy,
        ):
            copy.set_types([*columns.values()])
            for row in rows:
                copy.write_row(row)
        return
    if values := [[*column] for column in zip(*rows, strict=True)]:
        given = ", ".join(f"%b::{kind}[]" for kind in columns.values())
        db.execute(f"INSERT INTO {table} ({names}) SELECT * FROM unnest({given})".encode(), values)


def _remove(db: psycopg.Connection[Any], identity_ids: Sequence[int]) -> int:
    """Removes identities; returns the number of items, which go with them."""
    for identity_id in identity_ids:
        _forget_requests(db, identity_id)
    (count,) = db.execute(
        "SELECT count(*) FROM items WHERE identity_id = ANY(%s::bigint[])", (identity_ids,)
    ).fetchone() or (0,)
    db.execute("DELETE FROM identities WHERE id = ANY(%s::bigint[])", (identity_ids,))
    return int(count)


def _forget_requests(db: psycopg.Connection[Any], identity_id: int, item_id: int | None = None) -> None:
    """Empties the idempotency keys of an identity, or of one item: a late retry does not bring it back."""
    db.execute(
        "UPDATE idempotency_keys SET request = NULL, result = NULL, identity_id = NULL WHERE identity_id = %s "
        "AND (%s::jsonb IS NULL OR result::jsonb @> %s::jsonb)",
        (identity_id, *[None if item_id is None else json.dumps([item_id])] * 2),
    )


_IDENTITIES = """
    SELECT i.id, i.name, i.created,
        (SELECT count(*) FROM items WHERE identity_id = i.id AND kind = 'image'),
        (SELECT count(*) FROM items WHERE identity_id = i.id AND kind = 'text')
    FROM identities i
"""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
