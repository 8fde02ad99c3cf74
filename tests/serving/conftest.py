"""Servers over small galleries, in this process and at a free port of this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from tests.gallery.conftest import database, draw, model, other_run, people, postgres, run_folder, server
from vlfew.gallery.gallery import Gallery
from vlfew.models import DualStream
from vlfew.serving.app import make_app
from vlfew.serving.decoding import Decoders
from vlfew.serving.options import ServeOptions

__all__ = ["database", "model", "other_run", "people", "postgres", "run_folder", "server"]
MIB = 2**20


@pytest.fixture(scope="session")
def decoders() -> Iterator[Decoders]:
    """Processes that decode, which all servers of these tests share: they take seconds to start."""
    made = Decoders(2, 60, 512 * MIB)
    assert made.wait_ready()
    yield made
    made.close()


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Serves an app; its address."""
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, ws="none", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive() and time.monotonic() < until, "the server does not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server does not end"


Serve = Callable[..., httpx2.Client]


@pytest.fixture
def serve(decoders: Decoders) -> Iterator[Serve]:
    """Serves a gallery with some options, and gives an HTTP client of it."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(gallery: Gallery, **options: Any) -> httpx2.Client:
            app = make_app(gallery, ServeOptions(**options), decoders)
            url = stack.enter_context(running(app))
            return stack.enter_context(httpx2.Client(base_url=url, timeout=60, trust_env=False))

        yield start


@pytest.fixture
def gallery(tmp_path: Path, model: DualStream, people: dict[str, list[Path]]) -> Iterator[Gallery]:
    """Three people with two images each."""
    with Gallery.create(tmp_path / "people.db", model) as made:
        for name, images in people.items():
            made.enroll(name, images)
        yield made


@pytest.fixture
def http(gallery: Gallery, serve: Serve) -> httpx2.Client:
    """A client of that gallery's server, which needs no key."""
    return serve(gallery)


def files(field: str, *paths: Path) -> list[tuple[str, tuple[str, bytes]]]:
    """Files of a form."""
    return [(field, (path.name, path.read_bytes())) for path in paths]


def problem(response: httpx2.Response, status: int) -> str:
    """The one line of an answer that must be a problem of this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status and body["title"] and "\n" not in body["detail"]
    return str(body["detail"])


__all__ += ["draw"]
