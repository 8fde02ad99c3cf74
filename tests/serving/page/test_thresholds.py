"""The slider over FAR, the DET curve, and pairs that are hard to tell apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

import vlfew
from tests.serving.conftest import running
from tests.serving.page.page_server import draw, probe
from tests.serving.page.window import Open
from vlfew.models import DualStream
from vlfew.serving.app import make_app
from vlfew.serving.decoding import Decoders


def test_slider(open_page: Open, gallery: vlfew.Gallery) -> None:
    before = gallery.thresholds
    page = open_page("thresholds")
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    strict = slider.get_attribute("aria-valuetext") or ""
    page.keyboard.press("End")
    loose = slider.get_attribute("aria-valuetext") or ""
    assert rates(strict)[0] < rates(loose)[0] == 50
    assert rates(strict)[1] > rates(loose)[1]
    accepted = page.get_by_role("region", name="Accepted, but somebody else")
    expect(accepted.get_by_role("listitem")).to_have_count(6)
    loaded = "images => images.every(image => image.complete && image.naturalWidth > 0)"
    assert accepted.locator("img").evaluate_all(loaded)
    for axis in ("FAR: others accepted", "FRR: the same rejected"):
        expect(page.locator(".det text").filter(has_text=axis)).to_have_count(1)
    expect(page.get_by_role("img", name="DET curve")).to_have_accessible_name(
        re.compile(r"FAR 4\d(\.\d)?%|FAR 50%")
    )

    page.get_by_role("button", name="Set this threshold").click()
    expect(page.locator(".threshold")).to_contain_text("FAR 50%")
    assert gallery.thresholds["image"]["threshold"]["target"] == 0.5
    gallery.set_thresholds(before)


def rates(text: str) -> tuple[float, float]:
    """Threshold and FAR in percent of "FAR 50%: threshold 0.712, FRR 3%"."""
    found = re.fullmatch(r"FAR (.+)%: threshold (.+), FRR .+%", text)
    assert found, text
    return float(found[1]), float(found[2])


def test_too_few_images_for_thresholds(
    open_page: Open, model: DualStream, folder: Path, decoders: Decoders
) -> None:
    with vlfew.Gallery.create(folder / "few.db", model) as few:
        few.enroll("only one", [probe(folder)])
        with running(make_app(few, None, decoders)) as url:
            page = open_page("thresholds", url=url)
            expect(page.get_by_role("region", name="Choose one").locator(".note")).to_contain_text(
                "two images"
            )
            expect(page.get_by_role("slider")).to_have_count(0)
            page.get_by_role("button", name="Set for identification").click()
            refused = page.get_by_role("alert").last
            expect(refused).to_contain_text("rule of three")
            page.get_by_label("a score by hand").fill("0.75")
            page.get_by_role("button", name="Set by hand").click()
            expect(page.locator(".threshold .figure")).to_have_text("0.750")
            assert few.thresholds == {"image": {"value": 0.75}}
            page.get_by_role("button", name="Remove the threshold").click()
            expect(page.get_by_role("main")).to_contain_text("nobody is unknown")
            assert not few.thresholds


def test_look_alikes(open_page: Open, gallery: vlfew.Gallery, folder: Path) -> None:
    with pytest.warns(UserWarning, match="same image"):
        gallery.enroll("twin", [draw(folder / "person 2" / "0.png", 2, 0)])
    page = open_page("look-alikes")
    duplicates = page.get_by_role("region", name="Probable duplicates")
    same = duplicates.get_by_role("listitem").filter(has_text="the same image")
    expect(same).to_have_count(1)
    expect(same.get_by_role("link", name="person 2")).to_be_visible()
    assert page.get_by_role("region", name="Closest identities").get_by_role("listitem").count() > 3
    same.get_by_role("button", name="Delete this image of twin").click()
    page.get_by_role("button", name="Delete now").click()
    expect(same).to_have_count(0)
    assert "twin" not in gallery
