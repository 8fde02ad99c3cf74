"""Few-shot methods against the definitions of their papers, on cases small enough for plain loops."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from tests.compare import assert_close
from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.am3 import mixture_cosine
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.logit_scale import fit_logit_scale
from vlfew.classifiers.optimize import EPS
from vlfew.classifiers.support import IMAGE, TEXT, SupportSet
from vlfew.core.errors import ConfigError, VlfewError
from vlfew.core.features import Features, FeatureSpec

DIM = 4
LEARNED = ["am3", "linear_probe", "cross_modal", "tip_adapter_f", "clip_adapter", "lp_plus_plus"]
METHODS = ["zero_shot", "tip_adapter", *LEARNED]


def items(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(name: str, dim: int = DIM, **options: object) -> FewShotMethod:
    return CLASSIFIERS.get(name)(FeatureSpec(dim), **options)


def support_of(images: list[int], texts: list[int], n: int, seed: int = 0, dim: int = DIM) -> SupportSet:
    """Random images and texts of these classes."""
    class_id = torch.tensor([*images, *texts])
    modality = torch.tensor([IMAGE] * len(images) + [TEXT] * len(texts))
    return SupportSet(Features(items(len(class_id), dim, seed=seed)), class_id, n, modality)


def unit(rows: Tensor) -> list[list[float]]:
    return [[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in rows.tolist()]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def probabilities(logits: list[float]) -> list[float]:
    powers = [math.exp(v - max(logits)) for v in logits]
    return [p / sum(powers) for p in powers]


QUERIES = items(5, DIM, seed=1)
FOUR = support_of([0, 1, 2, 0, 2], [0, 1, 2], 3)


def test_zero_shot_is_the_cosine_to_the_texts_and_ignores_images() -> None:
    support = support_of([0, 1], [0, 0, 1], 2)
    scores = build("zero_shot").fit(support).logits(Features(QUERIES))
    x, q = unit(support.features.embedding), unit(QUERIES)
    first = unit(torch.tensor([[(a + b) / 2 for a, b in zip(x[2], x[3], strict=True)]]))[0]
    for row in range(len(q)):
        assert scores[row].tolist() == pytest.approx([dot(q[row], first), dot(q[row], x[4])])


def tip_logits(q: list[float], keys: list, texts: list, labels: list, alpha, beta, scale) -> list[float]:
    logits = [scale * dot(q, text) for text in texts]
    for key, label in zip(keys, labels, strict=True):
        logits[label] += alpha * math.exp(-beta * (1 - dot(q, key)))
    return logits


def test_tip_adapter_adds_votes_to_zero_shot() -> None:
    method = build("tip_adapter", alpha=2.0, beta=3.0, scale=7.0).fit(FOUR)
    x, q = unit(FOUR.features.embedding), unit(QUERIES)
    for row, scores in enumerate(method.logits(Features(QUERIES))):
        expected = tip_logits(q[row], x[:5], x[5:], [0, 1, 2, 0, 2], 2.0, 3.0, 7.0)
        assert scores.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["tip_adapter", "tip_adapter_f"])
def test_tip_adapter_without_votes_is_zero_shot(name: str) -> None:
    zero_shot = build("zero_shot").fit(FOUR).logits(Features(QUERIES))
    scores = build(name, alpha=0.0, scale=7.0).fit(FOUR).logits(Features(QUERIES))
    assert_close(scores, 7 * zero_shot)


def test_tip_adapter_with_sharp_heavy_votes_is_the_nearest_image() -> None:
    method = build("tip_adapter", alpha=1e200, beta=200.0, scale=1.0).fit(FOUR)
    x, q = unit(FOUR.features.embedding), unit(QUERIES)
    nearest = [max(range(5), key=lambda i, row=row: dot(q[row], x[i])) for row in range(len(q))]
    assert method.logits(Features(QUERIES)).argmax(1).tolist() == [[0, 1, 2, 0, 2][i] for i in nearest]


def test_a_class_of_texts_alone_has_no_votes() -> None:
    support = support_of([0, 0], [0, 1], 2)
    zero_shot = build("zero_shot").fit(support).logits(Features(QUERIES))
    scores = build("tip_adapter", scale=7.0).fit(support).logits(Features(QUERIES))
    assert_close(scores[:, 1], 7 * zero_shot[:, 1])
    assert (scores[:, 0] > 7 * zero_shot[:, 0]).all()


def test_one_step_of_tip_adapter_f_is_adamw_on_the_keys() -> None:
    alpha, beta, scale, lr = 2.0, 3.0, 7.0, 0.1
    method = build("tip_adapter_f", alpha=alpha, beta=beta, scale=scale, lr=lr, epochs=1).fit(FOUR)
    x, labels = unit(FOUR.features.embedding), [0, 1, 2, 0, 2]
    keys = x[:5]
    gradient = [[0.0] * DIM for _ in keys]
    for q, own in zip(x[:5], labels, strict=True):
        p = probabilities(tip_logits(q, keys, x[5:], labels, alpha, beta, scale))
        for k, (key, label) in enumerate(zip(keys, labels, strict=True)):
            vote = alpha * beta * math.exp(-beta * (1 - dot(q, key)))
            for d in range(DIM):
                gradient[k][d] += (p[label] - (label == own)) * vote * q[d] / len(keys)
    # The first step of AdamW: the gradient over its own size, and a decay of lr * 0.01.
    moved = [
        [v * (1 - lr * 0.01) - lr * g / (abs(g) + EPS) for v, g in zip(key, row, strict=True)]
        for key, row in zip(keys, gradient, strict=True)
    ]
    q = unit(QUERIES)
    for row, scores in enumerate(method.logits(Features(QUERIES))):
        expected = tip_logits(q[row], moved, x[5:], labels, alpha, beta, scale)
        assert scores.tolist() == pytest.approx(expected)


def test_clip_adapter_is_a_residual_network_before_the_texts() -> None:
    method = build("clip_adapter", ratio=0.3, reduction=2, scale=7.0, epochs=3).fit(FOUR)
    down, up = (w.tolist() for w in method._weights)
    texts, q = unit(FOUR.features.embedding[5:]), unit(QUERIES)
    for row, scores in enumerate(method.logits(Features(QUERIES))):
        hidden = [max(0.0, sum(q[row][d] * down[d][h] for d in range(DIM))) for h in range(2)]
        adapted = [max(0.0, sum(hidden[h] * up[h][d] for h in range(2))) for d in range(DIM)]
        mixed = unit(
            torch.tensor([[0.3 * a + 0.7 * v for a, v in zip(adapted, q[row], strict=True)]]).double()
        )
        assert scores.tolist() == pytest.approx([7 * dot(mixed[0], text) for text in texts], abs=1e-5)


def test_clip_adapter_without_its_network_is_zero_shot() -> None:
    zero_shot = build("zero_shot").fit(FOUR).logits(Features(QUERIES))
    scores = build("clip_adapter", ratio=0.0, scale=7.0).fit(FOUR).logits(Features(QUERIES))
    assert_close(scores, 7 * zero_shot)


def test_clip_adapter_transfers_to_other_classes() -> None:
    method = build("clip_adapter", ratio=0.6, lr=0.1).fit(FOUR)
    other = support_of([], [0, 1], 2, seed=5)
    scale = fit_logit_scale(
        normalize(FOUR.features.embedding[:5], dim=-1) @ text_matrix(FOUR), FOUR.class_id[:5]
    )
    adapted = method.adapt(normalize(QUERIES, dim=-1), *method._weights)
    expected = scale * adapted @ text_matrix(other)
    assert_close(method.transfer(other).logits(Features(QUERIES)), expected)
    assert (expected - scale * normalize(QUERIES, dim=-1) @ text_matrix(other)).abs().max() > 0.1


def text_matrix(support: SupportSet) -> Tensor:
    """The texts of a support with one text per class: `[D, N]`."""
    return normalize(support.texts.features.embedding, dim=-1).T


@pytest.mark.parametrize("name", ["tip_adapter", "am3", "multimodal_prototypes"])
def test_without_any_images_it_is_zero_shot(name: str) -> None:
    support = support_of([], [0, 1, 2], 3)
    zero_shot = build("zero_shot").fit(support).logits(Features(QUERIES))
    scores = build(name).fit(support).logits(Features(QUERIES))
    assert_close(scores / scores.norm(), zero_shot / zero_shot.norm())


def test_a_cross_modal_probe_of_texts_alone_classifies_them() -> None:
    support = support_of([], [0, 1, 2], 3)
    assert build("cross_modal").fit(support).logits(support.features).argmax(1).tolist() == [0, 1, 2]


def gradient_at(method: FewShotMethod, x: list, labels: list[int], prior: Tensor, c: float) -> Tensor:
    """The gradient of `sum_i CE(W' x_i, y_i) + |W - prior|^2 / (2 c)` at the weights that the method found."""
    gradient = ((method._weights - prior) / c).tolist()
    weights = method._weights.tolist()
    for row, own in zip(x, labels, strict=True):
        p = probabilities([sum(row[d] * weights[d][k] for d in range(DIM)) for k in range(prior.shape[1])])
        for d, k in itertools.product(range(DIM), range(prior.shape[1])):
            gradient[d][k] += (p[k] - (k == own)) * row[d]
    return torch.tensor(gradient)


@pytest.mark.parametrize("c", [0.5, 30.0])
def test_the_linear_probe_minimizes_its_loss(c: float) -> None:
    x, labels = unit(FOUR.features.embedding), [0, 1, 2, 0, 2]
    method = build("linear_probe", c=c, steps=400).fit(FOUR)
    assert gradient_at(method, x[:5], labels, torch.zeros(DIM, 3), c).abs().max() < 1e-6
    other = build("linear_probe", c=c, steps=400, seed=1).fit(FOUR)
    assert_close(method._weights, other._weights, tolerance=1e-5)
    texts = torch.tensor(x[5:]).double().T
    method = build("linear_probe", start="text", c=c, scale=7.0, steps=400).fit(FOUR)
    assert gradient_at(method, x[:5], labels, 7 * texts, 7 * c).abs().max() < 1e-5


def test_the_first_steps_of_a_probe_depend_on_the_start() -> None:
    first, second = (build("linear_probe", c=1e4, steps=1, seed=s).fit(FOUR)._weights for s in (0, 1))
    assert (first - second).abs().max() > 1e-3


def test_a_probe_with_a_strong_penalty_is_zero_shot() -> None:
    zero_shot = build("zero_shot").fit(FOUR).logits(Features(QUERIES))
    for name, options in (("linear_probe", {"start": "text"}), ("cross_modal", {})):
        scores = build(name, c=1e-9, scale=7.0, **options).fit(FOUR).logits(Features(QUERIES))
        assert_close(scores, 7 * zero_shot, tolerance=1e-6)


def test_the_cross_modal_probe_takes_texts_as_samples() -> None:
    support = support_of([0, 1, 2, 0], [0, 1, 2, 1], 3)
    x = unit(support.features.embedding)
    method = build("cross_modal", scale=7.0, c=2.0, steps=400).fit(support)
    prior = 7 * build("zero_shot").fit(support)._prototypes.T
    assert gradient_at(method, x, support.class_id.tolist(), prior, 14.0).abs().max() < 1e-5


def test_lp_plus_plus_takes_the_steps_of_its_paper() -> None:
    x, t = normalize(FOUR.features.embedding[:5], dim=-1), normalize(FOUR.features.embedding[5:], dim=-1)
    labels = FOUR.class_id[:5]
    cosines = x @ t.T
    w = torch.stack([x[labels == k].sum(0) for k in range(3)]).requires_grad_()
    own = [cosines[labels == k, k].mean() for k in range(3)]
    share = torch.full((3,), 5.0 * float(sum(own)) / 3, dtype=torch.float64).requires_grad_()
    w_rate = 4 * 5 / torch.linalg.eigvalsh(x.T @ x).max()
    share_rate = 5 / (4 * cosines.square().sum(0).max())
    optimizer = torch.optim.SGD([w], lr=float(w_rate), momentum=0.9)
    for step in range(1, 25):
        w.grad = share.grad = None
        cross_entropy(x @ w.T + share * cosines, labels).backward()
        optimizer.step()
        if step % 10 == 0:
            share.data -= share_rate * share.grad
    scores = build("lp_plus_plus", blend=5.0, steps=24).fit(FOUR).logits(Features(QUERIES))
    assert_close(scores, normalize(QUERIES, dim=-1) @ (w + share[:, None] * t).T.detach())


def test_am3_of_single_images_is_the_even_mixture() -> None:
    support = support_of([0, 2], [0, 1, 2], 3)
    even = build("multimodal_prototypes", text_weight=0.5).fit(support).logits(Features(QUERIES))
    assert_close(build("am3").fit(support).logits(Features(QUERIES)), even)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_cosine_to_a_mixture_needs_no_mixture(share: float) -> None:
    x, p, w = (normalize(items(6, 3, seed=s), dim=-1) for s in range(3))
    found = mixture_cosine(torch.tensor(share), (x * p).sum(-1), (x * w).sum(-1), (p * w).sum(-1))
    expected = [dot(x[i].tolist(), unit((share * p[i] + (1 - share) * w[i])[None])[0]) for i in range(len(x))]
    assert found.tolist() == pytest.approx(expected)


def test_am3_learns_which_texts_to_trust() -> None:
    """Texts whose first number is 1 describe another class; those with -1 describe their own."""
    n, dim, shots = 8, 16, 4
    center = normalize(items(n, dim), dim=-1)
    wrong = torch.arange(n) < n // 2
    texts = torch.where(wrong[:, None], center.roll(1, 0), center)
    texts = torch.cat([torch.where(wrong, 1.0, -1.0)[:, None], texts], 1)
    images = center.repeat_interleave(shots, 0) + 0.3 * items(n * shots, dim, seed=1)
    images = torch.cat([torch.zeros(n * shots, 1), images], 1)
    every = torch.arange(n)
    modality = torch.tensor([IMAGE] * n * shots + [TEXT] * n)
    class_id = torch.cat([every.repeat_interleave(shots), every])
    method = build("am3", dim + 1).fit(
        SupportSet(Features(torch.cat([images, texts])), class_id, n, modality)
    )
    assert method._lambda[wrong].min() > method._lambda[~wrong].max()
    assert method._lambda[wrong].min() > 0.5


@pytest.mark.parametrize("spread", [0.1, 0.6, 2.0])
def test_the_fitted_scale_has_the_least_cross_entropy(spread: float) -> None:
    texts, labels = normalize(items(5, 6), dim=-1), torch.arange(5).repeat(4)
    cosines = normalize(texts[labels] + spread * items(20, 6, seed=1), dim=-1) @ texts.T
    losses = {s / 4: float(cross_entropy(s / 4 * cosines, labels)) for s in range(4, 401)}
    best = min(losses, key=losses.__getitem__)
    assert fit_logit_scale(cosines, labels).item() == pytest.approx(best, abs=0.25)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tip_adapter", {"alpha": 100.0}),
        ("tip_adapter_f", {"alpha": 10.0, "epochs": 50, "lr": 0.01}),
        ("linear_probe", {}),
        ("linear_probe", {"start": "text"}),
        ("cross_modal", {"c": 1.0, "scale": 1.0}),
        ("clip_adapter", {"ratio": 0.8, "epochs": 200, "lr": 0.01}),
        ("lp_plus_plus", {"blend": 25.0}),
        ("am3", {}),
    ],
)
def test_images_correct_wrong_texts(name: str, options: dict) -> None:
    n, dim, shots = 5, 16, 8
    center = items(n, dim)
    every = torch.arange(n)
    labels = every.repeat_interleave(shots)
    images = [center[labels] + 0.5 * items(n * shots, dim, seed=s) for s in (1, 2)]
    support = SupportSet(
        Features(torch.cat([images[0], center.roll(1, 0)])),
        torch.cat([labels, every]),
        n,
        torch.tensor([IMAGE] * n * shots + [TEXT] * n),
    )
    by_texts = build("zero_shot", dim).fit(support).logits(Features(images[1])).argmax(1)
    assert (by_texts == labels).double().mean() < 0.2
    predicted = build(name, dim, **options).fit(support).logits(Features(images[1])).argmax(1)
    assert (predicted == labels).double().mean() > 0.9


@pytest.mark.parametrize("name", METHODS)
def test_inference_mode_gives_the_same(name: str) -> None:
    expected = build(name).fit(FOUR).logits(Features(QUERIES))
    with torch.inference_mode():
        copied = SupportSet(
            Features(FOUR.features.embedding.clone()), FOUR.class_id.clone(), 3, FOUR.modality.clone()
        )
        scores = build(name).fit(copied).logits(Features(QUERIES.clone()))
    assert torch.equal(scores, expected)
    assert not scores.requires_grad and not expected.requires_grad


def named(class_id: list[int], modality: int) -> SupportSet:
    modalities = torch.full((len(class_id),), modality)
    names = ("cat", "dog", "owl")
    return SupportSet(Features(items(len(class_id), DIM)), torch.tensor(class_id), 3, modalities, names)


@pytest.mark.parametrize("name", [n for n in METHODS if CLASSIFIERS.get(n).needs_text])
def test_a_method_that_needs_texts_lists_those_that_do_not(name: str) -> None:
    message = r"class 'cat' \(and 2 more\) has no texts .*methods without text: cosine, .*prototypes, .*linear_probe$"
    with pytest.raises(VlfewError, match=message):
        build(name).fit(named([0, 1, 2], IMAGE))


def test_without_texts_the_linear_probe_starts_at_random() -> None:
    support = named([0, 1, 2], IMAGE)
    assert not build("linear_probe").needs_text
    assert build("linear_probe").fit(support).logits(support.features).argmax(1).tolist() == [0, 1, 2]
    method = build("linear_probe", start="text")
    assert method.needs_text
    with pytest.raises(VlfewError, match=r"class 'cat' .* has no texts"):
        method.fit(support)


@pytest.mark.parametrize("name", [n for n in METHODS if CLASSIFIERS.get(n).needs_images])
def test_a_class_without_images_is_named(name: str) -> None:
    with pytest.raises(VlfewError, match=r"class 'cat' \(and 2 more\) has no images .*use zero_shot"):
        build(name).fit(named([0, 1, 2], TEXT))


@pytest.mark.parametrize("name", [n for n in CLASSIFIERS.names() if CLASSIFIERS.get(n).grid])
def test_grid_values_are_valid_options(name: str) -> None:
    method = CLASSIFIERS.get(name)
    fields = CLASSIFIERS.options(name).model_fields
    for option, values in method.grid.items():
        assert len(set(values)) > 1
        for value in values:
            assert getattr(build(name, **{option: value}), option) == value
        assert fields[option].default in values


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tip_adapter", {"alpha": -1.0}, r"tip_adapter's alpha is -1\.0; it must be 0 "),
        ("tip_adapter", {"beta": 0.0}, r"beta is 0\.0; it must be a number above 0"),
        ("tip_adapter_f", {"epochs": 0}, "epochs is 0"),
        ("clip_adapter", {"ratio": 1.5}, r"ratio is 1\.5; it must be a number from 0 to 1"),
        ("clip_adapter", {"reduction": 0}, "reduction is 0"),
        ("linear_probe", {"c": 0.0}, r"linear_probe's c is 0\.0"),
        ("cross_modal", {"scale": -1.0}, r"scale is -1\.0"),
        ("lp_plus_plus", {"blend": 0.0}, r"blend is 0\.0"),
        ("am3", {"penalty": float("nan")}, "penalty is nan"),
    ],
)
def test_options_out_of_range(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **options)
