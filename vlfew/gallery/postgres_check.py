"""What can be wrong with a gallery in Postgres: rows, templates, the index, and what is left of what was removed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby, islice
from operator import itemgetter

import psycopg
import torch
from torch import Tensor

from vlfew.core.plurals import counted
from vlfew.gallery.postgres_connection import PostgresConnection
from vlfew.gallery.postgres_rows import from_wire
from vlfew.gallery.postgres_templates import INDEX, Rules, templates_of
from vlfew.gallery.store import EmbeddingRow, Store

TABLES = "settings", "identities", "items", "templates", "idempotency_keys"
"""Those that hold something of people."""
TRIES = 10
CLOSE = 1e-4
"""Most that the numbers of a template may be off: those of a gallery may have been made on another machine."""
CLOSE_ROUGH = 1e-3
"""In half precision."""
PART = 4096


def check_postgres(store: Store, connection: PostgresConnection) -> list[str]:
    """Problems, a line each. Dead rows are vacuumed first, with their places in every index.

    Args:
        store: of the gallery, for its name and whether it can be written to.
        connection: to it.
    """
    dead = _dead_rows(store, connection)
    with connection.snapshot():
        problems = _rows(connection) + _templates(store, connection) + _index(connection)
    return problems + [
        f"{counted(count, 'removed or replaced row')} of the table {table} are still there: another client may have a "
        "transaction open (see pg_stat_activity), or this role may not vacuum the table; end that, and check again"
        for table, count in dead.items()
    ]


def _dead_rows(store: Store, connection: PostgresConnection) -> dict[str, int]:
    """How many rows of each table cannot be seen but are there still, after they were vacuumed."""
    left: dict[str, int] = dict.fromkeys(TABLES, 0)
    for _ in range(TRIES):
        with connection.use() as db:
            if not store.read_only:
                db.execute("SELECT pg_stat_force_next_flush()")
                with suppress(psycopg.Error):
                    db.execute(f"VACUUM (INDEX_CLEANUP ON, ANALYZE) {', '.join(left)}".encode())
            left = dict(
                db.execute(
                    "SELECT relname, n_dead_tup FROM pg_stat_all_tables WHERE schemaname = %s AND n_dead_tup > 0 "
                    "AND relname = ANY(%s) ORDER BY relname",
                    (connection.address.gallery, [*left]),
                ).fetchall()
            )
        if not left or store.read_only:
            break
        time.sleep(0.2)  # others may just have written, or be about to report what they did
    return left


def _rows(connection: PostgresConnection) -> list[str]:
    """Rows that belong to nothing, and counts that are wrong."""
    problems = []
    with connection.use() as db:
        for table in ("items", "templates"):
            (orphans,) = db.execute(
                f"SELECT count(*) FROM {table} t WHERE NOT EXISTS "
                "(SELECT 1 FROM identities WHERE id = t.identity_id)".encode()
            ).fetchall()[0]
            if orphans:
                problems.append(f"{counted(orphans, 'row')} of the table {table} belong to no identity")
        empty = db.execute(
            "SELECT name FROM identities i WHERE NOT EXISTS (SELECT 1 FROM items WHERE identity_id = i.id)"
        ).fetchall()
        problems += [f"identity {name!r} has no item" for (name,) in empty]
        noted, there = (
            db.execute(query).fetchone()
            for query in (
                "SELECT identities, items FROM gallery",
                "SELECT (SELECT count(*) FROM identities), (SELECT count(*) FROM items)",
            )
        )
        if noted != there:
            problems.append(f"identities and items were counted wrongly: {noted} where there are {there}")
    return problems


def _templates(store: Store, connection: PostgresConnection) -> list[str]:
    """Templates that are not those of their items."""
    rules = Rules.of(store.settings())
    wrong: list[str] = []
    identities = (
        (identity_id, [*items]) for identity_id, items in groupby(_items(connection), key=itemgetter(0))
    )
    while part := list(islice(identities, PART)):
        usable = [
            (identity_id, [(row.kind, row.embedding) for row in items])
            for identity_id, items in part
            if all(len(row.embedding) == 4 * rules.dim for row in items)  # the others are named elsewhere
        ]
        made: dict[int, list[Tensor]] = {}
        for identity_id, _, template in templates_of(rules, usable):
            made.setdefault(identity_id, []).append(template)
        with connection.use() as db:
            rows = db.execute(
                "SELECT identity_id, vector_send(template), vector_send(rough::vector) FROM templates "
                "WHERE identity_id = ANY(%s::bigint[])",
                ([*made],),
                binary=True,
            ).fetchall()
        there: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for identity_id, template, rough in rows:
            there.setdefault(identity_id, []).append((from_wire([template])[0], from_wire([rough])[0]))
        if bad := _different(made, there):
            wrong += store.names(bad).values()
    if not wrong:
        return []
    return [
        f"the templates of {counted(len(wrong), 'identity')} are not those of their items, such as {wrong[0]!r}: "
        "export the gallery and import it into a new one"
    ]


def _items(connection: PostgresConnection) -> Iterator[EmbeddingRow]:
    """All embeddings, identity by identity."""
    last = (0, 0)
    while True:
        with connection.use() as db:
            rows = db.execute(
                "SELECT identity_id, id, kind, embedding FROM items WHERE (identity_id, id) > (%s, %s) "
                "ORDER BY identity_id, id LIMIT %s",
                (*last, PART),
                binary=True,
            ).fetchall()
        if not rows:
            return
        yield from (EmbeddingRow(*row) for row in rows)
        last = rows[-1][:2]


def _different(made: dict[int, list[Tensor]], there: dict[int, list[tuple[Tensor, Tensor]]]) -> list[int]:
    """The identities whose templates `[D]` are not those that are stored, in both precisions and any order."""
    dim = {len(template) for own in made.values() for template in own}
    single = [
        n
        for n, own in made.items()
        if len(own) == 1 and [{len(vector) for vector in pair} for pair in there.get(n, [])] == [dim]
    ]
    bad = set(made).difference(single)
    bad = {n for n in bad if not _same(made[n], there.get(n, []))}
    if single:  # most of them, all at once
        own = torch.stack([made[n][0] for n in single])
        for part, most in enumerate((CLOSE, CLOSE_ROUGH)):
            stored = torch.stack([there[n][0][part] for n in single])
            off = ~((stored - own).abs() <= most).all(1)
            bad |= {single[at] for at in off.nonzero().flatten().tolist()}
    return sorted(bad)


def _same(made: list[Tensor], there: list[tuple[Tensor, Tensor]]) -> bool:
    if len(made) != len(there):
        return False
    left = [*there]
    for one in made:
        at = next((n for n, (template, _) in enumerate(left) if _close(template, one, CLOSE)), None)
        if at is None or not _close(left.pop(at)[1], one, CLOSE_ROUGH):
            return False
    return True


def _close(one: Tensor, other: Tensor, most: float) -> bool:
    return one.shape == other.shape and bool(((one - other).abs() <= most).all())


def _index(connection: PostgresConnection) -> list[str]:
    with connection.use() as db:
        indices = db.execute(
            "SELECT c.relname, i.indisvalid AND i.indisready FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s",
            (connection.address.gallery,),
        ).fetchall()
        wanted = db.execute("SELECT 1 FROM settings WHERE key = 'search' AND value = '\"hnsw\"'").fetchone()
    problems = [
        f"the index {name} is not valid: REINDEX INDEX {name}" for name, valid in indices if not valid
    ]
    if wanted and INDEX not in dict(indices):
        problems.append(f"the index {INDEX} is missing: export the gallery and import it into a new one")
    return problems
