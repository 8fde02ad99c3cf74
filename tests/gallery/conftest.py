"""Tiny models of images and texts, stores, and images to enroll."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
import torch
from PIL import Image

from tests.gallery.postgres_server import PostgresServer
from vlfew.gallery.postgres_store import PostgresStore
from vlfew.gallery.store import NewIdentity, NewItem, Store
from vlfew.gallery.stores import create_store
from vlfew.models import DualStream, ModelSpec, save_model
from vlfew.models.spec import TextSpec

DIM = 8


def tiny_model(seed: int = 0, text: bool = True, size: int = 16) -> DualStream:
    """An untrained model, with the same weights each time."""
    torch.manual_seed(seed)
    spec = ModelSpec(
        backbone="conv4",
        backbone_options={"width": 4},
        embedding_dim=DIM,
        image_size=size,
        text=TextSpec(encoder="minilm", projection="linear", dropout=0.0) if text else None,
    )
    return DualStream.from_spec(spec).eval()


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model with a text stream."""
    folder = tmp_path_factory.mktemp("models") / "run"
    save_model(tiny_model(), folder, {})
    return folder


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model of other weights and another size of images."""
    folder = tmp_path_factory.mktemp("models") / "other"
    save_model(tiny_model(seed=1, size=20), folder, {})
    return folder


@pytest.fixture(scope="session")
def model(run_folder: Path) -> DualStream:
    return DualStream.from_pretrained(run_folder)


@pytest.fixture(scope="session")
def other_model(other_run: Path) -> DualStream:
    return DualStream.from_pretrained(other_run)


def draw(path: Path, seed: int, change: int = 0, size: int = 24) -> Path:
    """An image of its own pattern, brighter by a few levels of 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 250, (size, size, 3)) + change
    Image.fromarray(pixels.astype(np.uint8)).resize((3 * size, 2 * size)).save(path)
    return path


@pytest.fixture
def people(tmp_path: Path) -> dict[str, list[Path]]:
    """Three people with two images each."""
    return {
        name: [draw(tmp_path / "people" / name / f"{n}.png", at, 2 * n) for n in range(2)]
        for at, name in enumerate(("ann", "bob", "cy"))
    }


SETTINGS = {"fingerprint": "f", "dim": DIM}


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer | None]:
    """A Postgres server for these tests; None where `VLFEW_POSTGRES` is the URL of another."""
    if os.environ.get("VLFEW_POSTGRES"):
        yield None
        return
    with PostgresServer() as made:
        yield made


@pytest.fixture(scope="session")
def database(server: PostgresServer | None) -> str:
    """The URL of a Postgres database with pgvector."""
    return server.url if server else os.environ["VLFEW_POSTGRES"]


@pytest.fixture
def own_server(server: PostgresServer | None) -> PostgresServer:
    """The server for these tests, on which they may do anything."""
    return server or pytest.skip("VLFEW_POSTGRES is set: the server is not ours to change")


@pytest.fixture
def postgres(database: str) -> Iterator[str]:
    """The URL of a gallery that is not there yet."""
    url = gallery_url(database)
    yield url
    drop_gallery(database, url)


def schema_of(url: str) -> str:
    return url.rpartition("=")[2]


def connect(database: str, url: str) -> psycopg.Connection:
    """A plain connection to the schema of a gallery."""
    return psycopg.connect(database, autocommit=True, options=f"-c search_path={schema_of(url)},public")


@pytest.fixture
def made(postgres: str) -> Iterator[PostgresStore]:
    """An empty store in Postgres."""
    store = PostgresStore.create(postgres, SETTINGS)
    yield store
    store.close()


def drop_gallery(database: str, url: str) -> None:
    with psycopg.connect(database, autocommit=True) as db:
        db.execute(f"DROP SCHEMA IF EXISTS {schema_of(url)} CASCADE".encode())


def gallery_url(database: str) -> str:
    """The URL of a new gallery in a database."""
    return f"{database}{'&' if '?' in database else '?'}gallery=g{uuid.uuid4().hex}"


STORES = ["sqlite", "postgres"]
"""Each kind of store; the tests of stores run over all of them."""


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """Where a gallery can be made: a path or a URL."""
    return tmp_path / "g.db" if request.param == "sqlite" else str(request.getfixturevalue("postgres"))


@pytest.fixture
def other_place(place: str | Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str | Path]:
    """Where another gallery of the same kind can be made."""
    if isinstance(place, Path):
        yield tmp_path / "other.db"
        return
    database = request.getfixturevalue("database")
    yield (url := gallery_url(database))
    drop_gallery(database, url)


@pytest.fixture
def store(place: str | Path) -> Iterator[Store]:
    made = create_store(place, SETTINGS)
    yield made
    made.close()


def vector(seed: int) -> bytes:
    """An embedding of unit length."""
    values = np.random.default_rng(seed).standard_normal(DIM)
    return (values / np.linalg.norm(values)).astype("<f4").tobytes()


def item(seed: int, kind: str = "image", **parts: object) -> NewItem:
    digest = hashlib.sha256(f"{kind} {seed}".encode()).digest()
    return NewItem(kind, digest, vector(seed), **parts)  # type: ignore[arg-type]


def identity(name: str, *seeds: int, **options: object) -> NewIdentity:
    return NewIdentity(name, [item(seed) for seed in seeds], **options)  # type: ignore[arg-type]


def id_of(store: Store, name: str) -> int:
    row = store.find(name)
    assert row is not None
    return row.id
