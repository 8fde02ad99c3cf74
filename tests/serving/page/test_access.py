"""Who may use the page, and how: keys, a phone, the keyboard alone, a screen reader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

import vlfew
from tests.serving.conftest import running
from tests.serving.page.page_server import enroll_people, probe, stranger
from tests.serving.page.window import VIEWS, Open, answer, choose
from vlfew.models import DualStream
from vlfew.serving.app import make_app
from vlfew.serving.decoding import Decoders
from vlfew.serving.keys import add_key
from vlfew.serving.options import ServeOptions


def test_sign_in_and_scopes(open_page: Open, model: DualStream, folder: Path, decoders: Decoders) -> None:
    with vlfew.Gallery.create(folder / "locked.db", model) as locked:
        enroll_people(locked, folder, 3)
        _, reader = add_key(locked, "reader", ["read"])
        _, writer = add_key(locked, "writer", ["read", "write"])
        with running(make_app(locked, ServeOptions(key_required=True), decoders)) as url:
            page = open_page("identities", url=url)
            key = page.get_by_label("Key")
            expect(key).to_be_focused()
            key.fill("wrong")
            key.press("Enter")
            expect(page.get_by_role("alert")).to_contain_text("key")
            key.fill(reader)
            key.press("Enter")
            expect(page.get_by_role("heading", level=1)).to_have_text("Identities")
            expect(page.locator(".identities img").first).to_be_visible()
            assert page.evaluate("document.cookie") == ""  # scripts do not see it
            for view in ("identify", "identities", "identities/1", "thresholds", "look-alikes"):
                page.goto(f"{url}/#/{view}")
                expect(page.locator("main")).not_to_have_text("")
                if view == "identify":
                    choose(page, stranger(folder))
                    answer(page, "stranger.png")
                for control in ("Enroll", "Rename", "Delete", "Add", "Set"):
                    expect(page.locator("main").get_by_role("button", name=control)).to_have_count(0)
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
            key.fill(writer)
            key.press("Enter")
            page.goto(f"{url}/#/identities/1")
            expect(page.get_by_role("button", name="Rename")).to_be_visible()


def test_phone_and_long_names(open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    def with_long_names(page: Page) -> None:
        def change(route: Any) -> None:
            response = route.fetch()
            body = response.json()
            for one, name in zip(body.get("identities", []), ("x" * 10_000, "שלום עולם " * 40), strict=False):
                one["name"] = name
            if "items" in body:
                body["name"] = "W" * 10_000
            route.fulfill(response=response, json=body)

        page.route(re.compile(r"/identities(\?|/\d+$)"), change)

    page = open_page(prepare=with_long_names, viewport={"width": 360, "height": 740}, has_touch=True)
    choose(page, stranger(folder))
    answer(page, "stranger.png")
    for view in (*VIEWS, f"identities/{gallery.list()[0].id}"):
        page.goto(f"{page.url.partition('#')[0]}#/{view}")
        page.wait_for_load_state("networkidle")
        page.locator("main h1").wait_for()
        width, visible = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= visible == 360, view
    page.get_by_role("button", name="Add images").click()
    dialog = page.get_by_role("dialog").bounding_box()
    assert dialog and dialog["x"] >= 0 and dialog["x"] + dialog["width"] <= 360
    assert page.get_by_role("dialog").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")


def test_keyboard_alone(open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    page = open_page()

    def tab_to(name: str, role: str = "button") -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.locator(":focus").count() and name == page.evaluate(
                "document.activeElement.getAttribute('aria-label') ?? document.activeElement.labels?.[0]?.textContent "
                "?? document.activeElement.textContent"
            ):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"the focus is not seen on {name}"
                return
        raise AssertionError(f"{name} is not reached by the Tab key")

    tab_to("Skip to content", "link")
    page.keyboard.press("Enter")
    tab_to("Choose images")
    # Listening is in place before the key is pressed.
    page.on("filechooser", lambda chooser: chooser.set_files(stranger(folder)))
    expect(page.locator(":focus")).to_have_text("Choose images")
    page.keyboard.press("Enter")
    answer(page, "stranger.png")
    tab_to("Enroll")
    page.keyboard.press("Enter")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    expect(page.locator(".done")).to_have_text("Enrolled as by keyboard.")
    expect(page.locator(":focus")).to_have_text("Enroll")  # back where the dialog was opened
    tab_to("by keyboard", "link")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("by keyboard")
    tab_to("Delete")
    page.keyboard.press("Enter")
    tab_to("Delete now")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Identities")
    assert "by keyboard" not in gallery


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(scheme: str, open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    page = open_page(color_scheme=scheme)

    def check(where: str) -> None:
        # In the dark only the colors are others.
        options = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
        found = Axe().run(page, options=options).response
        assert len(found["passes"]) > (0 if scheme == "dark" else 10)
        lines = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]
        assert not lines, f"{where}: {lines}"

    choose(page, stranger(folder), probe(folder))
    answer(page, "stranger.png"), answer(page, "probe.png")
    for view in (*VIEWS, f"identities/{gallery.list()[0].id}"):
        page.goto(f"{page.url.partition('#')[0]}#/{view}")
        page.wait_for_load_state("networkidle")
        check(view)
    page.get_by_role("button", name="Rename").click()
    check("rename")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Delete", exact=True).click()
    check("undo")
    page.get_by_role("button", name="Undo").click()
    page.goto(f"{page.url.partition('#')[0]}#/identities")
    page.get_by_role("button", name="Enroll").click()
    page.get_by_label("Name", exact=True).fill("person 1")
    expect(page.get_by_role("group")).to_contain_text("person 1 is enrolled")
    check("enroll")
