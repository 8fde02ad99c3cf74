"""Trials against loops over images, and score normalization against its formula."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from vlfew.core.errors import ConfigError, DataError
from vlfew.evaluation.enrolled_items import trials_from_embeddings
from vlfew.evaluation.score_normalization import Cohort
from vlfew.evaluation.trials import Trials, trials_from_pairs, trials_from_scores
from vlfew.similarities.cosine import cosine_matrix

LABELS = [4, 4, 4, 7, 7, 9]


def people(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def statistics(scores: list[float], top_k: int) -> tuple[float, float]:
    top = sorted(scores)[-top_k:]
    mean = sum(top) / top_k
    return mean, math.sqrt(sum((s - mean) ** 2 for s in top) / top_k)


@pytest.mark.parametrize(("combine", "top_k"), list(product(["mean", "max"], [None, 3])))
def test_every_image_is_left_out_of_its_own_template_in_turn(combine: str, top_k: int | None) -> None:
    enrolled, strangers, others = people(6), people(2, 1), people(8, 2)
    cohort = None if top_k is None else Cohort(others, top_k)
    trials = trials_from_embeddings(
        enrolled, torch.tensor(LABELS), strangers, torch.tensor([20, 20]), combine=combine, cohort=cohort
    )
    images = [unit(v) for v in torch.cat([enrolled, strangers]).double().tolist()]
    cohort_images = [unit(v) for v in others.double().tolist()]
    who = [*LABELS, 20, 20]

    def raw(a: list[float], items: list[list[float]]) -> float:
        if combine == "max":
            return max(dot(a, item) for item in items)
        return dot(a, unit([sum(column) / len(items) for column in zip(*items, strict=True)]))

    def score(probe: list[float], items: list[list[float]]) -> float:
        s = raw(probe, items)
        if top_k is None:
            return s
        m_p, d_p = statistics([dot(probe, c) for c in cohort_images], top_k)
        m_t, d_t = statistics([raw(c, items) for c in cohort_images], top_k)
        return ((s - m_p) / d_p + (s - m_t) / d_t) / 2

    expected = {}
    for n, probe in enumerate(images):
        for identity in sorted(set(LABELS)):
            items = [images[m] for m in range(len(LABELS)) if LABELS[m] == identity and m != n]
            if items:
                expected[n, identity] = score(probe, items)
    found = {
        (int(p), int(t)): float(s)
        for s, p, t in zip(trials.scores, trials.probe, trials.template_identity, strict=True)
    }
    assert len(found) == len(trials) and found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(expected[key], abs=1e-9) for key in expected)
    assert all(who[p] == i for p, i in zip(trials.probe, trials.probe_identity, strict=True))
    assert trials.genuine.sum() == 5  # the only image of 9 has nothing to be compared with
    assert len(trials.impostors) == 5 * 2 + 2 + 2 * 3


def test_strangers_without_labels_are_all_different() -> None:
    trials = trials_from_embeddings(people(4), torch.tensor([0, 0, 5, 5]), people(3, 1))
    assert sorted(set(trials.probe_identity.tolist())) == [0, 5, 6, 7, 8]


def test_scores_of_templates_that_never_hold_a_probe() -> None:
    trials = trials_from_scores([[0.1, 0.2], [0.3, 0.4]], [8, 9], [9, 8])
    assert trials.genuine_scores.tolist() == [0.2, 0.3]
    assert trials.impostors.scores.tolist() == [0.1, 0.4]


def test_pairs_are_trials() -> None:
    trials = trials_from_pairs([0.9, 0.1, 0.2], [1, 1, 2], [1, 2, 3])
    assert trials.genuine.tolist() == [True, False, False] and trials.probe.tolist() == [0, 1, 2]


def test_wrong_trials_are_one_line() -> None:
    with pytest.raises(DataError, match="1 of 2 scores are NaN"):
        trials_from_pairs([0.1, math.nan], [0, 1], [1, 2])
    with pytest.raises(DataError, match="one value each"):
        Trials(np.zeros(2), np.zeros(2), np.zeros(3), np.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="2 probes and 1 templates are"):
        trials_from_scores([[0.1, 0.2]], [0, 1], [0])
    with pytest.raises(DataError, match="two templates"):
        trials_from_scores([[0.1, 0.2]], [0], [1, 1])
    with pytest.raises(DataError, match=r"own_scores of 1 probes are \[2\]"):
        trials_from_scores([[0.1]], [0], [1], [0.1, 0.2])
    with pytest.raises(DataError, match="2 embeddings and 1 labels"):
        trials_from_embeddings(people(2), torch.tensor([5]))
    with pytest.raises(DataError, match="0 embeddings and 0 labels"):
        trials_from_embeddings(people(0), torch.tensor([]))
    with pytest.raises(DataError, match="identity 5 is both enrolled and an impostor"):
        trials_from_embeddings(people(2), torch.tensor([5, 6]), people(1), torch.tensor([5]))
    with pytest.raises(DataError, match="1 of 2 embeddings are zero"):
        trials_from_embeddings(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    with pytest.raises(DataError, match="1 of 2 embeddings are zero, NaN"):
        trials_from_embeddings(torch.tensor([[1.0, 0.0], [1.0, math.nan]]), torch.tensor([0, 1]))
    with pytest.raises(DataError, match="cannot be compared with anything"):
        trials_from_embeddings(people(1), torch.tensor([0]))
    with pytest.raises(ConfigError, match="top_k is 9; it must be from 2 to 8"):
        Cohort(people(8), 9)
    with pytest.raises(DataError, match="a cohort of 1 has no standard deviation"):
        Cohort(people(1))


def test_normalization_takes_away_what_a_template_has_in_common_with_everybody() -> None:
    # One template is close to the mean of all people, and would accept strangers by its raw score.
    generator = torch.Generator().manual_seed(3)
    common = torch.tensor([1.0] + 15 * [0.0])
    cloud = torch.randn(600, 16, generator=generator)
    cohort, probes = cloud[:300] + 2 * common, cloud[300:] + 2 * common
    templates = torch.stack([common, -cloud[0]])
    statistics = Cohort(cohort, None)
    raw = cosine_matrix(probes, templates).double()
    of_templates = statistics.of_embeddings(templates)
    normalized = ((raw - of_templates.mean) / of_templates.deviation).mean(0)
    assert raw.mean(0)[0] - raw.mean(0)[1] > raw.std() and normalized.abs().max() < 0.3
    both = statistics.of_embeddings(probes).normalize(raw, of_templates)
    of_probes = statistics.of_embeddings(probes)
    by_hand = [(raw[:, n] - of_probes.mean) / of_probes.deviation for n in range(2)]
    assert torch.allclose(
        2 * both, torch.stack(by_hand, 1) + (raw - of_templates.mean) / of_templates.deviation
    )
