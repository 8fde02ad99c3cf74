"""What waits to be identified is bounded, and nothing is encoded for who is gone."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.serving.conftest import running
from vlfew.gallery.gallery import Gallery
from vlfew.serving.app import make_app
from vlfew.serving.batching import Batcher, Found
from vlfew.serving.decoding import Decoders
from vlfew.serving.metrics import Metrics
from vlfew.serving.problems import Problem


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_what_waits_is_bounded(gallery: Gallery) -> None:
    batcher = Batcher(gallery, Metrics(), most=4)
    query = torch.ones(1, gallery.settings["dim"])
    answers: queue.Queue[Found | Exception] = queue.Queue()
    try:
        with gallery._lock:  # as while a removal rewrites the file
            batcher.submit(query.expand(3, -1), 1, None, answers.put)
            batcher.submit(query.expand(2, -1), 1, None, answers.put)
            refused = answers.get(timeout=60)
            assert isinstance(refused, Problem) and refused.status == 503 and refused.headers["Retry-After"]
            batcher.submit(query, 1, None, answers.put)
            assert batcher.waiting == 4 and answers.empty()
        assert all(isinstance(answers.get(timeout=60), Found) for _ in range(2))
        wait_until(lambda: batcher.waiting == 0)
        batcher.submit(query.expand(9, -1), 1, None, answers.put)  # more than that, where nothing waits
        assert isinstance(answers.get(timeout=60), Found)
    finally:
        batcher.close()


def test_nothing_is_encoded_for_a_client_that_is_gone(
    gallery: Gallery, people: dict[str, list[Path]], decoders: Decoders, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(gallery, decoders=decoders)
    content = people["ann"][0].read_bytes()
    head = (
        "POST /identify HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n"
    )
    go_on = threading.Event()
    identify = gallery.identify_embeddings

    def slow(*arguments: Any) -> Any:
        assert go_on.wait(60)
        return identify(*arguments)

    monkeypatch.setattr(gallery, "identify_embeddings", slow)
    with running(app) as url:
        server = app.state.server
        address = ("127.0.0.1", int(url.rpartition(":")[2]))

        def metrics_have(line: bytes) -> Callable[[], bool]:
            return lambda: line in server.metrics.text()

        with socket.create_connection(address) as stays, socket.create_connection(address) as leaves:
            stays.sendall(head.format(len(content)).encode() + content)
            wait_until(metrics_have(b"vlfew_batch_images_sum 1.0\n"))
            leaves.sendall(head.format(len(content)).encode() + content)
            wait_until(lambda: server.batcher.waiting == 2)
            leaves.close()
            wait_until(metrics_have(b'status="499"'))
            go_on.set()
            assert b" 200 " in stays.recv(1000).split(b"\r\n")[0]
            wait_until(lambda: server.batcher.waiting == 0)
        assert metrics_have(b"vlfew_batch_images_sum 1.0\n")()
