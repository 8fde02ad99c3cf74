"""Requests made up from the server's own description: no 5xx, and answers of the form that it describes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import CHECKS

from tests.gallery.conftest import DIM
from tests.serving.conftest import draw, running
from vlfew.gallery.gallery import Gallery
from vlfew.models import DualStream
from vlfew.serving.app import make_app
from vlfew.serving.decoding import Decoders
from vlfew.serving.options import ServeOptions

CHECKED = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
]
EXAMPLES = int(os.environ.get("VLFEW_FUZZ_REQUESTS", "5"))
"""Of each operation."""
LEFT_OUT = {("GET", "/export")}
"""Answers large files."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, model: DualStream, decoders: Decoders) -> Iterator[str]:
    """A server over a gallery that is changed as requests come."""
    folder = tmp_path_factory.mktemp("openapi")
    with Gallery.create(folder / "g.db", model) as gallery:
        labels = [n // 3 for n in range(30)]
        rows = torch.randn(10, DIM)[labels] + 0.3 * torch.randn(30, DIM)
        gallery.enroll_embeddings([f"p{n}" for n in labels], rows)
        gallery.enroll("image", [draw(folder / "a.png", 1)], ["a text"])
        with running(make_app(gallery, ServeOptions(), decoders)) as address:
            yield address


def exercise(url: str, examples: int) -> int:
    """Sends made-up requests to every operation and checks the answers; how many were sent."""
    schemathesis.checks.load_all_checks()
    checks = CHECKS.get_by_names(CHECKED)
    schema: Any = schemathesis.openapi.from_url(f"{url}/openapi.json")
    sent = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if (operation.method.upper(), operation.path) in LEFT_OUT:
            continue

        @seed(1)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=[*HealthCheck],
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            nonlocal sent
            sent += 1
            case.call_and_validate(base_url=url, checks=checks, timeout=60)

        check()
    return sent


def test_made_up_requests_are_answered_as_described(url: str) -> None:
    assert exercise(url, EXAMPLES) > 15 * EXAMPLES // 2


@pytest.mark.slow
def test_many_made_up_requests(url: str) -> None:
    exercise(url, 300)
