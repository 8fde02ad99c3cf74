"""The protocol `threshold`: halves that share no one, rates that are measured on the other half."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from tests.evaluation.fakes import Pixels, dots
from vlfew.core.errors import ConfigError, DataError
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.protocols.threshold import _halve, threshold
from vlfew.evaluation.run_protocol import check_protocol, run_protocol
from vlfew.report.formatting import extras, setting

SEVERAL, SINGLE = 24, 30
LABELS = [c for c in range(SEVERAL) for _ in range(5)] + list(range(SEVERAL, SEVERAL + SINGLE))


@pytest.fixture(scope="module")
def data() -> LabeledImages:
    return dots(LABELS, spread=0.3, size=4)


def run(data: LabeledImages, **options: Any) -> Any:
    return threshold(EvaluationContext(Pixels(), data), **{"repeats": 3, "resamples": 60, **options})


def test_halves_share_no_one(data: LabeledImages) -> None:
    labels = np.array(LABELS)
    draws = [_halve(data, "test", 4, 0, 0, repeat) for repeat in range(2)]
    for draw in draws:
        first, second = (
            {*labels[half.enrolled].tolist(), *labels[half.strangers].tolist()} for half in draw.halves
        )
        assert not first & second and first | second == set(LABELS)
        for half in draw.halves:
            assert np.bincount(labels[half.enrolled]).max() == 4
            assert len(set(labels[half.enrolled].tolist())) == SEVERAL // 2
            assert len(half.strangers) == SINGLE // 2 and (labels[half.strangers] >= SEVERAL).all()
    assert not torch.equal(draws[0].halves[0].enrolled, draws[1].halves[0].enrolled)
    of_cohort = _halve(data, "test", 4, 33, 0, 0)
    cohort = labels[of_cohort.cohort].tolist()
    assert (
        len(set(cohort)) == 33 and sum(c >= SEVERAL for c in cohort) == SINGLE
    )  # those with one image first
    left = [labels[part].tolist() for half in of_cohort.halves for part in (half.enrolled, half.strangers)]
    assert not set(cohort) & {label for part in left for label in part}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_rates_match_a_loop(data: LabeledImages) -> None:
    outcome = run(data, far=0.05, fpir=0.3, gallery_size=1, max_images=3, seed=5)
    labels, pixels = (
        np.array(LABELS),
        data.images.batch(torch.arange(len(LABELS))).flatten(1).float().div(255).double().numpy(),
    )
    for repeat in range(3):
        scores = []
        for half in _halve(data, "test", 3, 0, 5, repeat).halves:
            enrolled, probes = half.enrolled.tolist(), torch.cat([half.enrolled, half.strangers]).tolist()
            genuine, impostor = [], []
            for probe in probes:
                for person in sorted(set(labels[enrolled].tolist())):
                    items = [pixels[n] for n in enrolled if labels[n] == person and n != probe]
                    template = sum(item / np.sqrt(item @ item) for item in items)
                    into = genuine if labels[probe] == person else impostor
                    into.append(cosine(pixels[probe], template))
            scores.append((np.array(genuine), np.array(impostor)))
        (_, own), (genuine_scores, other) = scores
        allowed = [t for t in [*np.nextafter(own, np.inf), own.min()] if (own >= t).mean() <= 0.05]
        found = outcome.details["far_each"][repeat]
        assert found["threshold"] == pytest.approx(min(allowed), abs=1e-9)
        assert found["measured"] == pytest.approx((other >= min(allowed)).mean())
        assert found["frr"] == pytest.approx((genuine_scores < min(allowed)).mean())
    for name in ("far", "fpir"):
        each = outcome.details[f"{name}_each"]
        assert outcome.details[f"{name}_measured"] == pytest.approx(np.mean([e["measured"] for e in each]))
        inside = [e["predicted"][0] <= e["measured"] <= e["predicted"][1] for e in each]
        assert outcome.details[f"{name}_inside"] == sum(inside)
    assert outcome.accuracy == pytest.approx(1 - outcome.details["far_frr"])
    assert outcome.details["enrolled_identities"] == SEVERAL // 2
    assert outcome.details["stranger_identities"] == SINGLE // 2
    assert outcome.details["fpir_measured"] != outcome.details["far_measured"]


def test_rates_hold_on_the_other_half(data: LabeledImages) -> None:
    outcome = run(data, far=0.05, fpir=0.2, gallery_size=8, repeats=20, combine="max")
    assert outcome.details["far_measured"] == pytest.approx(0.05, rel=0.3)
    assert outcome.details["fpir_measured"] == pytest.approx(0.2, rel=0.3)
    assert outcome.details["far_inside"] >= 17 and outcome.details["fpir_inside"] >= 17


def test_normalized_scores_are_measured_on_the_same_people(data: LabeledImages) -> None:
    outcome = run(data, far=0.05, score_normalization=True, cohort_size=20, top_k=10)
    raw, normalized = outcome.details["far_each"], outcome.details["far_normalized_each"]
    assert len(raw) == len(normalized) == 3 and raw[0]["threshold"] != normalized[0]["threshold"]
    assert outcome.accuracy == pytest.approx(1 - outcome.details["far_normalized_frr"])
    assert outcome.details["stranger_identities"] == (SINGLE - 20) // 2


def test_a_result_says_what_its_interval_is_over(data: LabeledImages) -> None:
    result, _ = run_protocol(
        EvaluationContext(Pixels(), data), "threshold", {"far": 0.05, "repeats": 3, "resamples": 20}
    )
    assert result.interval_unit == "3 halvings" and result.options["far"] == 0.05
    assert setting(result) == "12 enrolled, 15 strangers"
    assert re.fullmatch(
        r"FAR: target 5, \d\.\d\d measured, [0-3] of 3 as predicted, FRR \d+\.\d", extras(result)[0]
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"far": 0.001},
            DataError,
            r"needs at least 3,000 impostor trials in dots: half of split 'test', .* are 840",
        ),
        (
            {"fpir": 0.01, "gallery_size": 5},
            DataError,
            r"needs at least 300 probes in dots: half .* there are 75",
        ),
        (
            {"fpir": 0.1, "gallery_size": 12},
            DataError,
            "a probe meets 11 others; lower gallery_size, 12, to that",
        ),
        ({"far": 1.5}, ConfigError, "above 0 and below 1"),
        ({"far": 0.05, "repeats": 0}, ConfigError, "repeats is 0"),
        ({"far": 0.05, "max_images": 1}, ConfigError, "max_images is 1; it must be at least 2"),
        ({"far": 0.05, "score_normalization": True}, DataError, "has 54 classes; lower cohort_size"),
        (
            {"far": 0.05, "score_normalization": True, "cohort_size": 20},
            ConfigError,
            "top_k is 200; it must be from 2 to cohort_size, 20",
        ),
        ({"split": "tset"}, DataError, "no split 'tset'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_encoded(
    data: LabeledImages, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        check_protocol("threshold", options, data)
    assert "\n" not in str(caught.value)


def test_people_with_several_images_are_needed() -> None:
    with pytest.raises(DataError, match="1 classes of several images, and 2 are needed"):
        check_protocol("threshold", {"far": 0.5}, dots([0, 0, 1, 1, 2, 3, 4]))
