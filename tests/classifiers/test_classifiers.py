"""Prototypes, mixtures with text, the support set, and what holds of every few-shot method."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from tests.compare import assert_close
from tests.similarities.test_similarities import by_definition, items
from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.multimodal_prototypes import adaptive_weight, multimodal_method
from vlfew.classifiers.prototypes import Prototypes
from vlfew.classifiers.support import IMAGE, TEXT, SupportSet, append_texts
from vlfew.core.errors import ConfigError, VlfewError
from vlfew.core.features import Features, FeatureSpec


def build(name: str, dim: int, **options: object) -> FewShotMethod:
    torch.manual_seed(0)
    return CLASSIFIERS.get(name)(FeatureSpec(dim, (dim, 1, 1)), **options).double().eval()


def prototype_by_loop(rows: Tensor, metric: str) -> Tensor:
    if metric == "euclidean":
        return torch.stack(list(rows)).mean(0)
    mean = torch.stack([r / r.norm() for r in rows]).mean(0)
    return mean / mean.norm()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_prototypes_match_a_loop(metric: str) -> None:
    class_id = torch.tensor([2, 0, 1, 0, 2, 2])
    support, queries = items(6, 3), items(4, 3, seed=1)
    method = build("prototypes", 3, metric=metric)
    logits = method.fit(SupportSet(Features(support), class_id, 3)).logits(Features(queries))
    for q, c in itertools.product(range(4), range(3)):
        mean = prototype_by_loop(support[class_id == c], metric)
        assert logits[q, c].item() == pytest.approx(by_definition(None, metric, queries[q], mean))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_multimodal_prototypes_mix_what_each_class_has(weight: float) -> None:
    class_id = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    modality = torch.tensor([IMAGE, TEXT, IMAGE, TEXT, IMAGE, TEXT, TEXT])
    support, queries = items(7, 5), items(4, 5, seed=1)
    method = build("multimodal_prototypes", 5, text_weight=weight)
    logits = method.fit(SupportSet(Features(support), class_id, 3, modality)).logits(Features(queries))
    mixture = (1 - weight) * prototype_by_loop(support[[0, 2]], "cosine")
    mixture = mixture + weight * prototype_by_loop(support[[1, 3]], "cosine")
    expected = [mixture, support[4], prototype_by_loop(support[5:], "cosine")]
    for q, c in itertools.product(range(4), range(3)):
        assert logits[q, c].item() == pytest.approx(by_definition(None, "cosine", queries[q], expected[c]))


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_a_learned_similarity_is_mixed_with_the_cosine_to_the_texts(weight: float) -> None:
    torch.manual_seed(0)
    own = CLASSIFIERS.get("cross_attention")(FeatureSpec(5, (5, 2, 2)), temperature=0.5).eval()
    maps, texts = torch.randn(7, 5, 2, 2), torch.randn(3, 5)
    images, queries = (Features(m.mean((2, 3)), map=m) for m in (maps[:3], maps[3:]))
    class_id, modality = torch.arange(3), torch.tensor([IMAGE] * 3 + [TEXT] * 3)
    both = SupportSet(append_texts(images, texts), class_id.repeat(2), 3, modality)
    logits = multimodal_method(own, FeatureSpec(5), weight).fit(both).logits(queries)
    alone = own.fit(SupportSet(images, class_id, 3)).logits(queries)
    for q, c in itertools.product(range(4), range(3)):
        cosine = torch.cosine_similarity(queries.embedding[q], texts[c], dim=0)
        expected = (1 - weight) * alone[q, c] / own.similarity.score_scale + weight * cosine
        assert logits[q, c].item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_mixture_of_scores_needs_texts_of_every_class() -> None:
    torch.manual_seed(0)
    own = CLASSIFIERS.get("cross_attention")(FeatureSpec(5, (5, 2, 2))).eval()
    images = Features(torch.randn(2, 5), map=torch.randn(2, 5, 2, 2))
    features, modality = append_texts(images, torch.randn(1, 5)), torch.tensor([IMAGE, IMAGE, TEXT])
    support = SupportSet(features, torch.tensor([0, 1, 1]), 2, modality, ("cat", "mug"))
    with pytest.raises(
        VlfewError, match="class 'cat' has nothing in the support that the text share of a mixture"
    ):
        multimodal_method(own, FeatureSpec(5), 0.5).fit(support)


def with_maps(x: Tensor) -> Features:
    """Embeddings, and maps of one position."""
    return Features(x, map=x[..., None, None])


@pytest.mark.parametrize("name", CLASSIFIERS.names())
def test_a_batch_of_episodes_gives_the_logits_of_each_episode(name: str) -> None:
    class_id = torch.tensor([0, 1, 2, 0, 1, 1, 2, 2])
    support, queries = items(2, 3, 8, 4), items(2, 3, 5, 4, seed=1)
    modality = torch.tensor([IMAGE, TEXT, IMAGE, TEXT, IMAGE, TEXT, TEXT, IMAGE])
    method = build(name, 4)
    together = method.fit(SupportSet(with_maps(support), class_id, 3, modality)).logits(with_maps(queries))
    assert together.shape == (2, 3, 5, 3)
    for i, j in itertools.product(range(2), range(3)):
        alone = method.fit(SupportSet(with_maps(support[i, j]), class_id, 3, modality))
        assert_close(together[i, j], alone.logits(with_maps(queries[i, j])))


@pytest.mark.parametrize("name", CLASSIFIERS.names())
def test_a_class_without_items_is_named(name: str) -> None:
    class_id, modality = torch.tensor([0, 0, 2, 2]), torch.tensor([IMAGE, TEXT, IMAGE, TEXT])
    support = SupportSet(with_maps(items(4, 4)), class_id, 3, modality, ("cat", "dog", "owl"))
    with pytest.raises(VlfewError, match=r"class 'dog' has no(thing| images| texts) in the support"):
        build(name, 4).fit(support)


def test_adaptive_text_weights_need_two_classes_with_both() -> None:
    """The weight of a class that others lack text for stays what it was."""
    images = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    text = torch.tensor([[1.0, 1.0, 0.0]])
    features, class_id = Features(torch.cat([images, text])), torch.tensor([0, 1, 2, 0])
    support = SupportSet(features, class_id, 3, torch.tensor([IMAGE, IMAGE, IMAGE, TEXT]))
    logits = [
        build("multimodal_prototypes", 3, adaptive=a).fit(support).logits(Features(images))
        for a in (False, True)
    ]
    assert torch.equal(*logits)


def test_a_text_that_recognizes_its_images_weighs_more() -> None:
    images = torch.eye(4)
    texts = torch.eye(4)[[0, 1, 3, 2]]  # the last two are exchanged
    weight = adaptive_weight(images, texts, 0.8)[:, 0]
    assert (weight[:2] > weight[2:]).all()
    assert (weight >= 0.4).all() and (weight <= 0.8).all()
    assert adaptive_weight(images, torch.ones(4, 4) / 2, 0.8)[:, 0].tolist() == pytest.approx([0.5] * 4)


def test_text_weight_outside_its_range() -> None:
    with pytest.raises(ConfigError, match=r"text_weight is 1\.5"):
        build("multimodal_prototypes", 4, text_weight=1.5)


def test_selecting_a_modality_selects_every_part_of_the_features() -> None:
    features = Features(items(2, 3, 4), map=items(2, 3, 5, 1, 1), tokens=items(2, 3, 6, 4))
    support = SupportSet(features, torch.tensor([0, 1, 0]), 2, torch.tensor([TEXT, IMAGE, TEXT]))
    texts = support.texts
    assert texts.class_id.tolist() == [0, 0] and support.images.class_id.tolist() == [1]
    for part in ("embedding", "map", "tokens"):
        assert torch.equal(getattr(texts.features, part), getattr(features, part)[:, [0, 2]])
    means = texts.mean(texts.features.embedding)
    assert_close(means[:, 0], texts.features.embedding.mean(1))
    assert (means[:, 1] == 0).all()


def test_class_means_of_half_precision_features_are_computed_in_single_precision() -> None:
    maps = items(2, 3, 5, 2, 2).half()
    support = SupportSet(Features(maps.mean((3, 4)), map=maps), torch.tensor([1, 0, 1]), 2)
    means = support.class_means(torch.float32)
    assert means.class_id.tolist() == [0, 1] and means.one_item_per_class()
    assert_close(means.features.map[:, 1], maps.float()[:, [0, 2]].mean(1))
    assert torch.equal(means.features.map[:, 0], maps.float()[:, 1])


class Doubled(Prototypes):
    """A method in one file, for the registry."""

    def __init__(self, feature_spec: FeatureSpec, *, factor: float = 2.0) -> None:
        super().__init__(feature_spec)
        self.factor = factor

    def logits(self, queries: Features) -> Tensor:
        return self.factor * super().logits(queries)


def test_a_new_method_is_one_file_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLASSIFIERS.entries, "doubled", f"{__name__}:Doubled")
    assert CLASSIFIERS.checked("doubled", {"factor": 3}) == {"factor": 3.0}
    support, queries = SupportSet(Features(items(3, 4)), torch.arange(3), 3), Features(items(5, 4, seed=1))
    expected = 3 * build("prototypes", 4).fit(support).logits(queries)
    assert torch.equal(build("doubled", 4, factor=3.0).fit(support).logits(queries), expected)
