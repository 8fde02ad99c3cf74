"""Pseudo-Siamese models (`share_weights: false`): losses, saving, loading and use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tests.compare import assert_close, relative_difference
from vlfew.core.errors import ModelError
from vlfew.core.features import Features, FeatureSpec
from vlfew.losses import LOSSES
from vlfew.losses.batch import BatchPairs, EncodedBatch
from vlfew.models import DualStream, FewShotClassifier, ModelSpec, load, save_model
from vlfew.models.serialization import parameter_counts
from vlfew.models.spec import TextSpec
from vlfew.similarities import SIMILARITIES
from vlfew.similarities.unshared import UnsharedSimilarity

SPEC = ModelSpec(
    backbone="conv4",
    backbone_options={"width": 8, "norm": "group"},
    embedding_dim=6,
    image_size=16,
    share_weights=False,
)


def build(**changes: object):
    torch.manual_seed(0)
    return DualStream.from_spec(SPEC.model_copy(update=changes)).eval()


def images(count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 1, 16, 16), generator=generator, dtype=torch.uint8)


def test_both_backbones_have_weights_of_their_own():
    model, single = build(), build(share_weights=True)
    count = sum(p.numel() for p in single.backbone.parameters()) + 6 * (single.backbone.dim + 1)
    assert sum(p.numel() for p in model.parameters()) == 2 * count
    left, right = model.encode_image(images()).chunk(2, dim=1)
    x = (images().float() - model.pixel_mean) / model.pixel_std
    assert_close(left, model.image_projection(model.backbone(x).embedding).detach())
    assert_close(right, model.right_projection(model.right_backbone(x).embedding).detach())
    assert relative_difference(left, right) > 1e-3


@pytest.mark.parametrize("similarity", ["cosine", "euclidean", "weighted_l1"])
def test_swapping_a_pair_gives_the_same_score(similarity):
    model = build(similarity=similarity)
    features = model.image_features(images(6))
    a, b = features[:3], features[3:]
    found = model.similarity_by_name()
    assert torch.equal(found.pairwise(a, b), found.pairwise(b, a))


@pytest.mark.parametrize("views, ways", [("hflip", 2), ("rot90", 4)])
def test_views_are_compared_with_views_of_the_same_kind(views, ways):
    plain, several = build(), build(tta=views)
    x = images(6)
    view = {"hflip": lambda n: x.flip(3) if n else x, "rot90": lambda n: x.rot90(n, (2, 3))}[views]
    expected = torch.zeros(3)
    for n in range(ways):
        own = plain.image_features(view(n))
        expected += plain.similarity_by_name("cosine").pairwise(own[:3], own[3:]) / ways
    joined = several.image_features(x)
    assert_close(several.similarity_by_name("cosine").pairwise(joined[:3], joined[3:]), expected)


def test_save_and_load(tmp_path: Path):
    model = build(similarity="weighted_l1")
    save_model(model, tmp_path)
    again, x = load(tmp_path), images(6)
    assert not again.spec.share_weights
    features = model.image_features(x)
    assert torch.equal(again.encode_image(x), features.embedding)
    assert again.embedding_size == features.embedding.shape[1] == 2 * again.dim
    pair = [m.similarity_by_name().pairwise(features[:3], features[3:]).detach() for m in (model, again)]
    assert torch.equal(*pair)


@pytest.mark.parametrize("frozen", [False, True])
def test_both_backbones_are_counted_frozen_or_trained(frozen: bool, tmp_path: Path):
    model = build(backbone_frozen=frozen)
    save_model(model, tmp_path)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    assert parameter_counts(tmp_path) == (trained, total - trained)
    model.train()
    assert model.right_backbone.training == model.backbone.training == (not frozen)


def test_classifier(tmp_path: Path):
    shots = [Image.fromarray(p[0].numpy()) for p in images(3)]
    model = build(similarity="euclidean")
    classifier = FewShotClassifier.from_classes(model, {"a": shots[0], "b": [shots[1]], "c": shots[2]})
    support = model.image_features(images(3))
    scores = classifier.decision_function(shots)
    for q in range(3):
        for c in range(3):
            pair = model.similarity_by_name("euclidean").pairwise(support[q : q + 1], support[c : c + 1])
            assert scores[q, c].item() == pytest.approx(pair.item(), rel=1e-4)


def test_texts_are_refused():
    with pytest.raises(ModelError, match="no joint space for texts"):
        build(text=TextSpec(encoder="minilm"))


def encoded(drawn: BatchPairs | None = None) -> EncodedBatch:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 8, generator=generator, dtype=torch.float64).requires_grad_()
    torch.manual_seed(0)
    similarity = UnsharedSimilarity(SIMILARITIES.get("weighted_l1")(FeatureSpec(4)).double())
    labels = torch.tensor([0, 0, 1, 1, 2, 3])
    return EncodedBatch(Features(x), labels, similarity=similarity, sampled_pairs=drawn, unshared=True)


DRAWN = BatchPairs(torch.tensor([0, 5, 2]), torch.tensor([1, 0, 4]), torch.tensor([True, False, False]))


@pytest.mark.parametrize("drawn", [None, DRAWN])
@pytest.mark.parametrize("normalize", [True, False])
def test_contrastive_compares_the_left_of_each_with_the_right_of_the_other(drawn, normalize):
    batch = encoded(drawn)
    unit = (lambda v: F.normalize(v, dim=0)) if normalize else (lambda v: v)
    losses = {True: [], False: []}
    for i, j, same in zip(*(t.tolist() for t in batch.pairs), strict=True):
        for a, b in ((i, j), (j, i)):
            x = batch.image.embedding
            d = (unit(x[a, :4]) - unit(x[b, 4:])).norm()
            losses[same].append(d**2 / 2 if same else max(0, 1 - d) ** 2 / 2)
    expected = sum(sum(own) / len(own) for own in losses.values()) / 2
    loss = LOSSES.get("contrastive")(normalize=normalize)(batch)
    assert_close(loss, expected)
    loss.backward()
    assert (batch.image.embedding.grad.abs().sum(0) > 0).all()


def test_binary_cross_entropy_trains_the_similarity():
    batch = encoded(DRAWN)
    i, j, same = DRAWN
    logit = batch.similarity.pairwise(batch.image[i], batch.image[j])
    each = F.binary_cross_entropy_with_logits(logit, same.double(), reduction="none")
    expected = (each[0] + (each[1] + each[2]) / 2) / 2
    assert_close(LOSSES.get("binary_cross_entropy")()(batch), expected)
