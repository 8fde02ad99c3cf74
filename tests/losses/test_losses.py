"""Every term against plain loops, and on the batches that break losses."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from tests.compare import assert_close
from tests.losses.conftest import LABELS, MAP, MAPS_ALONE, build, encoded, unit
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features, FeatureSpec
from vlfew.losses import LOSSES
from vlfew.losses.batch import EncodedBatch
from vlfew.similarities.euclidean import Euclidean


@pytest.mark.parametrize("distance", ["euclidean", "squared", "l1"])
@pytest.mark.parametrize("normalize", [True, False])
def test_contrastive_is_the_balanced_mean_over_pairs(distance, normalize):
    batch = encoded(LABELS)
    x = unit(batch.image.embedding) if normalize else batch.image.embedding
    same, different = [], []
    for i, j in itertools.combinations(range(len(LABELS)), 2):
        difference = x[i] - x[j]
        d = {"euclidean": difference.norm(), "squared": difference.norm() ** 2, "l1": difference.abs().sum()}[
            distance
        ]
        if LABELS[i] == LABELS[j]:
            same.append(0.5 * d**2)
        else:
            different.append(0.5 * max(0, 1.3 - d) ** 2)
    expected = (sum(same) / len(same) + sum(different) / len(different)) / 2
    loss = LOSSES.get("contrastive")(margin=1.3, distance=distance, normalize=normalize)(batch)
    assert_close(loss, torch.as_tensor(expected))


def test_contrastive_against_pytorch_metric_learning_conventions():
    """A positive pair at D costs D^2/2, a negative one inside the margin (m-D)^2/2: not the bare hinge."""
    batch = EncodedBatch(Features(torch.tensor([[0.0, 0.0], [0.6, 0.0]])), torch.tensor([0, 0]))
    loss = LOSSES.get("contrastive")(normalize=False)
    assert loss(batch).item() == pytest.approx(0.5 * 0.36 / 2)
    batch.labels = torch.tensor([0, 1])
    fresh = EncodedBatch(batch.image, batch.labels)
    assert loss(fresh).item() == pytest.approx(0.5 * 0.16 / 2)


def test_binary_cross_entropy_on_koch_similarity():
    batch = encoded(LABELS)
    alpha, bias = batch.similarity.linear.weight[0], batch.similarity.linear.bias
    same, different = [], []
    x = batch.image.embedding
    for i, j in itertools.combinations(range(len(LABELS)), 2):
        p = torch.sigmoid((alpha * (x[i] - x[j]).abs()).sum() + bias[0])
        (same if LABELS[i] == LABELS[j] else different).append(
            -torch.log(p) if LABELS[i] == LABELS[j] else -torch.log(1 - p)
        )
    expected = (sum(same) / len(same) + sum(different) / len(different)) / 2
    assert_close(LOSSES.get("binary_cross_entropy")()(batch), expected)


def test_supervised_contrastive_is_khosla_eq_2():
    batch, t = encoded(LABELS), 0.2
    x = unit(batch.image.embedding)
    rows = []
    for i in range(len(LABELS)):
        positives = [p for p in range(len(LABELS)) if p != i and LABELS[p] == LABELS[i]]
        if not positives:
            continue
        denominator = sum(torch.exp(x[i] @ x[a] / t) for a in range(len(LABELS)) if a != i)
        rows.append(
            -sum(torch.log(torch.exp(x[i] @ x[p] / t) / denominator) for p in positives) / len(positives)
        )
    assert_close(LOSSES.get("supervised_contrastive")(temperature=t)(batch), torch.stack(rows).mean())


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_prototypical_leaves_the_query_out_of_its_own_prototype(metric):
    batch = encoded(LABELS)
    x = unit(batch.image.embedding) if metric == "cosine" else batch.image.embedding
    rows = []
    for q in range(len(LABELS)):
        scores = []
        for c in range(4):
            members = [i for i in range(len(LABELS)) if LABELS[i] == c and i != q]
            if not members:
                break
            prototype = torch.stack([x[i] for i in members]).mean(0)
            if metric == "cosine":
                scores.append(x[q] @ prototype / prototype.norm() / 0.5)
            else:
                scores.append(-((x[q] - prototype) ** 2).sum() / 0.5)
        if len(scores) == 4:
            rows.append(-torch.stack(scores).log_softmax(0)[LABELS[q]])
    loss = LOSSES.get("prototypical")(metric=metric, temperature=0.5)(batch)
    assert_close(loss, torch.stack(rows).mean())


def test_softmax_alignment_contrasts_each_right_answer_with_wrong_ones_only():
    texts = [0, 1, 2, 3, 1]
    batch = encoded(LABELS, texts=texts)
    s = unit(batch.image.embedding) @ unit(batch.text).T / 0.07

    def one_way(rows, columns, score):
        per_row = []
        for i, label in enumerate(rows):
            wrong = sum(torch.exp(score(i, j)) for j, other in enumerate(columns) if other != label)
            right = [j for j, other in enumerate(columns) if other == label]
            terms = [-torch.log(torch.exp(score(i, j)) / (torch.exp(score(i, j)) + wrong)) for j in right]
            per_row.append(sum(terms) / len(terms))
        return sum(per_row) / len(per_row)

    expected = (
        one_way(LABELS, texts, lambda i, j: s[i, j]) + one_way(texts, LABELS, lambda i, j: s[j, i])
    ) / 2
    assert_close(LOSSES.get("alignment_softmax")()(batch), expected)


def test_softmax_alignment_can_reach_zero_with_several_images_of_a_class():
    corners = torch.eye(16)
    batch = EncodedBatch(
        Features(corners.repeat_interleave(4, 0)),
        torch.arange(16).repeat_interleave(4),
        text=corners,
        text_labels=torch.arange(16),
    )
    assert LOSSES.get("alignment_softmax")(temperature=0.01)(batch).item() < 1e-6


def test_sigmoid_alignment_is_siglip_eq_1():
    texts = [0, 1, 2, 3]
    batch = encoded(LABELS, texts=texts)
    s = unit(batch.image.embedding) @ unit(batch.text).T
    total = 0.0
    for i, j in itertools.product(range(len(LABELS)), range(len(texts))):
        z = 1 if LABELS[i] == texts[j] else -1
        total = total - torch.log(torch.sigmoid(z * (s[i, j] * 10 - 10)))
    assert_close(LOSSES.get("alignment_sigmoid")()(batch), total / len(LABELS))


def test_distillation_is_the_divergence_from_the_text_encoders_similarities():
    labels, texts = [*LABELS, 4], [0, 1, 2, 3, 1, 5]  # an image without a text, and a text without an image
    batch = encoded(labels, texts=texts)
    s = unit(batch.image.embedding) @ unit(batch.text).T / 0.07
    teacher = unit(batch.text_vectors) @ unit(batch.text_vectors).T / 0.1
    of_image = [[j for j, text in enumerate(texts) if text == label] for label in labels]

    def divergence(p, logits):
        return sum(p[k] * (torch.log(p[k]) - logits.log_softmax(0)[k]) for k in range(len(p)) if p[k] > 0)

    rows = []
    for i, own in enumerate(of_image):
        if own:
            rows.append(divergence(sum(teacher[a].softmax(0) for a in own) / len(own), s[i]))
    columns = []
    for j, text in enumerate(texts):
        if text in labels:
            near = [sum(teacher[j, a] for a in own) / len(own) for own in of_image if own]
            columns.append(divergence(torch.cat([torch.stack(near).softmax(0), torch.zeros(1)]), s[:, j]))
    expected = (sum(rows) / len(rows) + sum(columns) / len(columns)) / 2
    assert_close(LOSSES.get("alignment_distillation")(teacher_temperature=0.1)(batch), expected)


def test_distillation_does_not_train_its_teacher():
    batch = encoded(LABELS, texts=[0, 1, 2, 3])
    batch.text_vectors.requires_grad_()
    build("alignment_distillation")(batch).backward()
    assert batch.text_vectors.grad is None and batch.text.grad.norm() > 0


# Those that look at maps alone have tests of their own.
ALL = [name for name in LOSSES.names() if name not in MAPS_ALONE]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_a_finite_loss_near_the_full_one(name, dtype):
    batch = encoded(LABELS, texts=[0, 1, 2, 3])
    term = build(name)
    full = term(batch)
    rounded = replace(
        batch,
        image=batch.image.apply(lambda t: t.to(dtype).float()),
        text=batch.text.to(dtype).float(),
    )
    assert term(rounded).item() == pytest.approx(full.item(), rel=0.05)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "labels", [[0, 1, 2], [0, 0, 0], [0]], ids=["no positive", "no negative", "a single image"]
)
def test_batches_without_valid_pairs_give_numbers_and_gradients(name, labels):
    batch = encoded(labels, texts=sorted(set(labels)))
    loss = build(name)(batch)
    assert loss.isfinite() and loss.ndim == 0
    loss.backward()
    assert batch.image.embedding.grad is None or batch.image.embedding.grad.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_equal_vectors_give_finite_gradients(name):
    batch = encoded(LABELS, texts=[0, 1, 2, 3])
    same = torch.ones(len(LABELS), 8, requires_grad=True)
    batch.image = Features(same, map=torch.ones(len(LABELS), *MAP, requires_grad=True))
    build(name)(batch).backward()
    assert same.grad.isfinite().all()
    assert batch.image.map.grad is None or batch.image.map.grad.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_gradient_agrees_with_finite_differences(name):
    batch = encoded(LABELS, dim=4, texts=[0, 1, 2, 3], dtype=torch.float64)
    term = build(name, dim=4).double()
    similarity = batch.similarity.double()
    image, text, maps = batch.image.embedding.detach(), batch.text.detach(), batch.image.map.detach()

    def loss(x):
        return term(replace(batch, image=Features(x, map=maps), text=text, similarity=similarity))

    assert torch.autograd.gradcheck(loss, (image.clone().requires_grad_(),))


@pytest.mark.parametrize("name", ALL)
def test_a_few_steps_lower_the_loss(name):
    batch = encoded(LABELS, texts=[0, 1, 2, 3])
    term = build(name)
    image = batch.image.embedding.detach().clone().requires_grad_()
    text, maps = batch.text.detach().clone().requires_grad_(), batch.image.map.detach()
    optimizer = torch.optim.Adam([image, text], lr=0.05)

    def loss():
        return term(replace(batch, image=Features(image, map=maps), text=text))

    before = loss().item()
    for _ in range(20):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < before


def test_temperature_has_a_ceiling_and_a_floor():
    from vlfew.losses.logit_scale import MAX_SCALE, LogitScale

    scale = LogitScale(0.07, learned=True)
    assert scale().item() == pytest.approx(1 / 0.07)
    scale.log.data.fill_(math.log(1e6))
    assert scale().item() == MAX_SCALE


@pytest.mark.parametrize(
    "name", ["focal", "supervised_contrastive", "prototypical", "alignment_softmax", "alignment_sigmoid"]
)
def test_a_temperature_out_of_range_is_an_error(name):
    message = (
        r"^temperature is 0\.005; it must be 0\.01 or more, since similarities are multiplied by 100 at most$"
    )
    with pytest.raises(ConfigError, match=message):
        LOSSES.get(name)(temperature=0.005)
    assert LOSSES.get(name)(temperature=0.01).scale().item() == pytest.approx(100)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("contrastive", "margin"),
        ("weighted_contrastive", "margin"),
        ("triplet", "margin"),
        ("focal", "temperature"),
        ("supervised_contrastive", "temperature"),
        ("prototypical", "temperature"),
        ("alignment_softmax", "temperature"),
        ("alignment_sigmoid", "temperature"),
    ],
)
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_margins_and_temperatures_are_above_zero(name, option, value):
    with pytest.raises(ConfigError, match=f"^{option} is {value}; it must be a number above 0$"):
        LOSSES.get(name)(**{option: value})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "contrastive",
            {"distance": "cosine"},
            "distance is 'cosine'; it must be one of euclidean, squared, l1",
        ),
        ("contrastive", {"margin": "1"}, "margin is '1'; it must be a number above 0"),
        ("contrastive", {"margin": 2.5}, "margin is 2.5, and unit vectors are at most 2 apart"),
        ("triplet", {"margin": 5.0}, "margin is 5.0, and unit vectors are at most 4 apart"),
        ("triplet", {"mining": "hard"}, "mining is 'hard'; it must be one of all, batch_hard, semi_hard"),
        ("prototypical", {"metric": "l1"}, "metric is 'l1'; it must be one of euclidean, cosine"),
        ("binary_cross_entropy", {"scale": -3.0}, "scale is -3.0; it must be a number above 0"),
    ],
)
def test_options_out_of_range_are_errors(name, options, message):
    with pytest.raises(ConfigError, match=message) as error:
        LOSSES.get(name)(**options)
    assert "\n" not in str(error.value)
    if "margin" in options and isinstance(options["margin"], float):
        LOSSES.get(name)(**options, normalize=False)


def test_a_bias_lets_squared_distances_predict_same():
    """Below 0 as they are, no pair has a probability above one half without it."""
    batch = EncodedBatch(
        Features(torch.tensor([[0.0, 0.0], [0.1, 0.0]])),
        torch.tensor([0, 0]),
        similarity=Euclidean(FeatureSpec(2)),
    )
    plain, lifted = (LOSSES.get("binary_cross_entropy")(bias=b)(batch).item() for b in (0.0, 5.0))
    # Of no different pair the share is lost.
    assert plain == pytest.approx(math.log(1 + math.exp(0.01)) / 2)
    assert lifted == pytest.approx(math.log(1 + math.exp(0.01 - 5)) / 2)
