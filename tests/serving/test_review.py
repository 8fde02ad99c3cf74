"""Thresholds, error rates, look-alikes and duplicates over HTTP, and the gallery as a whole."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import torch

from tests.gallery.conftest import DIM
from tests.serving.conftest import Serve, draw, files, problem
from vlfew.gallery.gallery import Gallery
from vlfew.models import DualStream


@pytest.fixture
def many(tmp_path: Path, model: DualStream) -> Iterator[Gallery]:
    """Twelve identities of three embeddings each."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(12, DIM, generator=generator)
    rows = centers.repeat_interleave(3, 0) + 0.3 * torch.randn(36, DIM, generator=generator)
    with Gallery.create(tmp_path / "many.db", model) as made:
        made.enroll_embeddings(
            [f"p{n // 3}" for n in range(36)], rows + 0.3 * torch.randn(36, DIM, generator=generator)
        )
        yield made


def test_calibrate_and_set_thresholds(many: Gallery, serve: Serve, tmp_path: Path) -> None:
    http = serve(many)
    assert http.get("/thresholds").json() == {}
    answer = http.post("/calibrate", json={"far": 0.02}).json()
    threshold = answer["thresholds"]["image"]
    assert answer["warnings"] == [] and threshold["far"]["value"] <= 0.02 and "FAR 2%" in threshold["summary"]
    assert (
        http.get("/thresholds").json() == answer["thresholds"] == http.get("/settings").json()["thresholds"]
    )
    strangers = [draw(tmp_path / f"{n}.png", n) for n in range(3)]
    sent = {"data": {"far": "0.02"}, "files": files("impostors", *strangers)}
    assert http.post("/calibrate", **sent).json()["thresholds"]["image"]["impostor_identities"] == 15
    by_fpir = http.post("/calibrate", json={"fpir": 0.2}).json()["thresholds"]["image"]
    assert by_fpir["gallery_size"] == 12 and by_fpir["current"] == pytest.approx(by_fpir["value"])

    assert "lowest rate" in problem(http.post("/calibrate", json={"far": 1e-6}), 422)
    for wrong in ({}, {"far": 0.1, "fpir": 0.1}, {"far": 7}, {"rate": 1}, {"far": "x"}, []):
        problem(http.post("/calibrate", json=wrong), 422)
    assert "impostors" in problem(http.post("/calibrate", data={"far": "0.02", "impostors": "x"}), 422)
    by_hand = http.put("/thresholds", json={"image": {"value": 0.25}}).json()
    assert by_hand == {"image": {"value": 0.25, "current": 0.25}}
    assert set(http.put("/thresholds", json={"both": {"value": 0}}).json()) == {"image", "both"}
    assert set(http.put("/thresholds", json={"image": None}).json()) == {"both"}
    for wrong in ({"images": {"value": 1}}, {"image": 3}, {"image": {"value": "x"}}, {"image": {}}):
        problem(http.put("/thresholds", json=wrong), 422)
    nan = http.put(
        "/thresholds", content='{"image": {"value": NaN}}', headers={"Content-Type": "application/json"}
    )
    problem(nan, 422)


def test_error_rates_and_pairs(many: Gallery, serve: Serve) -> None:
    http = serve(many)
    many.set_thresholds({"image": {"value": 0.5}})
    rates = http.get("/error-rates").json()
    points = rates.pop("points")
    assert rates == {
        "support": "image",
        "threshold": 0.5,
        "identities": 12,
        "genuine": 36,
        "impostor": 36 * 11,
    }
    assert 2 < len(points) <= 400 and set(points[0]) == {"threshold", "far", "frr"}
    pairs = http.get("/pairs?threshold=0.5&limit=4").json()
    assert set(pairs) == {"accepted_impostors", "rejected_genuine", "closest_impostors", "hardest_genuine"}
    for name, part in pairs.items():
        assert len(part) <= 4
        for pair in part:
            assert (pair["score"] >= 0.5) is (name in ("accepted_impostors", "hardest_genuine"))
            assert (pair["probe"]["identity"] == pair["identity"]["id"]) is ("genuine" in name)
            assert pair["identity"]["name"] == many.find(pair["identity"]["id"]).name
    problem(http.get("/pairs?threshold=nan"), 422)
    problem(http.get("/error-rates?support=video"), 422)
    assert "images and texts" in problem(http.get("/error-rates?support=both"), 409)
    many.remove("p3")  # and is not in the next answer
    assert http.get("/error-rates").json()["identities"] == 11


def test_look_alikes_and_duplicates(
    gallery: Gallery, http: httpx2.Client, people: dict[str, list[Path]]
) -> None:
    with pytest.warns(UserWarning, match="the same image"):
        gallery.enroll("ann again", [people["ann"][0]])
    first = http.get("/look-alikes").json()["pairs"][0]
    assert {first["a"]["name"], first["b"]["name"]} == {"ann", "ann again"} and first["a"]["thumbnail"]
    found = http.get("/duplicates?score=-1").json()
    (same,) = found["same_image"]
    assert [one["name"] for one in same["identities"]] == ["ann", "ann again"] and len(same["digest"]) == 64
    named = [{pair["a"]["name"], pair["b"]["name"]} for pair in found["near"]]
    assert {"ann", "bob"} in named and {"ann", "ann again"} not in named  # which is said already
    problem(http.get("/look-alikes?limit=0"), 422)
    problem(http.get("/duplicates?score=2"), 422)


@pytest.mark.parametrize("asked", ["bytes=x", "bytes=999999999-", "bytes=0-9"])
def test_an_export_leaves_no_file_behind(
    http: httpx2.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    response = http.get("/export", headers={"Range": asked})
    assert response.status_code == 200 and len(response.content) == int(response.headers["content-length"])
    assert zipfile.ZipFile(io.BytesIO(response.content)).testzip() is None
    assert [*scratch.iterdir()] == []


def test_check_export_and_import(
    gallery: Gallery, http: httpx2.Client, tmp_path: Path, model: DualStream, serve: Serve
) -> None:
    assert http.post("/check").json() == {"problems": []}
    response = http.get("/export")
    assert response.headers["content-type"] == "application/zip"
    assert sorted(zipfile.ZipFile(io.BytesIO(response.content)).namelist()) == [
        "gallery.json",
        "gallery.safetensors",
    ]
    with Gallery.create(tmp_path / "copy.db", model) as copy:
        other = serve(copy)
        sent = {"files": {"file": ("gallery.zip", response.content)}}
        assert other.post("/import", **sent).json() == {"items": 6, "identities": 3}
        whole = other.post("/import", content=response.content, headers={"Content-Type": "application/zip"})
        assert whole.json() == {"items": 0, "identities": 3}
        assert [row.name for row in copy.list()] == ["ann", "bob", "cy"]
        half = response.content[: len(response.content) // 2]
        problem(other.post("/import", files={"file": ("x.zip", half)}), 422)
        problem(other.post("/import", files={"file": ("x.zip", b"")}), 422)
        empty = io.BytesIO()
        zipfile.ZipFile(empty, "w").close()
        assert "no gallery.json" in problem(
            other.post("/import", files={"file": ("x", empty.getvalue())}), 422
        )
        problem(other.post("/import", json={}), 415)


def test_a_zip_that_becomes_too_large(gallery: Gallery, serve: Serve) -> None:
    http = serve(gallery, import_bytes=100_000)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("gallery.json", b"0" * 10**7)
        packed.writestr("gallery.safetensors", b"")
    assert len(bomb.getvalue()) < 100_000
    problem(http.post("/import", files={"file": ("x.zip", bomb.getvalue())}), 413)
    problem(http.post("/import", files={"file": ("x.zip", b"0" * 200_000)}), 413)


def test_only_models_that_were_named_are_loaded(gallery: Gallery, serve: Serve, other_run: Path) -> None:
    http = serve(gallery, re_embed_models=(str(other_run),))
    for name in ("/etc/passwd", "../run", "open_clip:ViT-B-32/openai", str(other_run) + "/"):
        assert "--re-embed-model" in problem(http.post("/re-embed", json={"model": name}), 403)
    before = gallery.settings["fingerprint"]
    answer = http.post("/re-embed", json={"model": str(other_run)}).json()
    assert answer["items"] == 6 and answer["fingerprint"] != before
    image = gallery.show("ann")[0].source
    (found,) = http.post("/identify?k=1", files=files("images", Path(image))).json()["answers"]
    assert found["name"] == "ann"  # decoded and encoded by the new model, of another size of images
