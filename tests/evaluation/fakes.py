"""Models whose features are known, for the tests of protocols."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.base import FewShotMethod
from vlfew.core.features import Features, FeatureSpec
from vlfew.data.labeled_images import InMemory, LabeledImages
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.results import Result
from vlfew.evaluation.run_protocol import run_protocol
from vlfew.similarities import SIMILARITIES
from vlfew.similarities.base import Similarity


class Pixels:
    """A model whose embedding of an image is its pixels, 0..1."""

    has_text = False
    fingerprint = None

    def image_features(self, images: Tensor) -> Features:
        return Features(images.flatten(1).float() / 255)

    def encode_text(self, texts: list[str]) -> Tensor:
        raise AssertionError("this model has no text encoder")

    def few_shot_method(self, name: str = "default") -> FewShotMethod:
        return CLASSIFIERS.get("euclidean" if name == "default" else name)(FeatureSpec(4))

    def similarity_by_name(self, name: str = "default") -> Similarity:
        return SIMILARITIES.get("euclidean" if name == "default" else name)(FeatureSpec(4))


def dots(labels: list[int], spread: float = 0.3, seed: int = 0, size: int = 2) -> LabeledImages:
    """Images of `size` x `size` pixels about a random center for each class, all of the split `test`."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.tensor(labels)
    center = torch.rand(int(label.max()) + 1, 1, size, size, generator=generator)
    pixels = center[label] + spread * (torch.rand(len(label), 1, size, size, generator=generator) - 0.5)
    return LabeledImages(
        name="dots",
        images=InMemory((255 * pixels.clamp(0, 1)).round().to(torch.uint8)),
        labels=label,
        class_names=tuple(f"s{n}" for n in range(int(label.max()) + 1)),
        splits={"test": torch.arange(len(label))},
        fingerprint=f"dots {spread} {seed}",
        image_names=tuple(f"{n}.png" for n in range(len(label))),
    )


DIM = 3


class FakeModel:
    """Noisy random projections of images; texts by their characters."""

    fingerprint: str | None = None

    def __init__(self, has_text: bool = True) -> None:
        self.has_text = has_text
        self.projection = torch.randn(256, DIM, generator=torch.Generator().manual_seed(0))
        self.encoded = 0

    def image_features(self, images: Tensor) -> Features:
        self.encoded += len(images)
        return Features((images.flatten(1).float() - 127) / 255 @ self.projection)

    def encode_text(self, texts: list[str]) -> Tensor:
        return torch.stack([self.text(t) for t in texts])

    def require_text_encoder(self) -> FakeText:
        return FakeText()

    @staticmethod
    def text(text: str) -> Tensor:
        seed = sum(ord(c) * 31**i for i, c in enumerate(text)) % 2**31
        return torch.randn(DIM, generator=torch.Generator().manual_seed(seed))

    def few_shot_method(self, name: str = "default") -> FewShotMethod:
        return CLASSIFIERS.get("prototypes" if name == "default" else name)(FeatureSpec(DIM))

    def similarity_by_name(self, name: str = "default") -> Similarity:
        return SIMILARITIES.get("cosine" if name == "default" else name)(FeatureSpec(DIM))


class FakeText(nn.Module):
    """A text encoder of its own; its tokens are characters."""

    def token_ids(self, texts: list[str]) -> list[tuple[int, ...]]:
        return [tuple(map(ord, text)) for text in texts]

    def encode(self, texts: list[str]) -> Tensor:
        return torch.stack([FakeModel.text(t) for t in texts])


def run(context: EvaluationContext, protocol: str, **options: Any) -> tuple[Result, ProtocolResult]:
    return run_protocol(context, protocol, options, command="evaluate", trained_on="tiny/train")
