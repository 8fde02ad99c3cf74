"""Zero-shot with two encoders of separate spaces."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.conftest import make_data
from tests.evaluation.fakes import FakeModel, FakeText, run
from vlfew.core.features import Features
from vlfew.data.labeled_images import InMemory, LabeledImages
from vlfew.encoders import TEXT_ENCODERS
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.protocols.asif import anchor_images

TRAITS = 5


class Traits(FakeText):
    """Encodes the traits that a text lists, in a space of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = torch.randn(TRAITS, 12, generator=torch.Generator().manual_seed(9))

    def encode(self, texts: list[str]) -> Tensor:
        return torch.tensor([[float(v) for v in text.split()] for text in texts]) @ self.turn


def traits() -> Traits:
    return Traits()


class Pixels(FakeModel):
    """A model of images alone: its embedding is the pixels about gray."""

    def image_features(self, images: Tensor) -> Features:
        return Features(images.flatten(1).float() / 127.5 - 1)


def data_of_traits(classes: int = 120, images: int = 3) -> LabeledImages:
    """Classes have traits, which their names list and their images show, each in its own way."""
    generator = torch.Generator().manual_seed(0)
    trait = torch.randn(classes, TRAITS, generator=generator)
    shown = trait @ torch.randn(TRAITS, 64, generator=generator) / TRAITS
    shown = shown[:, None] + 0.1 * torch.randn(classes, images, 64, generator=generator)
    labels = torch.arange(classes).repeat_interleave(images)
    test = labels >= classes - 20
    names = tuple(" ".join(f"{v:.3f}" for v in row) for row in trait.tolist())
    return LabeledImages(
        name="traits",
        images=InMemory((127.5 * (shown.clamp(-1, 1) + 1)).round().to(torch.uint8).view(-1, 1, 8, 8)),
        labels=labels,
        class_names=names,
        class_texts=tuple((name,) for name in names),
        splits={"train": (~test).nonzero().flatten(), "test": test.nonzero().flatten()},
        fingerprint="traits",
    )


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEXT_ENCODERS.entries, "traits", f"{__name__}:traits")


OPTIONS = {"text_encoder": "traits", "anchors": 200, "sparsity": 40, "exponent": 4.0}


def test_new_classes_are_classified_without_training() -> None:
    result, outcome = run(EvaluationContext(Pixels(has_text=False), data_of_traits()), "asif", **OPTIONS)
    assert result.accuracy > 0.5
    assert (result.chance, result.anchors, result.sparsity, result.exponent) == (1 / 20, 200, 40, 4.0)
    assert result.ways == 20 and outcome.episodes == 20


def test_anchors_with_wrong_texts_give_chance() -> None:
    data = data_of_traits()
    names = data.class_names[1:100] + data.class_names[:1] + data.class_names[100:]
    data = replace(data, class_names=names, class_texts=tuple((name,) for name in names))
    result, _ = run(EvaluationContext(Pixels(has_text=False), data), "asif", **OPTIONS)
    assert result.accuracy < 0.2


def test_episodes_are_those_of_zero_shot() -> None:
    context = EvaluationContext(Pixels(has_text=False), data_of_traits())
    result, outcome = run(context, "asif", ways=5, queries=2, episodes=200, **OPTIONS)
    assert result.accuracy > 0.7 and result.chance == 0.2
    assert outcome.per_episode is not None and len(outcome.per_episode) == 200
    again, _ = run(context, "asif", ways=5, queries=2, episodes=200, **OPTIONS)
    assert again.accuracy == result.accuracy


@pytest.mark.parametrize("anchors", [3, 7, 10, 56])
def test_anchors_come_evenly_from_all_classes(anchors: int) -> None:
    data = make_data(classes=21, images=8)
    index = anchor_images(data, "test", anchors, 1, 8.0, seed=0)
    assert len(set(index.tolist())) == anchors
    assert set(index.tolist()) <= set(data.indices("train").tolist())
    counts = data.labels[index].bincount(minlength=21)[::3]
    assert counts.max() - counts.min() <= 1
    assert torch.equal(index, anchor_images(data, "test", anchors, 1, 8.0, seed=0))
    more = anchor_images(data, "test", 56, 1, 8.0, seed=0)
    assert torch.equal(more[:anchors], index)
