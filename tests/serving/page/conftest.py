"""A browser, and the server whose page it shows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

import vlfew
from tests.serving.conftest import running
from tests.serving.page.page_server import PEOPLE, enroll_people, pattern_model
from tests.serving.page.window import Open
from vlfew.models import DualStream
from vlfew.serving.app import make_app
from vlfew.serving.decoding import Decoders

PATIENCE = 60_000
"""Milliseconds that the page has, on a machine that is busy."""
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of the system; Playwright would download its own."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium is found, which shows the page: apt-get install chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CAMERA)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def folder(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and galleries; needs the browser so that nothing is made where there is none."""
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="session")
def model() -> DualStream:
    return pattern_model()


@pytest.fixture(scope="session")
def gallery(folder: Path, model: DualStream) -> Iterator[vlfew.Gallery]:
    """Tests leave it as they find it."""
    with vlfew.Gallery.create(folder / "people.db", model) as made:
        enroll_people(made, folder)
        yield made
        assert [row.name for row in made.list()] == [f"person {number}" for number in range(PEOPLE)]


@pytest.fixture(scope="session")
def address(gallery: vlfew.Gallery, decoders: Decoders) -> Iterator[str]:
    with running(make_app(gallery, None, decoders)) as url:
        yield url


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Open]:
    """Opens a view in a window of its own; an error in a script, or a request to another site, fails the test."""
    contexts, errors = [], []

    def check_local(requested: str, url: str) -> None:
        if not requested.startswith((f"{url}/", "blob:", "data:")):
            errors.append(f"the page asked another site: {requested}")

    def opened(view: str = "identify", url: str = address, prepare: Any = None, **options: Any) -> Page:
        context = browser.new_context(reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: check_local(request.url, url))
        if prepare is not None:
            prepare(page)
        page.goto(f"{url}/#/{view}")
        page.locator("main h1").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not errors
