"""Zero-shot by a model that never met a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vlfew.classifiers import CLASSIFIERS, FewShotMethod
from vlfew.classifiers.asif import Anchors, check_enough
from vlfew.classifiers.prototypes import mean_texts
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features, FeatureSpec
from vlfew.core.random import generator_at
from vlfew.data.labeled_images import LabeledImages
from vlfew.encoders import TEXT_ENCODERS
from vlfew.encoders.text.base import TextEncoder
from vlfew.evaluation.accuracy import scoring_device
from vlfew.evaluation.class_prompts import prompts
from vlfew.evaluation.context import EvaluationContext, Model, ProtocolResult
from vlfew.evaluation.feature_bank import encode_images, split_images
from vlfew.evaluation.prompt_templates import Templates
from vlfew.evaluation.protocols.zero_shot import check_zero_shot, zero_shot

TRAIN = "train"
"""The split that gives the anchors."""


class Coupled:
    """A model of images and an encoder of words, tied by anchors: a `Model` that reads, without any training.

    Args:
        model: encodes images.
        encoder: encodes words.
        anchors: pairs by these two.
        sparsity: k of `relative`.
        exponent: p of `relative`.
    """

    has_text = True
    fingerprint = None

    def __init__(
        self, model: Model, encoder: TextEncoder, anchors: Anchors, sparsity: int, exponent: float
    ) -> None:
        self.model, self.encoder, self.anchors = model, encoder, anchors
        self.sparsity, self.exponent = sparsity, exponent

    def encode_images(self, images: Tensor) -> Features:
        """uint8 `[B, C, H, W]` to `embedding [B, A]`."""
        return self.seen(self.model.encode_images(images))

    def seen(self, features: Features) -> Features:
        """What the model of images gives, `embedding [B, D]`, by the anchors: `[B, A]`."""
        return Features(self.anchors.of_images(features.embedding, self.sparsity, self.exponent))

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Texts to `[T, A]`."""
        return self.anchors.of_words(self.encoder.encode(texts).cpu(), self.sparsity, self.exponent)

    def method(self, name: str) -> FewShotMethod:
        """A scorer over pair_similarity to anchors; `default` is by prototypes."""
        return CLASSIFIERS.get("prototypes" if name == "default" else name)(FeatureSpec(len(self.anchors)))


def asif(
    context: EvaluationContext,
    *,
    split: str = "test",
    ways: int | Literal["all"] = "all",
    queries: int | Literal["all"] = "all",
    episodes: int = 10_000,
    seed: int = 0,
    templates: Templates = ("{}",),
    descriptions: Path | None = None,
    text_encoder: str = "minilm",
    anchors: int = 2000,
    sparsity: int = 100,
    exponent: float = 8.0,
) -> ProtocolResult:
    """The zero-shot protocol for a model without words: a text encoder is tied to it by anchors (ASIF).

    The anchors are training images and the names of their classes: one image of every class, drawn by
    the seed, then a second one of each, until there are enough.

    Args:
        context: the model, of images alone or not, and the data.
        split: which classes; not the training split, which gives the anchors.
        ways: N classes an episode, at least 2, or `all`.
        queries: with N ways, images a class and episode, or `all` of it.
        episodes: with N ways, how many.
        seed: of the anchors and, with N ways, of the draws.
        templates: prompts with `{}` for the name.
        descriptions: JSON file of class name to texts that are used instead of the name.
        text_encoder: by name, as in a configuration.
        anchors: how many.
        sparsity: k, how many of the likest anchors describe an image or a text.
        exponent: p, of the cosines to them. The paper has k 800 of 1.6 million anchors, and p 8.

    Raises:
        DataError: class names are not words; too few classes, images or anchors.
        ConfigError: fewer anchors than k, the training split, or as `zero_shot`.
        ModelError: a text encoder that cannot be had.
    """
    asked: dict[str, Any] = {
        "split": split,
        "ways": ways,
        "queries": queries,
        "episodes": episodes,
        "seed": seed,
        "templates": templates,
        "descriptions": descriptions,
    }
    check_zero_shot(context.data, asked)
    index = anchor_images(context.data, split, anchors, sparsity, exponent, seed)
    encoder = TEXT_ENCODERS.get(text_encoder)().to(scoring_device())
    labels = context.data.labels[index]
    classes, class_of = labels.unique(return_inverse=True)
    words = mean_texts(
        lambda t: encoder.encode(t).cpu(), prompts(context.data, classes, templates, descriptions)
    )
    images = encode_images(context.model, context.data, index, "anchors").embedding
    model = Coupled(context.model, encoder, Anchors(images, words[class_of]), sparsity, exponent)
    bank = context.bank(split)
    coupled = EvaluationContext(
        model, context.data, {split: replace(bank, features=model.seen(bank.features))}
    )
    outcome = zero_shot(coupled, **asked)
    outcome.details |= {
        "chance": 1 / outcome.details["ways"],
        "text_encoder": text_encoder,
        "anchors": anchors,
        "sparsity": sparsity,
        "exponent": exponent,
    }
    return outcome


def check_asif(data: LabeledImages, options: Mapping[str, Any]) -> None:
    """Raises what `asif` would, from labels, class names and the encoder's name alone."""
    o = options
    check_zero_shot(data, o)
    index = anchor_images(data, o["split"], o["anchors"], o["sparsity"], o["exponent"], o["seed"])
    prompts(data, data.labels[index].unique(), o["templates"], o["descriptions"])
    TEXT_ENCODERS.options(o["text_encoder"])


def anchor_images(
    data: LabeledImages, split: str, anchors: int, sparsity: int, exponent: float, seed: int
) -> Tensor:
    """Numbers `[anchors]` of training images: as many of each class as of any other, but for one.

    Raises:
        ConfigError: `split` is the training split; fewer anchors than k, or than there are images.
        DataError: no training images.
    """
    check_enough(anchors, sparsity, exponent)
    if split == TRAIN:
        raise ConfigError(
            f"asif's anchors are of the split {TRAIN!r} and would be asked about themselves; ask another"
        )
    index = split_images(data, TRAIN)
    if anchors > len(index):
        raise ConfigError(f"asif wants {anchors} anchors, and {data.name} has {len(index)} training images")
    shuffled = generator_at(seed, "anchors").permutation(len(index))
    labels = data.labels[index].numpy()[shuffled]
    by_class = np.argsort(labels, kind="stable")
    _, first, count = np.unique(labels[by_class], return_index=True, return_counts=True)
    # Which image of its class each is; in the shuffled order again, so that no class is always first.
    turn = np.empty(len(index), dtype=np.int64)
    turn[by_class] = np.arange(len(index)) - np.repeat(first, count)
    chosen = shuffled[np.argsort(turn, kind="stable")[:anchors]]
    return index[torch.from_numpy(chosen)]
