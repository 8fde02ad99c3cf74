"""Identification against loops: ranks, unknown images, detection."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.evaluation.fakes import Pixels, dots
from vlfew.core.errors import ConfigError, DataError
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.protocols.identification import FPIR_GRID, _draw_gallery, identification
from vlfew.evaluation.run_protocol import check_protocol

LABELS = [c for c in range(15) for _ in range(5)] + [15, 16, 17, 18]


@pytest.fixture
def data() -> LabeledImages:
    return dots(LABELS, spread=0.6)


def test_rates_match_a_loop(data: LabeledImages) -> None:
    outcome = identification(EvaluationContext(Pixels(), data), gallery_size=10, repeats=3, seed=4)
    pixels = data.images.batch(torch.arange(len(LABELS))).flatten(1).double().numpy() / 255
    rank_1, cmc, dirs = [], [], []
    for draw in range(3):
        gallery = _draw_gallery(data, "test", 10, 1, 4, draw)
        enrolled = gallery.support.tolist()
        ranks, best = [], []
        for probe, target in zip(gallery.probes.tolist(), gallery.target.tolist(), strict=True):
            assert LABELS[probe] == LABELS[enrolled[target]] and probe not in enrolled
            scores = [-((pixels[probe] - pixels[g]) ** 2).sum() for g in enrolled]
            ranks.append(sum(s >= scores[target] for s in scores))
            best.append(scores[target])
        unknown = [
            max(-((pixels[u] - pixels[g]) ** 2).sum() for g in enrolled) for u in gallery.unknown.tolist()
        ]
        known = {LABELS[g] for g in enrolled}
        assert sorted(gallery.unknown.tolist()) == [n for n, c in enumerate(LABELS) if c not in known]
        assert len(ranks) == 40
        rank_1.append(np.mean([r == 1 for r in ranks]))
        cmc.append([np.mean([r <= k for r in ranks]) for k in range(1, 11)])
        row = []
        for fpir in FPIR_GRID:
            # Any threshold that few enough unknown images reach, the lowest being the best.
            tried = [t for t in [*best, np.inf] if sum(s >= t for s in unknown) <= fpir * len(unknown) + 1e-9]
            row.append(
                max(np.mean([r == 1 and b >= t for r, b in zip(ranks, best, strict=True)]) for t in tried)
            )
        dirs.append(row)
    assert outcome.accuracy == pytest.approx(np.mean(rank_1))
    assert outcome.details["cmc"] == pytest.approx(np.mean(cmc, axis=0))
    assert outcome.details["dir"]["dir"] == pytest.approx(np.mean(dirs, axis=0))
    assert outcome.details["ways"] == 10 and outcome.details["probes"] == 40
    assert outcome.details["unknown"] == len(LABELS) - 50
    assert 0.1 < outcome.accuracy < 1
    # 29 unknown images can measure a rate of 0.1, not of 0.01.
    assert "dir_at_fpir_0.1" in outcome.details and "dir_at_fpir_0.01" not in outcome.details


def test_all_enrolls_every_class_with_a_further_image(data: LabeledImages) -> None:
    outcome = identification(EvaluationContext(Pixels(), data), shots=2)
    assert outcome.details["ways"] == 15 and outcome.details["unknown"] == 4
    assert outcome.details["probes"] == 45


def test_more_shots_help_and_without_unknown_images_there_is_no_open_set() -> None:
    data = dots([c for c in range(15) for _ in range(8)], spread=0.6)
    one, five = (
        identification(EvaluationContext(Pixels(), data), shots=k, method="prototypes") for k in (1, 5)
    )
    assert five.accuracy > one.accuracy and "dir" not in five.details


def test_equal_scores_for_all_identify_nobody(data: LabeledImages) -> None:
    alike = dots(LABELS, spread=0)
    flat = torch.full_like(alike.images.batch(torch.arange(len(LABELS))), 7)
    object.__setattr__(alike.images, "tensor", flat)
    assert identification(EvaluationContext(Pixels(), alike)).accuracy == 0


def test_impossible_galleries_are_errors(data: LabeledImages) -> None:
    with pytest.raises(DataError, match=r"15 classes of more than 1 image\(s\), 16 are to be enrolled"):
        check_protocol("identification", {"gallery_size": 16}, data)
    with pytest.raises(DataError, match="0 classes of more than 5"):
        check_protocol("identification", {"shots": 5}, data)
    with pytest.raises(ConfigError, match="at least 2 enrolled classes and 1 shot"):
        check_protocol("identification", {"gallery_size": 1}, data)
    with pytest.raises(ConfigError, match="repeats is 0; it must be at least 1"):
        identification(EvaluationContext(Pixels(), data), repeats=0)
    with pytest.raises(ConfigError, match="repeats is 0; it must be at least 1"):
        check_protocol("identification", {"repeats": 0}, data)
