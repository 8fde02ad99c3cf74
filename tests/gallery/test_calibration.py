"""Thresholds of a gallery: its own trials against loops over images, and what identify makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tests.gallery.conftest import DIM, draw
from vlfew.cli import main
from vlfew.core.errors import ConfigError, DataError
from vlfew.evaluation.enrolled_items import EnrolledItems
from vlfew.gallery.gallery import Gallery
from vlfew.models import DualStream

IDENTITY = [3, 3, 3, 5, 5, 8, 3, 5, 9]
IS_TEXT = [False] * 6 + [True] * 3
"""Identity 3 has three images and a text, 5 two and a text, 8 one image, 9 a text alone."""


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def score(probe: np.ndarray, images: list[np.ndarray], texts: list[np.ndarray], combine: str) -> float:
    """Of a probe and an identity, with a text weight of 0.3."""
    if not images:
        return float(probe @ unit(sum(texts)))
    own = [unit(sum(images))] if combine == "mean" else images
    if texts:
        own = [unit(0.7 * image + 0.3 * unit(sum(texts))) for image in own]
    return max(float(probe @ template) for template in own)


@pytest.mark.parametrize("combine", ["mean", "max"])
@pytest.mark.parametrize("support", ["image", "text", "both"])
def test_trials_are_the_scores_of_the_gallery(support: str, combine: str) -> None:
    generator = torch.Generator().manual_seed(0)
    embedding = normalize(torch.randn(len(IDENTITY), 6, generator=generator, dtype=torch.float64), dim=1)
    strangers = normalize(torch.randn(3, 6, generator=generator, dtype=torch.float64), dim=1)
    items = EnrolledItems(embedding, torch.tensor(IDENTITY), torch.tensor(IS_TEXT), combine, 0.3)
    found = items.trials(support, strangers, torch.tensor([10, 10, 11]))
    ids = {"image": [3, 5, 8], "text": [3, 5, 9], "both": [3, 5]}[support]
    rows = embedding.numpy()
    probes = [(IDENTITY[n], rows[n], n) for n in range(6)]
    probes += [(10 + who, row, -1) for who, row in zip([0, 0, 1], strangers.numpy(), strict=True)]
    expected = []
    for number, (who, probe, item) in enumerate(probes):
        for identity in ids:
            own = [n for n, of in enumerate(IDENTITY) if of == identity and n != item]
            images = [rows[n] for n in own if not IS_TEXT[n]] if support != "text" else []
            texts = [rows[n] for n in own if IS_TEXT[n]] if support != "image" else []
            if images or support == "text":  # otherwise nothing is left without the probe
                expected.append((number, identity, who, score(probe, images, texts, combine)))
    given = sorted(zip(found.probe, found.template_identity, found.probe_identity, found.scores, strict=True))
    assert [row[:3] for row in given] == [row[:3] for row in sorted(expected)]
    assert [row[3] for row in given] == pytest.approx([row[3] for row in sorted(expected)])


@pytest.fixture
def gallery(tmp_path: Path, model: DualStream) -> Gallery:
    """Twelve identities of three embeddings each, near a direction of their own."""
    with Gallery.create(tmp_path / "g.db", model) as made:
        labels = torch.arange(12).repeat_interleave(3)
        made.enroll_embeddings([f"p{n}" for n in labels.tolist()], scattered(labels))
        yield made


def scattered(labels: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(int(labels.max()) + 1, DIM, generator=generator)
    return centers[labels] + 0.3 * torch.randn(len(labels), DIM, generator=generator)


def test_answers_follow_the_calibration(gallery: Gallery, tmp_path: Path, model: DualStream) -> None:
    image = draw(tmp_path / "a.png", 1)
    assert gallery.identify([image])[0].matches[0].probability is None
    found = gallery.calibrate(far=0.02)
    assert list(found) == ["image"] and found["image"].source == "own images"
    assert found["image"].far.value <= 0.02
    with Gallery.open(tmp_path / "g.db", model) as other:
        (match, *_) = other.identify([image])[0].matches
        assert match.threshold == found["image"].value
        assert match.accepted is (match.score >= match.threshold)
        claimed = other.verify(match.name, image)
        assert 0 < match.probability < claimed.probability < 1  # one of twelve, or a stranger, is less likely
    assert gallery.identify([image], threshold=-1)[0].matches[0].accepted is True


def test_the_threshold_for_an_fpir_grows_with_the_gallery(gallery: Gallery, tmp_path: Path) -> None:
    found = gallery.calibrate(fpir=0.2)["image"]
    image = draw(tmp_path / "a.png", 1)
    before = gallery.identify([image])[0].matches[0].threshold
    assert found.gallery_size == 12 and before == found.for_gallery_size(12).value
    gallery.enroll_embeddings([f"q{n}" for n in range(30)], scattered(torch.arange(30), 1))
    after = gallery.identify([image])[0].matches[0].threshold
    assert after == found.for_gallery_size(42).value > before


def test_the_validation_images_of_the_model_serve_where_there_are_too_few(
    gallery: Gallery, people: dict[str, list[Path]], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="the lowest rate that they support"):
        gallery.calibrate(far=1e-4)
    assert not gallery.thresholds
    labels = torch.arange(40).repeat_interleave(5)
    found = gallery.calibrate(far=1e-3, validation=lambda: (scattered(labels, 2), labels))["image"]
    assert found.source == "validation split of the model"
    assert any("not on yours" in note for note in found.notes)
    strangers = [path for paths in people.values() for path in paths]
    with_strangers = gallery.calibrate(
        far=0.02, impostors=strangers, impostor_names=["a", "a", "b", "b", "c", "c"]
    )
    assert with_strangers["image"].impostor_identities == 12 + 3


def test_each_kind_of_support_has_its_own(gallery: Gallery) -> None:
    gallery.enroll_embeddings([f"p{n}" for n in range(8)], scattered(torch.arange(8), 3), kind="text")
    gallery.enroll_embeddings(["words"], torch.ones(1, DIM), kind="text")
    found = gallery.calibrate(far=0.05)
    assert set(found) == {"image", "text", "both"} and found["both"].identities == 8
    assert found["text"].identities == 9 and found["text"].genuine_trials == 24


def test_what_cannot_be(gallery: Gallery, tmp_path: Path, model: DualStream) -> None:
    with pytest.raises(ConfigError, match="one rate"):
        gallery.calibrate()
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        gallery.calibrate(far=2)
    with (
        Gallery.create(tmp_path / "empty.db", model) as empty,
        pytest.raises(DataError, match="nobody is enrolled"),
    ):
        empty.calibrate(far=0.1)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["gallery", *arguments])
    return ended.value.code


def test_the_command(
    people: dict[str, list[Path]], run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db, folder = str(tmp_path / "c.db"), tmp_path / "people"
    strangers = tmp_path / "strangers"
    for n in range(6):
        draw(strangers / f"s{n // 2}" / f"{n}.png", 50 + n)
    assert run("create", db, "--model", str(run_folder)) == 0
    assert run("enroll", db, "--folder", str(folder)) == 0
    assert run("calibrate", db, "--far", "0.2", "--impostors", str(strangers)) == 0
    out = capsys.readouterr().out
    assert "image: threshold" in out and "for FAR 20%" in out
    assert run("calibrate", db, "--far", "0.2", "--impostors", str(strangers), "--json") == 0
    threshold = json.loads(capsys.readouterr().out)["image"]
    assert threshold["impostor_identities"] == 6 and threshold["genuine_trials"] == 6
    run("identify", db, str(folder / "ann" / "0.png"), "--json")
    matches = json.loads(capsys.readouterr().out)[0]["matches"]
    assert matches[0]["threshold"] == threshold["value"] and 0 < matches[0]["probability"] < 1
    run("identify", db, str(folder / "ann" / "0.png"))
    assert "for FAR 20%" in capsys.readouterr().err
    assert run("calibrate", db, "--far", "0.001") == 2
    assert "the lowest rate that they support" in capsys.readouterr().err
    assert run("calibrate", db) == 2
    assert "give one of --far RATE and --fpir RATE" in capsys.readouterr().err


def test_other_images_and_pairs(
    people: dict[str, list[Path]], run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db, others = str(tmp_path / "c.db"), tmp_path / "others"
    for n in range(24):
        draw(others / f"o{n // 3}" / f"{n}.png", n // 3, 9 * (n % 3))
    rows = [
        f"o{n // 3}/{n}.png,o{m // 3}/{m}.png,{int(n // 3 == m // 3)}" for n in range(24) for m in range(n)
    ]
    (others / "pairs.csv").write_text("\n".join(["first,second,same", *rows]) + "\n")
    assert run("create", db, "--model", str(run_folder)) == 0
    options = ["--data", "folder", "--root", str(others)]
    capsys.readouterr()
    assert run("calibrate", db, "--far", "0.05", *options, "--json") == 0
    threshold = json.loads(capsys.readouterr().out)["image"]
    assert (threshold["source"], threshold["identities"], threshold["impostor_trials"]) == (
        "other images",
        8,
        168,
    )
    assert run("calibrate", db, "--far", "0.05", "--pairs", str(others / "pairs.csv")) == 0
    assert "from 24 genuine and 252 impostor trials" in capsys.readouterr().out
    for wrong, line in (
        (["--pairs", str(others / "none.csv")], "none.csv: there is no such file"),
        (
            ["--pairs", str(others / "pairs.csv"), "--data", "folder"],
            "give one of --impostors, --data and --pairs",
        ),
        (["--split", "val"], "are for --data SOURCE"),
        ([*options, "--split", "dev"], "folder: there is no split 'dev'; splits: train,"),
    ):
        assert run("calibrate", db, "--far", "0.05", *wrong) == 2
        assert line in capsys.readouterr().err


def test_impostors_that_are_enrolled_or_cannot_be_read(
    people: dict[str, list[Path]], run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db, strangers = str(tmp_path / "c.db"), tmp_path / "strangers"
    for n in range(6):
        draw(strangers / f"{n}.png", 50 + n)
    (strangers / "bad.png").write_bytes(b"no image")
    run("create", db, "--model", str(run_folder))
    run("enroll", db, "--folder", str(tmp_path / "people"))
    capsys.readouterr()
    assert run("calibrate", db, "--far", "0.2", "--impostors", str(strangers)) == 1
    out, err = capsys.readouterr()
    assert "3 enrolled identities and 6 others" in out and "bad.png: cannot be read" in err
    (strangers / "ann.png").write_bytes(people["ann"][0].read_bytes())
    assert run("calibrate", db, "--far", "0.2", "--impostors", str(strangers)) == 2
    assert "ann.png is enrolled as 'ann'; leave that identity out of the impostors" in capsys.readouterr().err
