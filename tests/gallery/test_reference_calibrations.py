"""Thresholds that come with published models, for galleries with too few images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import vlfew
from vlfew.core.errors import DataError
from vlfew.gallery.cohort import to_setting as cohort_setting
from vlfew.gallery.gallery import Gallery
from vlfew.gallery.reference_calibrations import FARS, FPIRS, reference_calibration


@pytest.fixture(scope="module")
def faces() -> vlfew.DualStream:
    return vlfew.load("dlib_face_resnet")


@pytest.fixture(params=["mean", "max"])
def gallery(request: pytest.FixtureRequest, tmp_path: Path, faces: vlfew.DualStream) -> Iterator[Gallery]:
    """Two people with two faces each."""
    with Gallery.create(tmp_path / "g.db", faces, combine=request.param) as made:
        made.enroll_embeddings(["ann", "ann", "bob", "bob"], torch.eye(128)[[0, 0, 1, 1]] + 0.1)
        yield made


@pytest.mark.parametrize("combine", ["mean", "max"])
def test_every_rate_has_one(faces: vlfew.DualStream, combine: str) -> None:
    for rates, kind in ((FARS, "far"), (FPIRS, "fpir")):
        found = [
            reference_calibration(faces.fingerprint, combine, *((r, None) if kind == "far" else (None, r)))
            for r in rates
        ]
        thresholds = [one.threshold for one in found if one is not None and one.probability is not None]
        assert [t.target for t in thresholds] == [*rates]
        assert [t.value for t in thresholds] == sorted(t.value for t in thresholds)
        assert all(
            t.images == "LFW" and t.combine == combine and t.normalization == "none" for t in thresholds
        )


def test_it_serves_where_there_are_too_few_images(gallery: Gallery) -> None:
    found = gallery.calibrate(far=0.02)["image"]
    assert (found.source, found.images, found.target) == ("reference images", "LFW", 0.01)
    assert any("set on LFW, not on your images" in note for note in found.notes)
    assert "1,000 enrolled identities and 4,069 others (LFW)" in found.describe()
    of_two = gallery.calibrate(fpir=0.05)["image"].for_gallery_size(2).value
    match = gallery.identify_embeddings(torch.eye(128)[:1])[0][0]
    assert match.threshold == of_two and match.probability is not None


def test_a_rate_that_it_cannot_support_is_refused(gallery: Gallery) -> None:
    with pytest.raises(DataError, match="rule of three"):
        gallery.calibrate(far=min(FARS) / 2)


def test_it_is_for_that_model_and_plain_cosines(gallery: Gallery, model: vlfew.DualStream) -> None:
    assert reference_calibration(model.fingerprint, "mean", 0.01, None) is None
    cohort = torch.nn.functional.normalize(torch.randn(5, 128), dim=1)
    gallery.write_settings({"cohort": cohort_setting(cohort, 3)})
    with pytest.raises(DataError, match="rule of three"):
        gallery.calibrate(far=0.01)
