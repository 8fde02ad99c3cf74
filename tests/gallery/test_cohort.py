"""Normalized scores: by their formula, in answers, thresholds and every store; and what is left of a cohort."""

from __future__ import annotations

import base64
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tests.gallery.conftest import DIM, draw
from vlfew.cli import main
from vlfew.core.errors import ConfigError, DataError
from vlfew.gallery.gallery import Gallery
from vlfew.gallery.store import StaleSettings
from vlfew.models import DualStream

TOP_K, PEOPLE = 4, 9


@pytest.fixture
def cohort(tmp_path: Path) -> list[Path]:
    return [draw(tmp_path / "cohort" / f"{n}.png", 100 + n) for n in range(7)]


@pytest.fixture(params=["mean", "max"])
def gallery(request: pytest.FixtureRequest, place: str | Path, model: DualStream) -> Iterator[Gallery]:
    with Gallery.create(place, model, combine=request.param) as made:
        made.enroll_embeddings([f"p{n // 3}" for n in range(3 * PEOPLE)], enrolled().flatten(0, 1))
        yield made


def enrolled() -> Tensor:
    """Three images of each of nine people, `[9, 3, D]`."""
    embeddings = torch.randn(PEOPLE, 3, DIM, generator=torch.Generator().manual_seed(1))
    return normalize(embeddings + 2 * embeddings.mean(1, keepdim=True), dim=2)


def as_norm(probe: list[float], images: list[list[float]], others: list[list[float]], combine: str) -> float:
    """Cumani et al. 2011, by loops."""

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    mean = [sum(column) / len(images) for column in zip(*images, strict=True)]
    length = math.sqrt(dot(mean, mean))
    templates = images if combine == "max" else [[x / length for x in mean]]

    def distance(score: float, scores: list[float]) -> float:
        top = sorted(scores)[-TOP_K:]
        center = sum(top) / TOP_K
        return (score - center) / math.sqrt(sum((s - center) ** 2 for s in top) / TOP_K)

    score = max(dot(probe, t) for t in templates)
    of_probe = distance(score, [dot(probe, other) for other in others])
    of_template = distance(score, [max(dot(other, t) for t in templates) for other in others])
    return (of_probe + of_template) / 2


def test_scores_are_normalized(
    gallery: Gallery, place: str | Path, cohort: list[Path], model: DualStream, tmp_path: Path
) -> None:
    combine = gallery.settings["combine"]
    embeddings = enrolled().double().tolist()
    image = draw(tmp_path / "probe.png", 1)
    probe, *others = normalize(model.encode_image([image, *cohort]), dim=1).double().tolist()
    plain = gallery.identify([image], k=PEOPLE)[0].matches
    gallery.set_cohort(cohort, TOP_K)
    expected = {f"p{n}": as_norm(probe, own, others, combine) for n, own in enumerate(embeddings)}
    matches = gallery.identify([image], k=PEOPLE)[0].matches
    assert [m.name for m in matches] == sorted(expected, key=lambda name: -expected[name])
    assert [m.score for m in matches] == pytest.approx(
        [expected[m.name] for m in matches], rel=1e-4, abs=1e-4
    )
    assert gallery.verify("p3", image).score == pytest.approx(expected["p3"], rel=1e-4, abs=1e-4)
    with Gallery.open(place, model) as other:
        assert other.identify([image], k=2)[0].matches == matches[:2]
    gallery.set_cohort([])
    assert gallery.identify([image], k=PEOPLE)[0].matches == plain


def test_thresholds_are_for_normalized_scores(gallery: Gallery, cohort: list[Path], tmp_path: Path) -> None:
    before = gallery.calibrate(far=0.1)["image"]
    gallery.set_cohort(cohort, TOP_K)
    assert not gallery.thresholds
    found = gallery.calibrate(far=0.1)["image"]
    assert (before.normalization, found.normalization) == ("none", "AS-norm")
    assert found.far.value <= 0.1 and found.value > 1 > before.value
    match = gallery.identify([draw(tmp_path / "a.png", 1)])[0].matches[0]
    assert match.threshold == found.value and match.accepted is (match.score >= found.value)
    review = gallery.review_scores()
    rejected = len(review.rejected_genuine(found.value, 100))
    assert rejected / (3 * PEOPLE) == pytest.approx(found.frr.value if found.frr else 0)


def test_nothing_stays_of_a_cohort(gallery: Gallery, place: str | Path, cohort: list[Path]) -> None:
    gallery.set_cohort(cohort, TOP_K)
    stored = gallery.settings["cohort"]["embeddings"]
    assert len(base64.b64decode(stored)) == 4 * DIM * len(cohort)

    def held() -> bool:
        assert isinstance(place, Path)
        files = place.parent.glob(f"{place.name}*")
        return any(stored[:40].encode() in part.read_bytes() for part in files)

    assert isinstance(place, str) or held()
    gallery.set_cohort([])
    assert isinstance(place, str) or not held()
    assert gallery.cohort is None and gallery.check() == []


def test_what_is_no_cohort(gallery: Gallery, cohort: list[Path]) -> None:
    with pytest.raises(DataError, match="a cohort of 1 has no standard deviation"):
        gallery.set_cohort(cohort[:1], 2)
    with pytest.raises(ConfigError, match="top_k is 8; it must be from 2 to 7"):
        gallery.set_cohort(cohort, 8)
    assert gallery.cohort is None


def test_another_model_drops_it(gallery: Gallery, cohort: list[Path], model: DualStream) -> None:
    gallery.remove(*(f"p{n}" for n in range(PEOPLE)))
    gallery.set_cohort(cohort, TOP_K)
    gallery.re_embed(model)
    assert gallery.cohort is None


def test_the_command(
    run_folder: Path, cohort: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended, warnings.catch_warnings():
            main(["gallery", *arguments])
        out = capsys.readouterr()
        return ended.value.code, out.out + out.err

    db = str(tmp_path / "c.db")
    assert run("create", db, "--model", str(run_folder))[0] == 0
    code, out = run("normalize", db, str(cohort[0].parent))
    assert code == 0 and "normalized against 7 images" in out
    assert "'size': 7" in run("show", db)[1]
    assert "scores are cosines" in run("normalize", db, "--off")[1]
    for wrong in ((), (str(cohort[0]), "--off")):
        code, out = run("normalize", db, *wrong)
        assert code == 2 and "give one of COHORT" in out


def test_who_is_in_the_cohort_is_nobody_else(gallery: Gallery, cohort: list[Path], tmp_path: Path) -> None:
    gallery.set_cohort(cohort, TOP_K)
    with pytest.raises(DataError, match=r"3\.png is an impostor and in the cohort"):
        gallery.calibrate(far=0.1, impostors=[draw(tmp_path / "other.png", 1), cohort[3]])
    gallery.enroll("known", [draw(tmp_path / "known.png", 55)])
    with pytest.raises(DataError, match=r"known\.png is enrolled as 'known'; leave that identity out"):
        gallery.set_cohort([*cohort, tmp_path / "known.png"], TOP_K)


def test_thresholds_of_other_scores_are_neither_stored_nor_used(
    gallery: Gallery, place: str | Path, cohort: list[Path], model: DualStream, tmp_path: Path
) -> None:
    """Another process sets a cohort while thresholds are measured."""
    plain = gallery.calibrate(far=0.1)["image"]
    stored = gallery.thresholds
    with Gallery.open(place, model) as other:

        def meanwhile() -> None:
            other.set_cohort(cohort, TOP_K)

        with pytest.raises(StaleSettings, match="its cohort was changed by another process meanwhile"):
            gallery.calibrate(far=1e-6, validation=lambda: meanwhile() or validation())
        other.write_settings({"thresholds": stored})
        match = other.identify([draw(tmp_path / "a.png", 1)])[0].matches[0]
        assert match.threshold is None and match.accepted is None and plain.normalization == "none"


def validation() -> tuple[Tensor, Tensor]:
    """Enough images for a FAR of one in a million."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(3500, DIM, generator=generator), torch.arange(1750).repeat_interleave(2)


def test_who_is_removed_between_search_and_statistics_is_left_out(
    gallery: Gallery, cohort: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.set_cohort(cohort, TOP_K)
    image = draw(tmp_path / "probe.png", 1)
    best, second, *_ = gallery.identify([image], k=PEOPLE)[0].matches
    templates = gallery._index.templates

    def without_the_best(ids: list[int]) -> tuple[Tensor, Tensor]:
        vectors, owner = templates(ids)
        kept = owner != ids.index(best.id)
        return vectors[kept], owner[kept]

    monkeypatch.setattr(gallery._index, "templates", without_the_best)
    matches = gallery.identify([image], k=PEOPLE)[0].matches
    assert matches[0] == second and len(matches) == PEOPLE - 1
