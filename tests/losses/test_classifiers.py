"""Classification losses with a weight vector for each class: without and with margins."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.compare import assert_close
from tests.losses.conftest import LABELS, build, encoded
from vlfew.core.errors import ConfigError, DataError
from vlfew.core.features import Features
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.l_softmax import phi

PURE = {"lambda_start": 0.0, "lambda_end": 0.0}
TARGETS = [0, 1, 3, 3, 2, 0, 1]


def phi_by_definition(theta, m):
    """On the k-th of m equal parts of the half circle: (-1)^k cos(m theta) - 2k."""
    k = next(k for k in range(m) if theta <= (k + 1) * math.pi / m + 1e-12)
    return (-1) ** k * math.cos(m * theta) - 2 * k


def blended(theta, m, weight):
    return (weight * math.cos(theta) + phi_by_definition(theta, m)) / (1 + weight)


def arc(theta, m):
    return math.cos(theta + m) if theta <= math.pi - m else math.cos(theta) - m * math.sin(m)


def by_loops(batch, vectors, own, lengths):
    """Cross entropy over `lengths(|x|, |w|) * cos(theta)`, the target's cosine replaced by `own(theta)`."""
    losses = []
    for x, target in zip(batch.image.embedding.tolist(), batch.target.tolist(), strict=True):
        logits = []
        for c, w in enumerate(vectors.tolist()):
            cosine = sum(a * b for a, b in zip(x, w, strict=True)) / (math.hypot(*x) * math.hypot(*w))
            value = own(math.acos(cosine)) if c == target else cosine
            logits.append(value * lengths(math.hypot(*x), math.hypot(*w)))
        losses.append(math.log(sum(math.exp(v - logits[target]) for v in logits)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "options", "own", "lengths"),
    [
        ("l_softmax", {"m": 1, **PURE}, math.cos, lambda x, w: x * w),
        ("l_softmax", {"m": 2, **PURE}, lambda t: phi_by_definition(t, 2), lambda x, w: x * w),
        ("l_softmax", {"m": 3, **PURE}, lambda t: phi_by_definition(t, 3), lambda x, w: x * w),
        ("l_softmax", {"lambda_end": 7.0}, lambda t: blended(t, 4, 7.0), lambda x, w: x * w),
        ("sphereface", PURE, lambda t: phi_by_definition(t, 4), lambda x, w: x),
        ("sphereface", {}, lambda t: blended(t, 4, 5.0), lambda x, w: x),
        ("cosface", {}, lambda t: math.cos(t) - 0.35, lambda x, w: 64),
        ("cosface", {"s": 8.0, "m": 0.1}, lambda t: math.cos(t) - 0.1, lambda x, w: 8),
        ("arcface", {}, lambda t: arc(t, 0.5), lambda x, w: 64),
        ("arcface", {"s": 8.0, "m": 1.2}, lambda t: arc(t, 1.2), lambda x, w: 8),
    ],
    ids=lambda value: str(value) if isinstance(value, str | dict) else "",
)
def test_is_its_formula(name, options, own, lengths, seed):
    batch = replace(encoded(TARGETS, seed=seed), progress=1.0)
    term = build(name, **options)
    assert term(batch).item() == pytest.approx(by_loops(batch, term.weight, own, lengths), rel=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_a_linear_classifier(smoothing):
    batch = encoded(TARGETS)
    term = build("cross_entropy", label_smoothing=smoothing)
    losses = []
    for x, target in zip(batch.image.embedding, TARGETS, strict=True):
        logits = [(x @ term.linear.weight[c] + term.linear.bias[c]).item() for c in range(4)]
        total = sum(math.exp(v) for v in logits)
        for c, v in enumerate(logits):
            share = smoothing / 4 + (1 - smoothing) * (c == target)
            losses.append(-share * math.log(math.exp(v) / total))
    assert term(batch).item() == pytest.approx(sum(losses) / len(TARGETS), rel=1e-5)


@pytest.mark.parametrize("m", range(1, 8))
def test_phi_is_exact_on_every_part_falls_everywhere_and_has_no_jump(m):
    theta = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    value = phi(theta.cos(), m)
    expected = torch.tensor([phi_by_definition(t, m) for t in theta.tolist()], dtype=torch.float64)
    assert_close(value, expected)
    falls = value.diff()
    assert (falls < 1e-12).all() and falls.min() > -m * math.pi / 2000 - 1e-9
    assert (value[0], value[-1]) == (pytest.approx(1), pytest.approx(1 - 2 * m))


@pytest.mark.parametrize("name", ["l_softmax", "sphereface", "cosface", "arcface"])
def test_an_image_on_its_class_vector_or_opposite_has_a_finite_gradient(name):
    """Where the slopes of the arc cosine and of the sine are infinite."""
    term = build(name)
    for sign in (1, -1):
        x = (sign * term.weight).detach().clone().requires_grad_()
        term(EncodedBatch(Features(x), torch.arange(4), torch.arange(4), progress=1.0)).backward()
        assert x.grad.isfinite().all() and term.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", ["l_softmax", "sphereface", "cosface", "arcface"])
def test_a_margin_costs_and_a_larger_angle_costs_more(name):
    term = build(name, dim=2)
    with torch.no_grad():
        term.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [0, -1], [-1, 0]]))
    angle = torch.linspace(0, math.pi, 50)
    x = torch.stack([angle.cos(), angle.sin()], 1)

    def losses(term):
        zero = torch.zeros(1).long()
        return torch.stack([term(EncodedBatch(Features(v[None]), zero, zero, progress=1.0)) for v in x])

    own = term.with_margin(angle.cos()[:, None], 1.0)[:, 0]
    assert (own.diff() < 1e-6).all() and (own <= angle.cos() + 1e-6).all()
    assert losses(term)[0] < losses(term)[25] < losses(term)[-1]


@pytest.mark.parametrize("name", ["l_softmax", "sphereface"])
def test_lambda_falls_over_its_share_of_the_training(name):
    term = build(name, lambda_start=99.0, lambda_end=4.0, anneal=0.5)
    shares = {0.0: 0.01, 0.25: (0.01 + 0.2) / 2, 0.5: 0.2, 0.9: 0.2}
    assert {p: term.phi_share(p) for p in shares} == pytest.approx(shares)
    batch = encoded(LABELS)
    early, late = (term(replace(batch, progress=p)) for p in (0.0, 1.0))
    assert early < late  # the margin makes it harder


def test_phi_from_the_first_step_with_lambda_start_0():
    batch = encoded(LABELS)
    pure = build("l_softmax", **PURE)
    assert_close(pure(batch), pure(replace(batch, progress=1.0)))
    assert_close(pure(batch), build("l_softmax", anneal=0.0, lambda_end=0.0)(replace(batch, progress=0.0)))


def test_unknown_classes_are_an_error():
    for name in ("cross_entropy", "l_softmax", "sphereface", "cosface", "arcface"):
        with pytest.raises(DataError, match="a classification loss needs the class of each image"):
            build(name)(replace(encoded(LABELS), target=None))


@pytest.mark.parametrize(
    ("name", "option", "value", "range"),
    [
        ("cross_entropy", "label_smoothing", 1.5, "number from 0 to 1"),
        ("l_softmax", "m", 0, "at least 1"),
        ("sphereface", "m", -2, "at least 1"),
        ("l_softmax", "lambda_start", -1.0, "number 0 or more"),
        ("l_softmax", "lambda_end", 2000.0, "number from 0 to 1000"),
        ("sphereface", "lambda_end", -0.5, "number from 0 to 1000"),
        ("sphereface", "anneal", 1.1, "number from 0 to 1"),
        ("cosface", "s", 0.0, "number above 0"),
        ("cosface", "m", 1.2, "number from 0 to 1"),
        ("arcface", "s", math.nan, "number above 0"),
        ("arcface", "m", 28.6, "number from 0 to 1.571"),
        ("arcface", "m", -0.1, "number from 0 to 1.571"),
    ],
)
def test_options_out_of_range_are_named(name, option, value, range):
    with pytest.raises(ConfigError, match=f"^{option} is {value}; it must be (a )?{range}$"):
        build(name, **{option: value})
