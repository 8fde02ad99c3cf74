"""The tables of a gallery in Postgres, in a schema of its own, and their versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import errors, sql

from vlfew.core.errors import DataError
from vlfew.gallery.postgres_connection import PostgresConnection
from vlfew.gallery.postgres_templates import Rules, build_index, set_size

LOCK = 0x766C6667
"""The advisory lock under which galleries are created and migrated: "vlfg"."""
OLDEST_PGVECTOR = 0, 8
MIGRATIONS = (
    """
    CREATE TABLE gallery (
        schema_version integer NOT NULL,
        version bigint NOT NULL,
        settings_version bigint NOT NULL,
        last_identity bigint NOT NULL,
        last_item bigint NOT NULL,
        identities bigint NOT NULL,
        items bigint NOT NULL
    );
    CREATE UNIQUE INDEX gallery_is_one ON gallery ((true));
    INSERT INTO gallery VALUES (0, 0, 0, 0, 0, 0, 0);
    CREATE TABLE settings (key text PRIMARY KEY, value text NOT NULL);
    CREATE TABLE identities (id bigint PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE, created text NOT NULL);
    CREATE TABLE items (
        id bigint PRIMARY KEY,
        identity_id bigint NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
        kind text NOT NULL CHECK (kind IN ('image', 'text')),
        digest bytea NOT NULL,
        text text NOT NULL,
        source text NOT NULL,
        created text NOT NULL,
        embedding bytea NOT NULL,
        thumbnail bytea,
        content bytea
    );
    ALTER TABLE items ALTER embedding SET STORAGE EXTERNAL, ALTER thumbnail SET STORAGE EXTERNAL,
        ALTER content SET STORAGE EXTERNAL, ALTER embedding SET STATISTICS 0, ALTER thumbnail SET STATISTICS 0,
        ALTER content SET STATISTICS 0;
    CREATE INDEX items_by_digest ON items (digest) WHERE kind = 'image';
    CREATE UNIQUE INDEX items_of_identity ON items (identity_id, kind, digest);
    CREATE TABLE templates (
        identity_id bigint NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
        support text NOT NULL,
        rough halfvec NOT NULL,
        template vector NOT NULL
    );
    ALTER TABLE templates ALTER rough SET STORAGE PLAIN, ALTER template SET STORAGE EXTERNAL,
        ALTER rough SET STATISTICS 0, ALTER template SET STATISTICS 0;
    CREATE INDEX templates_of_identity ON templates (identity_id);
    CREATE TABLE idempotency_keys (
        key bytea PRIMARY KEY,
        request bytea,
        result text,
        identity_id bigint REFERENCES identities (id) ON DELETE SET NULL
    );
    CREATE INDEX keys_of_identity ON idempotency_keys (identity_id);
    CREATE TABLE changes (version bigint PRIMARY KEY, identity_id bigint)
    """,
)
"""What makes each schema version from the one before."""


def create_schema(connection: PostgresConnection, settings: Mapping[str, Any]) -> None:
    """Makes a gallery, with pgvector where the database lacks it, in one transaction.

    Args:
        connection: to the database.
        settings: of the gallery; `dim` and `search` make the tables.

    Raises:
        DataError: there is a schema of this name; the database cannot have pgvector, or is not in UTF-8.
    """
    address = connection.address
    rules = Rules.of(settings) if "dim" in settings else None
    with connection.use() as db:
        (encoding,) = db.execute("SELECT current_setting('server_encoding')").fetchone() or ("",)
        if encoding != "UTF8":
            raise DataError(
                f"{address.name}: the database's encoding is {encoding}, in which not every name can be written; use a "
                "database with the encoding UTF8"
            )
        with db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            if db.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (address.gallery,)).fetchone():
                what = (
                    "exists; choose another name, or enroll into it"
                    if has_tables(db, address.gallery)
                    else f"is no gallery: there is another schema {address.gallery!r}; choose another name"
                )
                raise DataError(f"{address.name} {what}")
            _need_pgvector(db, address.name)
            db.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(address.gallery)))
            connection.set_search_path(db)
            _migrate(db, 0)
            set_settings(db, settings)
            if rules is not None:
                set_size(db, rules.dim)
                if rules.indexed:
                    build_index(db)


def open_schema(connection: PostgresConnection) -> None:
    """Checks that a gallery is there, and brings its tables up to date.

    Raises:
        DataError: there is none, or one of a later version.
    """
    address = connection.address
    with connection.use() as db:
        if not has_tables(db, address.gallery):
            raise DataError(
                f"{address.name}: there is no such gallery; make one with vlfew gallery create {address.name!r} "
                "--model RUN"
            )
        version = _version(db)
        if version > len(MIGRATIONS):
            raise DataError(
                f"{address.name} has schema version {version}; this vlfew reads up to {len(MIGRATIONS)}: update vlfew"
            )
        if version < len(MIGRATIONS):
            if is_read_only(db):
                raise DataError(
                    f"{address.name} has schema version {version} and is read-only; open it once where it is not"
                )
            with db.transaction():
                db.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                _migrate(db, _version(db))  # another process may have been faster


def set_settings(db: psycopg.Connection[Any], settings: Mapping[str, Any]) -> None:
    """Sets these settings and keeps the others."""
    rows = [(key, json.dumps(value, ensure_ascii=False)) for key, value in settings.items()]
    with db.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO settings VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            rows,
        )
    db.execute("UPDATE gallery SET settings_version = settings_version + 1")


def read_settings(db: psycopg.Connection[Any]) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in db.execute("SELECT key, value FROM settings").fetchall()}


def is_read_only(db: psycopg.Connection[Any]) -> bool:
    """Whether a gallery cannot be written to: on a standby, or as a role that may only read."""
    row = db.execute(
        "SELECT current_setting('transaction_read_only') = 'on' OR NOT has_table_privilege('gallery', 'UPDATE')"
    ).fetchone()
    return bool(row and row[0])


def drop_schema(connection: PostgresConnection) -> None:
    """Deletes the gallery."""
    with connection.use() as db:
        db.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(connection.address.gallery)))


def has_tables(db: psycopg.Connection[Any], schema: str) -> bool:
    """Whether a schema is a gallery."""
    tables = "gallery", "settings", "identities", "items"
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = ANY(%s)"
    return db.execute(query, (schema, [*tables])).fetchone() == (len(tables),)


def _version(db: psycopg.Connection[Any]) -> int:
    row = db.execute("SELECT schema_version FROM gallery").fetchone()
    return int(row[0]) if row else 0


def _migrate(db: psycopg.Connection[Any], version: int) -> None:
    for script in MIGRATIONS[version:]:
        db.execute(script.encode())
    db.execute("UPDATE gallery SET schema_version = %s", (len(MIGRATIONS),))


def _need_pgvector(db: psycopg.Connection[Any], name: str) -> None:
    """
    Raises:
        DataError: the database has no pgvector and cannot be given it; says who can.
    """
    if found := db.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone():
        if [*map(int, found[0].split(".")[:2])] < [*OLDEST_PGVECTOR]:
            raise DataError(
                f"{name}: the database has pgvector {found[0]}, and 0.8 or later is needed; a superuser of it can run: "
                "ALTER EXTENSION vector UPDATE"
            )
        return
    try:
        with db.transaction():
            db.execute("SET LOCAL search_path TO DEFAULT")
            db.execute("CREATE EXTENSION vector")
    except errors.InsufficientPrivilege:
        raise DataError(
            f"{name}: the database has no pgvector; a superuser of it must run once: CREATE EXTENSION vector"
        ) from None
    except (errors.FeatureNotSupported, errors.UndefinedFile):
        raise DataError(
            f"{name}: the server has no pgvector; its administrator has to install it (Debian: "
            "postgresql-NN-pgvector; see https://github.com/pgvector/pgvector)"
        ) from None
