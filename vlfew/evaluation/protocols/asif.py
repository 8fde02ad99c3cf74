"""Zero-shot classification with an image encoder that was trained without text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from vlfew.classifiers.asif import Anchors, check_anchors
from vlfew.classifiers.prototypes import encode_class_texts
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features
from vlfew.core.random import generator_at
from vlfew.data.labeled_images import LabeledImages
from vlfew.encoders import TEXT_ENCODERS
from vlfew.evaluation.accuracy import scoring_device
from vlfew.evaluation.class_prompts import check_prompts, class_prompts
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.feature_bank import encode_subset, split_indices
from vlfew.evaluation.prompt_templates import ValidTemplates, as_list
from vlfew.evaluation.protocols.zero_shot import classify_by_text, draw_queries

ANCHOR_SPLIT = "train"


def asif(
    context: EvaluationContext,
    *,
    split: str = "test",
    ways: int | Literal["all"] = "all",
    queries: int | Literal["all"] = "all",
    episodes: int = 10_000,
    seed: int = 0,
    templates: Annotated[str | tuple[str, ...], ValidTemplates] = ("{}",),
    descriptions: Path | None = None,
    text_encoder: str = "minilm",
    anchors: int = 2000,
    sparsity: int = 100,
    exponent: float = 8.0,
) -> ProtocolResult:
    """The zero-shot protocol with a separate text encoder, related to the images by anchors (ASIF).

    The anchors are training images and the names of their classes: one image of every class, drawn with
    the seed, then a second one of each, until there are enough (Norelli et al. 2023, section 2).

    Args:
        context: the model, with or without text, and the data.
        split: the split whose classes are evaluated; not `train`, which gives the anchors.
        ways: N, classes per episode, at least 2; `all` scores every image once against all classes.
        queries: with N ways, images per class and episode, or `all` of the class.
        episodes: with N ways, the number of episodes.
        seed: of the anchors and, with N ways, of the episodes.
        templates: prompts with `{}` for the class name, or sets of them (`one`, `seven`, `eighty`), averaged.
        descriptions: JSON file of class name to texts, used instead of prompts.
        text_encoder: name of the text encoder, as in a configuration.
        anchors: number of anchors.
        sparsity: k, the number of most similar anchors that represent an image or a text.
        exponent: p, to which their cosines are raised. The paper has k 800 of 1.6 million anchors, and p 8.

    Raises:
        DataError: class names are codes; too few classes, images or anchors.
        ConfigError: fewer anchors than k, the training split, or as `zero_shot`.
        ModelError: a text encoder that is not available.
    """
    data = context.data
    drawn, classes = draw_queries(data, split, ways, queries, episodes, seed), data.classes(split)
    texts = class_prompts(data, classes, templates, descriptions)
    index = anchor_images(data, split, anchors, sparsity, exponent, seed)
    anchor_classes, class_of_anchor = data.labels[index].unique(return_inverse=True)
    anchor_texts = class_prompts(data, anchor_classes, templates, descriptions)
    TEXT_ENCODERS.options(text_encoder)  # raises for an unknown name
    images = encode_subset(context.model, data, index, "anchors").embedding
    encoder = TEXT_ENCODERS.get(text_encoder)().to(scoring_device())
    check_prompts(encoder, data, classes, texts)

    def encode(prompts: list[str]) -> Tensor:
        return encoder.encode(prompts).cpu()

    anchor_set = Anchors(images, encode_class_texts(encode, anchor_texts)[class_of_anchor])
    embeddings = encode_class_texts(lambda p: anchor_set.relative_texts(encode(p), sparsity, exponent), texts)
    bank = context.bank(split)
    relative = Features(anchor_set.relative_images(bank.features.embedding, sparsity, exponent))
    result = classify_by_text(replace(bank, features=relative), drawn, classes, embeddings)
    if drawn is not None:
        result.details["queries"] = queries
    if descriptions is not None:
        result.details["descriptions"] = str(descriptions)
    result.details |= {
        "templates": as_list(templates),
        "chance": 1 / result.details["ways"],
        "text_encoder": text_encoder,
        "anchors": anchors,
        "sparsity": sparsity,
        "exponent": exponent,
    }
    return result


def anchor_images(
    data: LabeledImages, split: str, anchors: int, sparsity: int, exponent: float, seed: int
) -> Tensor:
    """Numbers `[anchors]` of training images, as evenly from all classes as possible.

    Raises:
        ConfigError: `split` is the training split; fewer anchors than k, or more than there are images.
        DataError: no training images.
    """
    check_anchors(anchors, sparsity, exponent)
    if split == ANCHOR_SPLIT:
        raise ConfigError(
            f"asif takes its anchors from the split {ANCHOR_SPLIT!r}, which cannot be evaluated; use another split"
        )
    index = split_indices(data, ANCHOR_SPLIT)
    if anchors > len(index):
        raise ConfigError(f"asif needs {anchors} anchors, and {data.name} has {len(index)} training images")
    shuffled = generator_at(seed, "anchors").permutation(len(index))
    labels = data.labels[index].numpy()[shuffled]
    by_class = np.argsort(labels, kind="stable")
    _, first, count = np.unique(labels[by_class], return_index=True, return_counts=True)
    # The rank of each image within its class, in the shuffled order again, so that no class is always first.
    rank = np.empty(len(index), dtype=np.int64)
    rank[by_class] = np.arange(len(index)) - np.repeat(first, count)
    chosen = shuffled[np.argsort(rank, kind="stable")[:anchors]]
    return index[torch.from_numpy(chosen)]
