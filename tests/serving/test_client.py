"""`GalleryClient` does what `Gallery` does."""

from __future__ import annotations

from pathlib import Path

import httpx2
import numpy as np
import pytest
import torch
from PIL import Image

import vlfew
from tests.serving.conftest import Serve, draw
from vlfew.core.errors import DataError, VlfewError
from vlfew.gallery.gallery import Gallery
from vlfew.gallery.store import Conflict, EmptyGallery, NotFound, StoreUnavailable
from vlfew.serving.error_codes import KINDS
from vlfew.serving.keys import add_key

People = dict[str, list[Path]]


def test_it_answers_as_the_gallery(http: httpx2.Client, gallery: Gallery, people: People) -> None:
    with vlfew.GalleryClient(str(http.base_url)) as client:
        assert len(client) == 3 and "ann" in client and "an" not in client
        images = [people["ann"][0], Image.open(people["bob"][0]), np.asarray(Image.open(people["cy"][0]))]
        for ours, theirs in zip(client.identify(images, k=2), gallery.identify(images, k=2), strict=True):
            assert ours.name == theirs.name and [m.id for m in ours.matches] == [m.id for m in theirs.matches]
            assert [m.score for m in ours.matches] == pytest.approx(
                [m.score for m in theirs.matches], abs=1e-4
            )
        assert client.verify("ann", people["ann"][0]).accepted is None
        assert client.verify(gallery.find("ann").id, people["ann"][0], threshold=0.5).accepted is True
        assert client.list() == gallery.list()
        own = draw(people["ann"][0].with_name("own.png"), 50)
        enrolled = client.enroll("dora", [own], ["a text"], idempotency_key="k")
        again = client.enroll("dora", [own], ["a text"], idempotency_key="k")
        assert enrolled.added == 2 and again.replayed and again.item_ids == enrolled.item_ids
        assert [item["kind"] for item in client.show("dora")] == ["image", "text"]
        client.rename("dora", "dorothy")
        client.remove_item(enrolled.item_ids[0])
        client.remove("dorothy", gallery.find("cy").id)
        assert [row.name for row in gallery.list()] == ["ann", "bob"]
        assert (
            client.set_thresholds({"image": 0})["image"]["value"] == 0 == client.thresholds["image"]["value"]
        )
        assert client.check() == [] and client.settings["identities"] == 2
        assert {client.look_alikes(1)[0][side]["name"] for side in "ab"} == {"ann", "bob"}


def test_warnings_are_passed_on(http: httpx2.Client, people: People) -> None:
    again = pytest.warns(UserWarning, match="same image as one of 'ann'")
    with vlfew.GalleryClient(str(http.base_url)) as client, again:
        client.enroll("other", [people["ann"][0]])


def test_errors_are_those_of_the_gallery(http: httpx2.Client, people: People, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"x")
    with vlfew.GalleryClient(str(http.base_url)) as client:
        with pytest.raises(NotFound, match="nobody"):
            client.rename("nobody", "x")
        with pytest.raises(NotFound):
            client.remove(12345)
        with pytest.raises(Conflict, match="already"):
            client.rename("ann", "bob")
        with pytest.raises(DataError, match=r"bad.png: cannot be read"):
            client.identify([bad])
        with pytest.raises(DataError, match="No such file"):
            client.identify([tmp_path / "none.png"])
        with pytest.raises(DataError, match="lowest rate"):
            client.calibrate(far=1e-9)
    with (
        vlfew.GalleryClient("http://127.0.0.1:9", timeout=5) as nowhere,
        pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9"),
    ):
        nowhere.list()


def test_every_kind_of_error_is_the_gallery_s(
    http: httpx2.Client, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vlfew.GalleryClient(str(http.base_url)) as client:
        for kind in KINDS.values():

            def fail(*_: object, kind: type[VlfewError] = kind, **__: object) -> None:
                raise kind("what is wrong")

            monkeypatch.setattr(gallery, "check", fail)
            with pytest.raises(VlfewError, match="what is wrong") as raised:
                client.check()
            assert type(raised.value) is kind


def test_an_empty_gallery(gallery: Gallery, http: httpx2.Client, people: People) -> None:
    gallery.remove("ann", "bob", "cy")
    with vlfew.GalleryClient(str(http.base_url)) as client, pytest.raises(EmptyGallery):
        client.identify([people["ann"][0]])


def test_a_name_is_looked_up_by_one_request(http: httpx2.Client, gallery: Gallery) -> None:
    """However many identities have it in theirs."""
    gallery.enroll_embeddings([f"ann {n}" for n in range(30)], torch.ones(30, gallery.settings["dim"]))
    before = http.get("/metrics").text
    with vlfew.GalleryClient(str(http.base_url)) as client:
        assert "ann" in client and "ann 7" in client and "nn" not in client
        assert client.show("ann 29")[0]["kind"] == "image"
    line = 'vlfew_requests_total{method="GET",route="/identities",status="200"}'
    assert line not in before and f"{line} 4.0" in http.get("/metrics").text


def test_a_key(gallery: Gallery, serve: Serve) -> None:
    _, token = add_key(gallery, "reader", ["read"])
    url = str(serve(gallery, key_required=True).base_url)
    with vlfew.GalleryClient(url, token) as client:
        assert [row.name for row in client.list()] == ["ann", "bob", "cy"]
        with pytest.raises(DataError, match="no scope 'write'"):
            client.enroll("x", texts=["y"])
    with vlfew.GalleryClient(url) as stranger, pytest.raises(DataError, match="a key is needed"):
        stranger.list()
