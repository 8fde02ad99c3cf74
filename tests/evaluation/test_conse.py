"""ConSE: images as mixtures of the names of known classes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.compare import assert_close
from tests.conftest import make_data
from vlfew.classifiers.conse import conse_embedding, mixed_embedding
from vlfew.core.errors import ConfigError, ModelError
from vlfew.data.labeled_images import LabeledImages
from vlfew.encoders.image.backbone import PretrainedClassifier
from vlfew.encoders.image.conv4 import Conv4
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.protocols.conse import conse
from vlfew.evaluation.protocols.zero_shot import zero_shot
from vlfew.models import DualStream, ModelSpec
from vlfew.models.spec import TextSpec
from vlfew.similarities.cosine import cosine_matrix

NAMES = ["cat", "fire engine", "lighthouse", "violin"]


@pytest.mark.parametrize("top", [1, 2, 9])
def test_the_embedding_is_that_of_the_paper(top: int) -> None:
    torch.manual_seed(0)
    logits, texts = torch.randn(5, 4), torch.randn(4, 3)
    expected = []
    for row in logits.tolist():
        likely = sorted(range(4), key=lambda t: -row[t])[:top]
        total = sum(math.exp(row[t]) for t in likely)
        expected.append(
            [sum(math.exp(row[t]) / total * texts[t][d].item() for t in likely) for d in range(3)]
        )
    assert_close(conse_embedding(logits, texts, top), torch.tensor(expected))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_cosines_are_mixed(weight: float) -> None:
    torch.manual_seed(0)
    (a, b), (c, d) = torch.randn(2, 4, 3), torch.randn(2, 4, 5)
    mixed = cosine_matrix(mixed_embedding(a, c, weight), mixed_embedding(b, d, weight))
    assert_close(mixed, (1 - weight) * cosine_matrix(a, b) + weight * cosine_matrix(c, d))


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> LabeledImages:
    """Test images of four classes; a backbone's classifier that knows each by another name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = ("a kitten", "a fire truck", "a tower by the sea", "a string instrument", *map(str, range(8)))
    data = make_data(12)
    split = torch.cat([(data.labels == c).nonzero().flatten() for c in range(4)])
    return replace(
        data,
        splits={"test": split, "val": split.clone()},
        class_names=names,
        class_texts=tuple((name,) for name in names),
    )


def model_for(data: LabeledImages, monkeypatch: pytest.MonkeyPatch, **spec: object) -> DualStream:
    """A frozen random Conv4, and as its classifier the class means of the data."""
    torch.manual_seed(0)
    settings = {
        "backbone": "conv4",
        "backbone_options": {"width": 16},
        "image_size": 16,
        "embedding_dim": None,
    }
    model = DualStream.from_spec(ModelSpec(**(settings | {"backbone_frozen": True} | spec))).eval()
    with torch.no_grad():
        features: Tensor = model.backbone_output(data.images.batch(torch.arange(len(data.images)))).embedding
    means = torch.stack([features[data.labels == c].mean(0) for c in range(4)])
    layer = nn.Linear(means.shape[1], 4)
    center = means.mean(0)
    with torch.no_grad():
        layer.weight.copy_(50 * (means - center))
        layer.bias.copy_(-(layer.weight @ ((means + center) / 2).T).diagonal())
    known = PretrainedClassifier([[name] for name in NAMES], layer)
    monkeypatch.setattr(Conv4, "pretrained_classifier", lambda self: known)
    return model


def test_images_are_classified_by_names_that_the_classifier_never_saw(
    data: LabeledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = EvaluationContext(model_for(data, monkeypatch), data)
    found = conse(context)
    assert found.accuracy > 0.7  # chance is 1/4
    assert found.details["known_classes"] == 4 and found.details["alignment_weight"] == 0
    assert conse(context, ways=2, queries=2, episodes=20).accuracy > 0.7
    with pytest.raises(ModelError, match="own text stream, and it has none"):
        conse(context, alignment_weight=0.5)
    with pytest.raises(ConfigError, match="alignment_weight is 2"):
        conse(context, alignment_weight=2)


def test_mixed_with_alignment(data: LabeledImages, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TextSpec(encoder="minilm", projection="linear")
    context = EvaluationContext(model_for(data, monkeypatch, text=text), data)
    alone, aligned = conse(context), zero_shot(context)
    assert conse(context, alignment_weight=1).accuracy == aligned.accuracy
    chosen = conse(context, alignment_weight="validated")
    assert chosen.accuracy >= max(alone.accuracy, aligned.accuracy)  # val holds the same images
    assert chosen.details["alignment_weight_chosen_on"] == "val"
    with pytest.raises(ConfigError, match="cannot be validated on 'test'"):
        conse(context, alignment_weight="validated", validation_split="test")


def test_only_published_backbones(data: LabeledImages, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = model_for(data, monkeypatch, backbone_frozen=False)
    with pytest.raises(ModelError, match="this one was trained further"):
        conse(EvaluationContext(trained, data))
