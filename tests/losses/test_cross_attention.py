"""The losses of cross attention against loops over query and position."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.compare import assert_close
from tests.similarities.test_cross_attention import attended, attention, random, unit
from vlfew.core.errors import ConfigError, VlfewError
from vlfew.core.features import Features, FeatureSpec
from vlfew.losses import LOSSES
from vlfew.losses.base import LossContext
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.episodes import cut_into_episodes
from vlfew.similarities.cross_attention import CrossAttention

SIZE = (3, 2, 2)
CLASSES = 9
LABELS = torch.tensor([7, 7, 7, 2, 2, 2, 5, 5, 5, 1, 1, 1])
"""Two episodes of two classes: 7 and 2, 5 and 1."""


def build(channels: int, height: int, width: int, **options: float) -> CrossAttention:
    torch.manual_seed(0)
    similarity = CrossAttention(FeatureSpec(1, (channels, height, width)), **options).double()  # type: ignore[arg-type]
    similarity.norm.running_mean.uniform_(-0.1, 0.1)
    similarity.norm.running_var.uniform_(0.5, 2)
    return similarity.eval().requires_grad_(False)


def batch(maps: Tensor, similarity: object = None) -> EncodedBatch:
    image = Features(maps.new_zeros(len(maps), 1), map=maps)
    return EncodedBatch(image, LABELS, target=LABELS + 1, similarity=similarity)  # type: ignore[arg-type]


def term(name: str, **options: int) -> torch.nn.Module:
    torch.manual_seed(1)
    kind = LOSSES.get(name)
    trained = (LossContext(FeatureSpec(1, SIZE), CLASSES),) if kind.needs_classes else ()
    return kind(*trained, **options).double()


def cross_entropy(logits: list[float], target: int) -> float:
    return math.log(sum(math.exp(x) for x in logits)) - logits[target]


def episodes_by_hand(maps: Tensor):
    """(class maps, query map, its class in the episode, its label), for 2 ways and 1 shot."""
    for first in (0, 6):
        classes = [maps[first].flatten(1), maps[first + 3].flatten(1)]
        for own, start in enumerate((first, first + 3)):
            for place in (start + 1, start + 2):
                yield classes, maps[place].flatten(1), own, int(LABELS[place])


def test_nearest_matches_a_loop():
    similarity, maps = build(*SIZE), random(12, *SIZE)
    losses = []
    for classes, query, own, _ in episodes_by_hand(maps):
        pooled = [unit(attended(c, attention(similarity, c, query))) for c in classes]
        for j in range(query.shape[1]):
            logits = [similarity.score_scale * float(p @ unit(query[:, j])) for p in pooled]
            losses.append(cross_entropy(logits, own))
    loss = term("cross_attention", ways=2)(batch(maps, similarity))
    assert len(losses) == 8 * 4 and loss.item() == pytest.approx(sum(losses) / len(losses))


def test_classes_match_a_loop():
    similarity, maps, loss = build(*SIZE), random(12, *SIZE), term("cross_attention_classes", ways=2)
    losses = []
    for classes, query, own, label in episodes_by_hand(maps):
        weights = attention(similarity, query, classes[own])
        for j, weight in enumerate(weights):
            losses.append(cross_entropy(loss.dense((1 + weight) * query[:, j]).tolist(), label + 1))
    assert loss(batch(maps, similarity)).item() == pytest.approx(sum(losses) / len(losses))


def test_map_cross_entropy_matches_a_loop():
    maps, loss = random(12, *SIZE), term("map_cross_entropy")
    losses = [
        cross_entropy(loss.dense(maps[b, :, y, x]).tolist(), int(LABELS[b]) + 1)
        for b in range(12)
        for y in range(2)
        for x in range(2)
    ]
    assert loss(batch(maps)).item() == pytest.approx(sum(losses) / len(losses))


def test_two_shots_make_one_class_map():
    similarity, maps = build(*SIZE), random(12, *SIZE)
    pair = maps.clone()
    pair[0:2] = maps[0:2].mean(0)
    for name in ("cross_attention", "cross_attention_classes"):
        one, two = (term(name, ways=2, shots=2)(batch(m, similarity)) for m in (maps, pair))
        assert_close(one, two)


@pytest.mark.parametrize("name", ["cross_attention", "cross_attention_classes", "map_cross_entropy"])
def test_gradients(name: str):
    similarity = build(*SIZE, temperature=0.5).train().requires_grad_()
    loss, maps = term(name), random(12, *SIZE).requires_grad_()
    if name != "map_cross_entropy":
        loss.ways = 2
    weights = [*loss.parameters(), *(similarity.parameters() if loss.trains_similarity else ())]
    assert torch.autograd.gradcheck(lambda x, *_: loss(batch(x, similarity)), (maps, *weights))
    grads = torch.autograd.grad(loss(batch(maps, similarity)), weights, allow_unused=True)
    assert all(g is not None for g in grads)


@pytest.mark.parametrize("name", ["cross_attention", "cross_attention_classes", "map_cross_entropy"])
def test_equal_maps_give_finite_gradients_and_a_few_steps_lower_the_loss(name: str):
    similarity, loss = build(*SIZE).requires_grad_(), term(name)
    if name != "map_cross_entropy":
        loss.ways = 2
    equal = torch.ones(12, *SIZE, dtype=torch.float64, requires_grad=True)
    loss(batch(equal, similarity)).backward()
    assert equal.grad is not None and equal.grad.isfinite().all()
    maps = random(12, *SIZE).requires_grad_()
    optimizer = torch.optim.Adam([maps, *loss.parameters(), *similarity.parameters()], lr=0.05)
    values = []
    for _ in range(20):
        values.append(loss(batch(maps, similarity)))
        optimizer.zero_grad()
        values[-1].backward()
        optimizer.step()
    assert values[-1].item() < 0.9 * values[0].item()


def test_episodes_hold_every_image_once_and_no_class_twice():
    labels = torch.tensor([9, 9, 3, 3, 3, 9, 5, 1, 5, 1, 5, 1])
    support, query = cut_into_episodes(labels, 2, 1)
    assert support.shape == (2, 2, 1) and query.shape == (2, 2, 2)
    assert sorted([*support.flatten().tolist(), *query.flatten().tolist()]) == list(range(12))
    assert labels[support[..., 0]].tolist() == [[9, 3], [5, 1]]  # in order of appearance
    assert (labels[query] == labels[support]).all()


@pytest.mark.parametrize(
    ("labels", "ways", "shots", "message"),
    [
        (
            [0, 0, 1, 1, 2, 2],
            2,
            1,
            "3 classes cannot be cut into episodes of 2 ways; set sampling.classes_per_batch",
        ),
        ([0, 0, 1, 1], 2, 2, r"has 2 image\(s\), and episodes of 2 shot\(s\) need at least 3; raise"),
        ([0, 0, 0, 1, 1], 2, 1, "2 to 3 images, and episodes need the same number of each"),
    ],
)
def test_batches_that_make_no_episodes_are_an_error(labels, ways, shots, message):
    with pytest.raises(ConfigError, match=message):
        cut_into_episodes(torch.tensor(labels), ways, shots)


@pytest.mark.parametrize("options", [{"ways": 1}, {"shots": 0}])
def test_bad_options_are_errors(options: dict[str, int]):
    with pytest.raises(ConfigError, match="ways must be at least 2 and shots 1"):
        term("cross_attention", **options)


def test_without_maps_the_error_names_them():
    with pytest.raises(VlfewError, match=r"map_cross_entropy needs features\.map"):
        LOSSES.get("map_cross_entropy")(LossContext(FeatureSpec(4), 3))
    bare = replace(batch(random(12, *SIZE), build(*SIZE)), image=Features(random(12, 1)))
    with pytest.raises(VlfewError, match=r"needs features\.map"):
        term("cross_attention", ways=2)(bare)
