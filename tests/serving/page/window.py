"""What tests do on the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page

VIEWS = ("identify", "identities", "thresholds", "look-alikes")
Open = Callable[..., Page]
"""Opens a view; see the fixture `open_page`."""


def choose(page: Page, *files: Path) -> None:
    """Chooses images to be identified."""
    page.locator("main input[type=file]").set_input_files(list(files))


def answer(page: Page, name: str) -> Locator:
    """The card of an image, when it is answered."""
    card = page.locator(".answer").filter(has_text=name)
    card.locator("h2, .problem").first.wait_for()
    return card
