"""Models whose similarity is cross attention: use, saving, and errors where it does not fit."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from tests.compare import assert_close
from tests.conftest import make_data
from tests.evaluation.fakes import run
from vlfew.classifiers.prototypes import Prototypes
from vlfew.classifiers.support import SupportSet
from vlfew.core.errors import ConfigError, ModelError, VlfewError
from vlfew.core.features import Features
from vlfew.evaluation.context import EvaluationContext
from vlfew.models import DualStream, FewShotClassifier, ModelSpec, load, save_model

SPEC = ModelSpec(
    backbone="conv4",
    backbone_options={"widths": [8, 8]},
    embedding_dim=None,
    similarity="cross_attention",
    similarity_options={"temperature": 0.1},
    image_size=16,
)


@pytest.fixture(scope="module")
def model() -> DualStream:
    torch.manual_seed(0)
    built = DualStream.from_spec(SPEC)
    built.similarity.norm.running_mean.uniform_(-0.5, 0.5)
    return built.eval()


@pytest.fixture
def context(model: DualStream) -> EvaluationContext:
    return EvaluationContext(model, make_data(classes=21, images=8, groups=1))


def images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 1, 16, 16), generator=generator, dtype=torch.uint8)


def test_images_are_encoded_with_maps_in_half_precision(model):
    encoded = model.image_features(images(3))
    assert encoded.map is not None and encoded.map.shape == (3, 8, 4, 4) and encoded.map.dtype == torch.half


def test_methods_have_the_trained_weights(model, tmp_path):
    x = model.image_features(images(8))
    support, queries = SupportSet(x[:3], torch.arange(3), 3), x[3:]
    own = model.few_shot_method().fit(support).logits(queries)
    assert own.shape == (5, 3) and not own.requires_grad
    assert torch.equal(model.few_shot_method("cross_attention").fit(support).logits(queries), own)
    transductive = model.few_shot_method("cross_attention_transductive")
    assert transductive.similarity.temperature == 0.1 and transductive.transductive
    for key, value in model.similarity.state_dict().items():
        assert torch.equal(transductive.similarity.state_dict()[key], value)
    assert not torch.equal(transductive.fit(support).logits(queries), own)
    assert isinstance(model.few_shot_method("prototypes"), Prototypes)
    save_model(model, tmp_path)
    again = load(tmp_path)
    assert torch.equal(again.few_shot_method().fit(support).logits(queries), own)


@pytest.mark.parametrize("name", ["cross_attention", "cross_attention_transductive"])
def test_a_model_trained_for_another_similarity_has_none(name):
    other = DualStream.from_spec(SPEC.model_copy(update={"similarity": "cosine", "similarity_options": {}}))
    with pytest.raises(
        ModelError, match="no trained cross_attention; train it with similarity: cross_attention"
    ):
        other.few_shot_method(name)


def test_a_backbone_without_maps_is_a_one_line_error():
    spec = SPEC.model_copy(
        update={"backbone": "timm:test_vit", "backbone_options": {}, "image_size": 32, "channels": 3}
    )
    if (
        DualStream.from_spec(
            spec.model_copy(update={"similarity": "cosine", "similarity_options": {}})
        ).feature_spec.map
        is None
    ):
        backbone = "timm:test_vit"
    else:
        backbone = "torchvision:shufflenet_v2_x0_5"
    with pytest.raises(VlfewError, match=r"cross_attention needs features\.map") as error:
        DualStream.from_spec(spec.model_copy(update={"backbone": backbone, "image_size": 64}))
    assert "\n" not in str(error.value)


def test_classifier_uses_cross_attention(model):
    x = images(5)
    shots = [Image.fromarray(image[0].numpy()) for image in x]
    classifier = FewShotClassifier.from_classes(model, {"a": [shots[0], shots[1]], "b": shots[2]})
    encoded = model.image_features(x)
    expected = (
        model.few_shot_method().fit(SupportSet(encoded[:3], torch.tensor([0, 0, 1]), 2)).logits(encoded[3:])
    )
    found = torch.from_numpy(classifier.decision_function(shots[3:]))
    assert_close(found, expected[:, 1] - expected[:, 0])


@pytest.mark.parametrize("protocol", ["few-shot", "omniglot-trials"])
def test_episodes_go_through_the_maps_of_the_bank(context, protocol):
    options = (
        {"ways": 4, "queries": 3, "episodes": 30} if protocol == "few-shot" else {"ways": 4, "trials": 80}
    )
    result, outcome = run(context, protocol, **options)
    assert result.get("transductive") is None
    again, other = run(context, protocol, **options, method="cross_attention_transductive")
    assert again.get("transductive") is True
    plain, _ = run(context, protocol, **options, method="prototypes")
    assert result.accuracy > 0.5 and plain.accuracy > 0.5  # chance is 1/4
    assert len(outcome.per_episode) == len(other.per_episode)


def test_accuracy_is_that_of_episodes_scored_one_by_one(context):
    from vlfew.evaluation.split_episodes import split_episodes

    _, outcome = run(context, "few-shot", ways=3, shots=2, queries=2, episodes=5)
    drawn = split_episodes(context.data, "test", 3, 2, 2, 5, 0)
    features, method = context.bank("test").features, context.model.few_shot_method("default")
    for e in range(5):
        support = features[drawn.support[e].flatten()]
        method.fit(SupportSet(support, torch.tensor([0, 0, 1, 1, 2, 2]), 3))
        best = method.logits(features[drawn.query[e].flatten()]).argmax(1)
        share = (best == torch.tensor([0, 0, 1, 1, 2, 2])).double().mean().item()
        assert outcome.per_episode[e] == pytest.approx(share)


def test_verification_and_identification_use_it(context):
    result, _ = run(context, "verification", pairs=60, folds=2)
    assert result.get("auc") > 0.6
    result, _ = run(context, "identification", repeats=2)
    assert result.accuracy > 0.3


def test_transductive_methods_need_episodes(context):
    with pytest.raises(ConfigError, match="learns from all queries of an episode, and identification scores"):
        run(context, "identification", method="cross_attention_transductive")
    with pytest.raises(VlfewError, match="cross_attention_transductive"):
        run(context, "verification", similarity="cross_attention_transductive")


def test_a_transductive_method_needs_equal_numbers_of_queries(model):
    data = make_data(classes=9, images=6)
    fewer = data.splits["test"][:-2]
    ragged = type(data)(**{**vars(data), "splits": data.splits | {"test": fewer}})
    options = {"ways": 3, "queries": "all", "episodes": 5}
    run(EvaluationContext(model, ragged), "few-shot", **options)
    with pytest.raises(ConfigError, match="have fewer images left than others; give a number of queries"):
        run(EvaluationContext(model, ragged), "few-shot", **options, method="cross_attention_transductive")


def test_overflow_of_maps_in_half_precision_is_an_error(context, monkeypatch):
    encode = context.model.image_features
    monkeypatch.setattr(
        DualStream,
        "image_features",
        lambda _, x: Features(encode(x).embedding, map=encode(x).map * torch.inf),
    )
    with pytest.raises(ModelError, match="gives NaN or infinity"):
        run(context, "few-shot", ways=3, queries=2, episodes=5)
