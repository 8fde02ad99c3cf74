"""Enroll, search, rename, and delete with undo."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

import vlfew
from tests.serving.page.page_server import draw, enrolled, probe
from tests.serving.page.window import Open, answer, choose


def test_enroll_then_add_or_replace(open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    page = open_page("identities")
    files = [draw(folder / "new" / f"{shot}.png", 50, shot) for shot in range(3)]
    page.get_by_role("button", name="Enroll").click()
    dialog = page.get_by_role("dialog", name="Enroll")
    dialog.get_by_role("button", name="Enroll").click()
    expect(dialog.get_by_role("alert")).to_have_text("Give a name.")
    dialog.get_by_label("Name").fill("Zoë")
    dialog.locator("input[type=file]").set_input_files(files[:2])
    dialog.get_by_role("button", name="Enroll").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Zoë")
    expect(page.locator(".items li")).to_have_count(2)

    def enroll_again(choice: str, press: str) -> None:
        page.get_by_role("link", name="Identities").first.click()
        page.get_by_role("button", name="Enroll").click()
        dialog.get_by_label("Name").fill("Zoë")
        dialog.locator("input[type=file]").set_input_files(files[2:])
        expect(dialog.get_by_role("group")).to_contain_text("Zoë is enrolled with")
        dialog.get_by_label(choice).check()
        dialog.get_by_role("button", name=press).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Zoë")

    enroll_again("Add to what is there", "Add")
    expect(page.locator(".items li")).to_have_count(3)
    enroll_again("Replace what is there", "Replace")
    expect(page.locator(".items li")).to_have_count(1)
    gallery.remove("Zoë")


def test_replace_is_never_sent_for_another_name(open_page: Open, folder: Path) -> None:
    """Whether it is looked up already or cannot be: what was chosen for one identity is not for another one."""

    def refuse(page: Page) -> None:
        page.route("**/identities?name=person+2*", lambda route: route.abort())
        page.route("**/identities?name=person%202*", lambda route: route.abort())

    page = open_page("identities", prepare=refuse)
    page.get_by_role("button", name="Enroll").click()
    dialog = page.get_by_role("dialog", name="Enroll")
    dialog.locator("input[type=file]").set_input_files(probe(folder))
    dialog.get_by_label("Name").fill("person 1")
    dialog.get_by_label("Replace what is there").check()
    dialog.get_by_label("Name").fill("person 2")
    expect(dialog.get_by_label("Replace what is there")).to_have_count(0)
    bodies = []

    def answer_busy(route: Any) -> None:
        if route.request.method != "POST":
            route.fallback()
            return
        bodies.append(route.request.post_data_buffer or b"")
        route.fulfill(status=422, json={"detail": "not now"})

    page.route("**/identities", answer_busy)
    dialog.get_by_role("button", name="Enroll").click()
    expect(dialog.get_by_role("alert")).to_contain_text("not now")
    (body,) = bodies
    assert re.search(rb'name="replace"\r\n\r\n(\w+)', body)[1] == b"false"  # type: ignore[index]


def test_enroll_says_which_image_is_bad(open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    broken = folder / "broken.png"
    broken.write_bytes(probe(folder).read_bytes()[:60])
    page = open_page("identities")
    page.get_by_role("button", name="Enroll").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("half")
    dialog.locator("input[type=file]").set_input_files([probe(folder), broken])
    dialog.get_by_role("button", name="Enroll").click()
    expect(dialog.get_by_role("alert")).to_contain_text("broken.png")
    expect(dialog.locator(".previews li").nth(1).locator(".wrong")).to_contain_text("broken.png")
    assert "half" not in gallery
    dialog.get_by_role("button", name="Remove broken.png").click()
    dialog.get_by_role("button", name="Enroll").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("half")
    gallery.remove("half")


def test_texts_where_the_model_encodes_them(open_page: Open) -> None:
    def with_texts(page: Page) -> None:
        def change(route: Any) -> None:
            response = route.fetch()
            route.fulfill(response=response, json={**response.json(), "has_text": True})

        page.route("**/settings", change)

    page = open_page("identities", prepare=with_texts)
    page.get_by_role("button", name="Enroll").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("described")
    dialog.get_by_label("Texts").fill("a red square\n\nin the middle")
    with page.expect_request(lambda request: request.method == "POST") as sent:
        dialog.get_by_role("button", name="Enroll").click()
    body = sent.value.post_data_buffer or b""
    assert body.count(b'name="texts"') == 2
    # This model encodes none after all: what the server says is shown where it was asked.
    expect(dialog.get_by_role("alert")).to_contain_text("text")


def test_search_and_pages(open_page: Open) -> None:
    def in_threes(page: Page) -> None:
        limited = re.compile(r"/identities\?.*limit=")
        page.route(
            limited, lambda route: route.continue_(url=re.sub(r"limit=\d+", "limit=3", route.request.url))
        )

    page = open_page("identities", prepare=in_threes)
    cards = page.locator(".identities li")
    expect(cards).to_have_count(3)
    page.get_by_role("button", name="Show more").click()
    expect(cards).to_have_count(6)
    expect(cards.nth(3).get_by_role("link")).to_be_focused()
    page.get_by_label("Search by name").fill("SON 7")
    expect(cards).to_have_count(1)
    expect(page.locator("main")).to_contain_text("1 identity found")
    cards.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("person 7")
    expect(page.get_by_role("heading", level=1)).to_be_focused()


def test_rename(open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    page = open_page(f"identities/{enrolled(gallery, folder, 'old', 60)}")
    page.get_by_role("button", name="Rename").click()
    field = page.get_by_label("New name")
    field.fill("person 1")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("person 1")
    field.fill("new")
    field.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("new")
    assert "old" not in gallery
    gallery.remove("new")


def test_delete_waits_and_can_be_undone(open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    view = f"identities/{enrolled(gallery, folder, 'undone', 61)}"
    page = open_page(view, prepare=lambda page: page.clock.install())
    page.get_by_role("button", name="Delete", exact=True).click()
    undo = page.get_by_role("button", name="Undo")
    expect(undo).to_be_focused()
    page.clock.run_for(8_000)
    assert "undone" in gallery
    undo.press("Enter")
    page.clock.run_for(20_000)
    expect(page.get_by_role("button", name="Delete", exact=True)).to_be_visible()
    assert "undone" in gallery

    page.get_by_role("button", name="Delete", exact=True).click()
    page.clock.run_for(11_000)
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "Identities"
    )  # there is no such identity to show
    assert "undone" not in gallery


def test_delete_of_an_image(open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    gallery.enroll("two", [draw(folder / "two" / f"{shot}.png", 62, shot) for shot in range(2)])
    number = next(row.id for row in gallery.list() if row.name == "two")
    page = open_page(f"identities/{number}")
    page.get_by_role("button", name="Delete 0.png").click()
    expect(page.locator(".items li")).to_have_count(1)
    page.get_by_role("button", name="Delete now").click()
    expect(page.locator(".undo")).to_have_count(0)
    assert len(gallery.show("two")) == 1
    gallery.remove("two")


def test_leaving_the_page_sends_what_waits(open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    page = open_page(f"identities/{enrolled(gallery, folder, 'left', 63)}")
    page.get_by_role("button", name="Delete", exact=True).click()
    page.goto("about:blank")
    deadline = time.monotonic() + 60
    while "left" in gallery:
        assert time.monotonic() < deadline, "it was not deleted"
        page.wait_for_timeout(20)


def test_html_in_a_name_stays_text(open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    name = "<img src=x onerror='window.broken=1'><b>bold</b>"
    number = enrolled(gallery, folder, name, 64)
    page = open_page("identities")
    expect(page.locator(f"#identity-{number}")).to_contain_text(name)
    page.goto(page.url.replace("identities", "identify"))
    choose(page, folder / "64.png")
    expect(answer(page, "64.png").get_by_role("heading", level=2)).to_have_text(name)
    page.get_by_role("link", name=name).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".undo")).to_contain_text(name)
    page.get_by_role("button", name="Delete now").click()
    expect(page.locator(".undo")).to_have_count(0)
    assert not page.evaluate("'broken' in window")
