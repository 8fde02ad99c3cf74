from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from tests.compare import assert_close, relative_difference
from tests.losses.conftest import LABELS, MAP, build, encoded, unit
from vlfew.core.errors import DataError, ModelError, VlfewError
from vlfew.core.features import Features, FeatureSpec
from vlfew.losses import LOSSES
from vlfew.losses.base import LossContext
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.weighted_contrastive import center_vectors
from vlfew.models.dual_stream import DualStream
from vlfew.models.spec import ModelSpec


def test_weighted_contrastive_is_its_formula():
    batch = encoded(LABELS)
    x, maps = unit(batch.image.embedding).tolist(), batch.image.map.tolist()

    def center(i):
        """Of a map of 3 by 4: the middle row, the mean of the two middle columns."""
        return [(channel[1][1] + channel[1][2]) / 2 for channel in maps[i]]

    same, different = [], []
    for i, j in itertools.combinations(range(len(LABELS)), 2):
        a, b = center(i), center(j)
        w = sum(p * q for p, q in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
        w = min(max(w, 0.0), 1.0)
        d = math.dist(x[i], x[j])
        if LABELS[i] == LABELS[j]:
            same.append((1 - w) * d)
        else:
            different.append(w * max(0.0, 1.3 - d))
    expected = (sum(same) / len(same) + sum(different) / len(different)) / 2
    loss = build("weighted_contrastive", margin=1.3)(batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("size", "cells"), [((1, 1), [0]), ((3, 3), [4]), ((2, 2), [0, 1, 2, 3]), ((4, 3), [4, 7])]
)
def test_the_center_of_a_map(size, cells):
    maps = torch.rand(2, 5, *size)
    expected = maps.flatten(2)[:, :, cells].mean(2)
    assert_close(center_vectors(maps), expected)


def test_opposite_centers_count_as_a_cosine_of_0():
    """A cosine below 0 counts as 0: a same pair in full, a different one not at all."""
    maps = torch.tensor([1.0, -1.0])[:, None, None, None].expand(2, 5, 1, 1)
    x = torch.tensor([[0.0, 0], [0.5, 0]])
    term = build("weighted_contrastive", normalize=False)
    assert term(EncodedBatch(Features(x, map=maps), torch.tensor([0, 0]))).item() == pytest.approx(0.5 / 2)
    assert term(EncodedBatch(Features(x, map=maps), torch.tensor([0, 1]))).item() == 0


def test_the_weight_gets_no_gradient():
    batch = encoded(LABELS)
    build("weighted_contrastive")(batch).backward()
    assert batch.image.map.grad is None and batch.image.embedding.grad.abs().sum() > 0


def test_adaptive_cross_entropy_is_that_of_both_branches():
    batch = encoded(LABELS)
    term = build("adaptive_cross_entropy")
    with torch.no_grad():
        term.alpha.fill_(0.7)
        term.beta.fill_(0.2)
    losses = []
    for i, label in enumerate(LABELS):
        pooled = torch.stack([channel.sum() / (MAP[1] * MAP[2]) for channel in batch.image.map[i]])
        y1 = term.of_embedding.weight @ batch.image.embedding[i] + term.of_embedding.bias
        y2 = term.of_map.weight @ pooled + term.of_map.bias
        p = torch.exp(0.7 * y1 + 0.2 * y2)
        losses.append(-torch.log(p[label] / p.sum()).item())
    assert term(batch).item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_shares_of_the_branches_start_equal_and_are_learned():
    term = build("adaptive_cross_entropy")
    assert term.alpha.item() == term.beta.item() == 0.5
    term(encoded(LABELS)).backward()
    assert term.alpha.grad != 0 and term.beta.grad != 0


def test_adaptive_cross_entropy_trains_the_map():
    batch = encoded(LABELS, dtype=torch.float64)
    term = build("adaptive_cross_entropy").double()

    def loss(maps):
        return term(replace(batch, image=Features(batch.image.embedding.detach(), map=maps)))

    assert torch.autograd.gradcheck(loss, (batch.image.map,))


def test_a_model_without_maps_is_an_error():
    with pytest.raises(VlfewError, match=r"adaptive_cross_entropy needs features\.map"):
        LOSSES.get("adaptive_cross_entropy")(LossContext(FeatureSpec(8), 4))
    batch = replace(encoded(LABELS), image=Features(torch.eye(7)))
    with pytest.raises(VlfewError, match=r"weighted_contrastive needs features\.map"):
        build("weighted_contrastive")(batch)


@pytest.mark.parametrize(
    ("backbone", "options", "dim", "same"),
    [
        ("resnet12", {"widths": [4, 4, 4, 4]}, None, True),
        ("resnet12", {"widths": [4, 4, 4, 4]}, 4, False),
        ("conv4", {"width": 4, "head": "average"}, None, True),
        # One position is left: flattened or averaged, it is the same.
        ("conv4", {"width": 4}, None, True),
        ("conv4", {"widths": [4, 4, 4]}, None, False),
    ],
)
def test_two_branches_with_the_same_vector_are_an_error(backbone, options, dim, same):
    spec = ModelSpec(backbone=backbone, backbone_options=options, image_size=16, embedding_dim=dim)
    model = DualStream.from_spec(spec).eval()
    features = model(torch.randint(256, (2, 1, 16, 16))).image
    mean = features.map.mean((2, 3))
    assert same == (
        mean.shape == features.embedding.shape and relative_difference(mean, features.embedding) < 1e-4
    )
    trained = LossContext(model.feature_spec, 4)
    if same:
        with pytest.raises(ModelError, match=r"^adaptive_cross_entropy .* which are the same vector [^\n]*$"):
            LOSSES.get("adaptive_cross_entropy")(trained)
    else:
        LOSSES.get("adaptive_cross_entropy")(trained)


def test_unknown_classes_are_an_error():
    with pytest.raises(DataError, match="a classification loss needs the class of each image"):
        build("adaptive_cross_entropy")(replace(encoded(LABELS), target=None))
