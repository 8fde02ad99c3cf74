"""Thresholds: what they state, what is refused, and whether the intervals hold the truth."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from vlfew.core.errors import ConfigError, DataError
from vlfew.evaluation.identity_bootstrap import IdentityBootstrap
from vlfew.evaluation.impostor_rates import far_curve, measured_far, measured_fpir
from vlfew.evaluation.score_probability import ScoreProbability
from vlfew.evaluation.thresholds import Threshold, calibrate_threshold
from vlfew.evaluation.trials import Trials, trials_from_scores


def world(people: int, strangers: int, images: int, seed: int, effect: float = 0.7) -> Trials:
    """Scores that depend on who is compared: normal noise, plus an effect of each probe's and template's identity."""
    rng = np.random.default_rng(seed)
    of_person = effect * rng.normal(size=people + strangers)
    who = np.concatenate([np.repeat(np.arange(people), images), people + np.arange(strangers)])
    scores = of_person[who][:, None] + of_person[:people] + rng.normal(size=(len(who), people))
    own = np.full(len(who), np.nan)
    # How well people match themselves differs between them, too.
    genuine = 4 + rng.normal(size=people)
    own[: people * images] = genuine.repeat(images) + 0.5 * rng.normal(size=people * images)
    return trials_from_scores(scores, who, np.arange(people), own)


def test_a_threshold_states_what_was_measured() -> None:
    trials = world(20, 60, 4, 0)
    found = calibrate_threshold(trials, far=0.02, resamples=200)
    accepted = trials.scores >= found.value
    assert found.far.value == accepted[~trials.genuine].mean() <= 0.02
    assert found.frr is not None and found.frr.value == (~accepted[trials.genuine]).mean()
    assert found.far.low < found.far.value < found.far.high
    assert found.frr.low < found.frr.value < found.frr.high
    assert (found.identities, found.impostor_identities, found.impostor_probes) == (20, 80, 140)
    assert (found.genuine_trials, found.impostor_trials) == (80, 80 * 19 + 60 * 20)
    assert found.fpir is None and not found.wide_interval and found.notes == []
    assert found.implied_fpir(10) == pytest.approx(1 - (1 - found.far.value) ** 10)
    assert found.for_gallery_size(500).value == found.value
    assert f"threshold {found.value:.4f} for FAR 2%: FAR 1.99% (95% " in found.describe()
    assert found.accepts(trials.scores).tolist() == accepted.tolist()


def test_a_gallery_of_n_has_the_fpir_asked_for() -> None:
    trials = world(20, 60, 4, 0)
    found = calibrate_threshold(
        trials, fpir=0.1, gallery_size=15, source="pairs", support="both", combine="max", resamples=200
    )
    measured = measured_fpir(trials.impostors, found.value, 15)
    assert found.fpir is not None and found.fpir.value == measured and 0.09 < measured <= 0.1
    assert found.fpir.low < measured < found.fpir.high
    # People with a high effect are falsely accepted again and again: fewer of them than independence implies.
    assert measured < found.implied_fpir(15)
    assert (found.source, found.support, found.combine) == ("pairs", "both", "max")
    assert found.wide_interval and "few trials for a rate of 0.1" in found.notes[0]
    assert found.for_gallery_size(15).value == found.value and not found.for_gallery_size(15).extrapolated
    values = [found.for_gallery_size(size).value for size in (1, 2, 3, 15, 16, 200, 10**6)]
    assert values == sorted(values)
    assert found.for_gallery_size(200).extrapolated
    with pytest.raises(ConfigError, match="gallery_size is 1,000,001; thresholds go up to 1,000,000"):
        found.for_gallery_size(1_000_001)
    with pytest.raises(ConfigError, match="gallery_size is 0"):
        found.for_gallery_size(0)
    assert "for FPIR 10% with 15 enrolled: FPIR" in found.describe()
    larger = calibrate_threshold(trials, fpir=0.1, gallery_size=100, resamples=50)
    assert (
        larger.extrapolated and larger.fpir is None and any("extrapolated" in note for note in larger.notes)
    )


def test_the_scale_of_the_scores_does_not_matter() -> None:
    trials = world(10, 20, 3, 1)
    scaled = Trials(0.01 * trials.scores - 3, trials.probe_identity, trials.template_identity, trials.probe)
    a, b = (calibrate_threshold(t, far=0.05, resamples=50) for t in (trials, scaled))
    assert b.value == pytest.approx(0.01 * a.value - 3) and a.far == b.far and a.frr == b.frr


def test_ties_and_float32() -> None:
    # 10 of 100 impostors have exactly the score 0.7 in single precision: none of them may pass at 5%.
    scores = np.concatenate([np.full(10, np.float32(0.7)), np.linspace(0, 0.6, 90, dtype=np.float32)])
    trials = trials_from_scores(scores.reshape(10, 10), 100 + np.arange(10), np.arange(10))
    found = calibrate_threshold(trials, far=0.05, resamples=20)
    assert found.far.value == 0 and not found.accepts(scores).any()
    # Wilson's interval of 0 of twenty identities by Student's quantile for ten templates; nothing narrower can be said.
    assert found.far.high == pytest.approx(2.262**2 / (20 + 2.262**2), rel=1e-3) and found.far.low == 0
    assert calibrate_threshold(trials, far=0.1, resamples=20).accepts(scores).sum() == 10


def test_too_few_trials_are_refused_by_the_rule_of_three() -> None:
    trials = world(5, 10, 2, 0)  # 10 * 4 + 10 * 5 = 90 impostor trials of 20 probes
    with pytest.raises(
        DataError,
        match=r"false-accept rate of 0\.01 needs at least 300 impostor trials, and there are 90; the lowest rate that "
        r"they support is 0\.034",
    ):
        calibrate_threshold(trials, far=0.01)
    assert calibrate_threshold(trials, far=0.034, resamples=20).wide_interval
    with pytest.raises(DataError, match=r"needs at least 300 probes .* there are 20; .* is 0\.15"):
        calibrate_threshold(trials, fpir=0.01, gallery_size=3)
    for wrong in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ConfigError, match="above 0 and below 1"):
            calibrate_threshold(trials, far=wrong)
    for options in ({}, {"far": 0.1, "fpir": 0.1}, {"far": 0.1, "gallery_size": 3}, {"fpir": 0.1}):
        with pytest.raises(ConfigError, match="give"):
            calibrate_threshold(trials, **options)
    one = trials_from_scores([[0.5], [0.6]], [0, 0], [0])
    with pytest.raises(DataError, match=r"there are 0; no rate can be set"):
        calibrate_threshold(one, far=0.5)
    with pytest.raises(DataError, match="one identity says nothing"):
        IdentityBootstrap(one)


@pytest.mark.parametrize("rate", [1e-300, 2.2250738585e-313, 5e-324])
def test_a_rate_that_no_number_of_trials_supports(rate: float) -> None:
    trials = trials_from_scores(np.eye(4), np.arange(4), np.arange(4))
    for asked in ({"far": rate}, {"fpir": rate, "gallery_size": 4}):
        with pytest.raises(DataError, match="rule of three"):
            calibrate_threshold(trials, **asked)


def test_saved_and_read_again(tmp_path: Path) -> None:
    found = calibrate_threshold(world(20, 60, 4, 0), fpir=0.1, gallery_size=15, resamples=20)
    assert Threshold.from_json(found.model_dump_json()) == found
    path = tmp_path / "threshold.json"
    found.save(path)
    assert Threshold.load(path) == found and json.loads(path.read_text())["target"] == 0.1
    path.write_text('{"value": "high"}')
    with pytest.raises(DataError, match=r"threshold\.json: value: .*number"):
        Threshold.load(path)
    path.write_text("{")
    with pytest.raises(DataError, match=r"threshold\.json: .*JSON"):
        Threshold.load(path)
    with pytest.raises(DataError, match=r"none\.json: cannot be read: No such file.*; calibrate again"):
        Threshold.load(tmp_path / "none.json")


def test_genuine_trials_are_not_needed() -> None:
    trials = world(20, 60, 4, 0).impostors
    assert calibrate_threshold(trials, far=0.02, resamples=20).frr is None


WORLDS = 80


def test_intervals_and_predictions_hold_the_truth() -> None:
    """95% intervals over identities, in worlds where a few people look like many others."""
    kinds = ("far", "frr", "fpir", "predicted far", "predicted fpir", "binomial")
    inside = dict.fromkeys(kinds, 0)
    threshold, size = 3.2, 10
    many = [world(60, 120, 2, 10_000 + n) for n in range(40)]
    true_far = np.mean([measured_far(w.impostors, threshold) for w in many])
    true_fpir = np.mean([measured_fpir(w.impostors, threshold, size) for w in many])
    true_frr = np.mean([(w.genuine_scores < threshold).mean() for w in many])
    for seed in range(WORLDS):
        own, other = world(30, 60, 2, 2 * seed), world(30, 60, 2, 2 * seed + 1)
        bootstrap = IdentityBootstrap(own, 150, seed)
        inside["far"] += true_far in bootstrap.far(threshold)
        inside["frr"] += true_frr in bootstrap.frr(threshold)
        inside["fpir"] += true_fpir in bootstrap.fpir(threshold, size)
        chosen = far_curve(own.impostors).threshold(0.02)
        inside["predicted far"] += measured_far(other.impostors, chosen) in bootstrap.predict(0.02)
        at_size = calibrate_threshold(own, fpir=0.1, gallery_size=size, resamples=2).value
        inside["predicted fpir"] += measured_fpir(other.impostors, at_size, size) in bootstrap.predict(
            0.1, size
        )
        rate, trials = measured_far(own.impostors, threshold), len(own.impostors)
        inside["binomial"] += abs(rate - true_far) < 1.96 * math.sqrt(rate * (1 - rate) / trials)
    shares = {kind: round(count / WORLDS, 3) for kind, count in inside.items()}
    assert all(shares[kind] >= 0.89 for kind in kinds if kind != "binomial"), shares
    assert shares["binomial"] < 0.7, shares


def test_probabilities_follow_the_prior() -> None:
    """Normal scores with one variance: the log-likelihood ratio is a line, whose slope is known."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(2, 1, 4000), rng.normal(0, 1, 40000)])
    identity = np.arange(len(scores))
    trials = Trials(scores, identity, np.where(identity < 4000, identity, -1), identity)
    fitted = ScoreProbability.fit(trials)
    assert fitted.slope == pytest.approx(2, rel=0.05) and fitted.offset == pytest.approx(-2, rel=0.05)
    assert fitted(1.0) == pytest.approx(0.5, abs=0.02)
    # By Bayes' rule: prior odds of 1 to 99 times a likelihood ratio of exp(2 * 3 - 2).
    odds = math.exp(4) / 99
    assert fitted(3.0, prior=0.01) == pytest.approx(odds / (1 + odds), abs=0.05)
    probabilities = fitted(np.linspace(-5, 5, 50))
    assert (np.diff(probabilities) > 0).all()
    assert ScoreProbability.model_validate_json(fitted.model_dump_json()) == fitted


def test_probabilities_of_scores_that_never_overlap_are_finite() -> None:
    scores, identity = np.array([0.1, 0.2, 0.9, 0.95]), np.arange(4)
    trials = Trials(scores, identity, np.array([-1, -1, 2, 3]), identity)
    fitted = ScoreProbability.fit(trials)
    assert math.isfinite(fitted.slope) and 0 < fitted(0.15) < 0.5 < fitted(0.9) < 1


def test_what_gives_no_probability() -> None:
    identity = np.arange(4)
    low = Trials(np.array([0.9, 0.8, 0.1, 0.2]), identity, np.array([-1, -1, 2, 3]), identity)
    with pytest.raises(DataError, match="do not score higher"):
        ScoreProbability.fit(low)
    with pytest.raises(DataError, match="0 genuine and 2 impostor scores"):
        ScoreProbability.fit(low.impostors)
    with pytest.raises(ConfigError, match="prior is 1"):
        ScoreProbability.fit(low, prior=1)
