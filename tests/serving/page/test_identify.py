"""Images in, answers out: chosen, dropped, pasted, from the camera."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

import vlfew
from tests.serving.page.page_server import probe, stranger
from tests.serving.page.window import Open, answer, choose


def test_identify(open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    broken = folder / "broken.jpg"
    broken.write_text("this is no image")
    page = open_page()
    choose(page, probe(folder), broken)
    card = answer(page, "probe.png")
    expect(card.get_by_role("heading", level=2)).to_have_text("person 0")
    expect(card.locator(".pill").first).to_have_text("✓ accepted")
    matches = gallery.identify([probe(folder)])[0].matches
    best = matches[0]
    assert best.threshold is not None
    expect(card.locator(".figures")).to_have_text(f"Score{best.score:.3f}Threshold{best.threshold:.3f}")
    bar = card.locator(".best .bar").bounding_box()
    line = card.locator(".best .bar s").bounding_box()
    assert bar and line
    lowest = float(card.locator(".axis span").first.inner_text())
    assert lowest < matches[-1].score
    place = (line["x"] + 1 - bar["x"]) / bar["width"]
    assert abs(place - (best.threshold - lowest) / (1 - lowest)) < 0.02
    expect(card.get_by_role("list", name="Next best").get_by_role("listitem")).to_have_count(4)
    # The other one failed by itself, in its own card, and can be read by whoever cannot see it.
    expect(answer(page, "broken.jpg").get_by_role("alert")).to_contain_text("broken.jpg")


def test_unknown_is_enrolled_from_the_answer(open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    page = open_page()
    choose(page, stranger(folder))
    card = answer(page, "stranger.png")
    expect(card.get_by_role("heading", level=2)).to_have_text("Unknown")
    expect(card.locator(".pill").first).to_have_text("? not accepted")
    expect(page.get_by_role("status")).to_contain_text("stranger.png: unknown")
    card.get_by_role("button", name="Enroll").click()
    page.get_by_label("Name", exact=True).fill("no stranger")
    page.get_by_role("dialog").get_by_role("button", name="Enroll").click()
    expect(card.locator(".done")).to_have_text("Enrolled as no stranger.")
    assert "no stranger" in gallery
    choose(page, stranger(folder))
    expect(page.locator(".answer").first.get_by_role("heading", level=2)).to_have_text("no stranger")
    gallery.remove("no stranger")


def test_drop_and_paste(open_page: Open, folder: Path) -> None:
    page = open_page()
    data = probe(folder).read_bytes()
    for kind, name in (("drop", "dropped.png"), ("paste", "pasted.png")):
        page.evaluate(
            """([kind, name, bytes]) => {
                const transfer = new DataTransfer()
                transfer.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}))
                const event = kind == "drop"
                    ? new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true})
                    : new ClipboardEvent(kind, {clipboardData: transfer, bubbles: true, cancelable: true})
                document.querySelector("main").dispatchEvent(event)
            }""",
            [kind, name, list(data)],
        )
        expect(answer(page, name).get_by_role("heading", level=2)).to_have_text("person 0")


def test_camera(open_page: Open) -> None:
    page = open_page()
    page.get_by_role("button", name="Use the camera").click()
    page.get_by_role("button", name="Take the photo").click()
    expect(answer(page, "camera").get_by_role("heading", level=2)).to_be_visible()


def test_without_camera_it_says_why(open_page: Open) -> None:
    insecure = "Object.defineProperty(window, 'isSecureContext', {value: false})"
    page = open_page(prepare=lambda page: page.add_init_script(insecure))
    expect(page.locator("main .drop")).to_contain_text("The camera needs HTTPS or localhost")
    expect(page.get_by_role("button", name="Use the camera")).to_have_count(0)


def test_server_gone(open_page: Open) -> None:
    page = open_page("identities")
    page.route("**/identities**", lambda route: route.abort())
    page.get_by_label("Search by name").fill("person 3")
    expect(page.get_by_role("alert").first).to_contain_text("The server does not answer")
    page.unroute("**/identities**")
    page.locator("main").get_by_role("button", name="Try again").click()
    expect(page.locator(".identities li")).to_have_count(1)
    expect(page.get_by_role("alert")).to_have_count(0)
