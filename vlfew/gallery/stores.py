"""Where galleries are kept: SQLite files by path, schemas of Postgres databases by URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from vlfew.core.checks import check_one_of, to_path
from vlfew.core.errors import ConfigError
from vlfew.gallery.sqlite_store import SQLiteStore
from vlfew.gallery.store import Store

Search = Literal["exact", "hnsw"]
"""How templates are searched: `hnsw` by an index of pgvector, which finds nearly all."""
POSTGRES = re.compile(r"postgres(ql)?:/", re.IGNORECASE)


def check_search(search: str, place: str | Path) -> None:
    """
    Raises:
        ConfigError: no such search, or one that this place does not have.
    """
    check_one_of("search", search, Search)
    if search == "hnsw" and not is_url(place):
        raise ConfigError(
            f"search is 'hnsw', which {place} does not have: galleries in Postgres do, given by a URL; a file is "
            "searched exactly"
        )


def is_url(place: str | Path) -> bool:
    """Whether a gallery is in a database server.

    Raises:
        ConfigError: a URL that was made a path, which loses a slash; psycopg is not installed.
    """
    if not POSTGRES.match(str(place)):
        return False
    if isinstance(place, Path):
        raise ConfigError("the URL of a gallery in Postgres was made a Path; give it as a str")
    if find_spec("psycopg") is None:
        raise ConfigError("a gallery in Postgres needs psycopg: pip install 'vlfew[postgres]'")
    return True


def exists(place: str | Path) -> bool:
    """
    Raises:
        StoreUnavailable: the server does not answer.
    """
    if is_url(place):
        from vlfew.gallery.postgres_store import gallery_exists

        return gallery_exists(str(place))
    return to_path(place, "path").exists()


def open_store(place: str | Path) -> Store:
    """
    Raises:
        DataError: there is none, or it is damaged.
    """
    if is_url(place):
        from vlfew.gallery.postgres_store import PostgresStore

        return PostgresStore(str(place))
    return SQLiteStore(to_path(place, "path"))


def create_store(place: str | Path, settings: Mapping[str, Any]) -> Store:
    """
    Raises:
        DataError: it exists.
        WriteError: it cannot be written.
    """
    if is_url(place):
        from vlfew.gallery.postgres_store import PostgresStore

        return PostgresStore.create(str(place), settings)
    return SQLiteStore.create(to_path(place, "path"), settings)
