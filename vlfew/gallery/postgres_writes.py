"""Writes to a gallery in Postgres: what is there, in one round trip, and what becomes of it, in another.

Writes are serialized by the one row of the table `gallery`, which holds the version and the highest ids: whoever has it
locked knows the ids of what is to be written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from vlfew.gallery.enroll_plan import Answer, EnrollPlan, KnownIdentity, keys_of, now
from vlfew.gallery.postgres_rows import write_rows
from vlfew.gallery.postgres_templates import (
    BULK,
    Rules,
    build_index,
    delete_templates,
    drop_index,
    write_templates,
)
from vlfew.gallery.store import KEPT_CHANGES, MANY, NewIdentity, stale_model


@dataclass
class _There:
    """What is there of what a request to enroll is about."""

    version: int
    last_identity: int
    last_item: int
    identities: int
    rules: Rules | None = None
    answers: dict[bytes, Answer] = field(default_factory=dict)
    known: dict[str, KnownIdentity] = field(default_factory=dict)
    embeddings: dict[int, list[tuple[str, bytes]]] = field(default_factory=dict)


def enroll(
    db: psycopg.Connection[Any], identities: Sequence[NewIdentity], fingerprint: str, many: bool, name: str
) -> EnrollPlan:
    """Adds identities, items and templates; returns what was done.

    Args:
        db: in a transaction, and in a pipeline unless `many`.
        identities: to enroll.
        fingerprint: of the model.
        many: whether to copy rows.
        name: of the gallery, for messages.

    Raises:
        StaleModel, Conflict: see `Store.enroll`.
    """
    there = _there(db, identities, fingerprint, name)
    plan = EnrollPlan(there.known, there.answers, there.last_identity, there.last_item).add(identities)
    if plan.changed:
        _write(db, plan, there, many)
    return plan


def lock(db: psycopg.Connection[Any]) -> int:
    """The gallery's version; other writers wait until the end of this transaction."""
    return int(db.execute(_LOCK).fetchall()[0][0])


_LOCK = "SELECT version, last_identity, last_item, identities FROM gallery FOR UPDATE"
_RULES = "fingerprint", "dim", "combine", "text_weight", "search"


def _there(
    db: psycopg.Connection[Any], identities: Sequence[NewIdentity], fingerprint: str, name: str
) -> _There:
    """What a request to enroll is about, in one round trip; others wait with their writes from now on."""
    keys = keys_of(identities)
    state = db.execute(_LOCK)
    settings = db.execute("SELECT key, value FROM settings WHERE key = ANY(%s)", ([*_RULES],))
    answered = db.execute(
        "SELECT k.key, k.request, k.result, i.name FROM idempotency_keys k LEFT JOIN identities i "
        "ON i.id = k.identity_id WHERE k.key = ANY(%s::bytea[])",
        (keys,),
        binary=True,
    )
    items = db.execute(
        "SELECT i.name, i.id, t.kind, t.digest, t.id, t.embedding FROM identities i LEFT JOIN items t "
        "ON t.identity_id = i.id WHERE i.name = ANY(%s::text[]) OR i.id IN (SELECT identity_id FROM "
        "idempotency_keys WHERE key = ANY(%s::bytea[])) ORDER BY i.id, t.id",
        ([*{new.name for new in identities}], keys),
        binary=True,
    )
    there = _There(*state.fetchall()[0])
    stored = {key: json.loads(value) for key, value in settings.fetchall()}
    if stored["fingerprint"] != fingerprint:
        raise stale_model(name)
    there.rules = Rules.of(stored)
    there.answers = {key: Answer(*row) for key, *row in answered.fetchall()}
    for name, identity_id, kind, digest, item_id, embedding in items.fetchall():
        identity = there.known.setdefault(name, KnownIdentity(identity_id))
        if item_id is not None:
            identity.items[kind, digest] = item_id
            there.embeddings.setdefault(identity_id, []).append((kind, embedding))
    return there


def _write(db: psycopg.Connection[Any], plan: EnrollPlan, there: _There, many: bool) -> None:
    for identity_id in plan.emptied:
        db.execute("DELETE FROM items WHERE identity_id = %s", (identity_id,))
        forget_requests(db, identity_id)
    _insert(db, plan, many)
    note(
        db,
        there.version,
        [*plan.changed],
        len(plan.new_identities),
        plan.added_items - plan.removed_items,
    )
    db.execute("UPDATE gallery SET last_identity = %s, last_item = %s", (plan.last_identity, plan.last_item))
    if old := [n for n in plan.changed if n not in plan.new_identities]:
        delete_templates(db, old)
    assert there.rules is not None
    anew = there.rules.indexed and len(plan.new_identities) >= max(BULK, there.identities)
    if anew:
        drop_index(db)
    write_templates(
        db,
        there.rules,
        (
            (
                n,
                [
                    *(there.embeddings.get(n, []) if n not in plan.emptied else []),
                    *((item.kind, item.embedding) for _, item in plan.new_items.get(n, [])),
                ],
            )
            for n in plan.changed
        ),
        many,
    )
    if anew:
        build_index(db)
    if len(plan.new_identities) >= BULK:
        db.execute("ANALYZE identities, items, templates")


def note(
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
    write_rows(
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
    write_rows(db, "items", columns, rows, many)
    columns = {"key": "bytea", "request": "bytea", "result": "text", "identity_id": "bigint"}
    write_rows(db, "idempotency_keys", columns, plan.answers, many)


def forget_requests(db: psycopg.Connection[Any], identity_id: int, item_id: int | None = None) -> None:
    """Empties the idempotency keys of an identity, or of one item: a late retry does not bring it back."""
    db.execute(
        "UPDATE idempotency_keys SET request = NULL, result = NULL, identity_id = NULL WHERE identity_id = %s "
        "AND (%s::jsonb IS NULL OR result::jsonb @> %s::jsonb)",
        (identity_id, *[None if item_id is None else json.dumps([item_id])] * 2),
    )
