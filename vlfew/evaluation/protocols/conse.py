"""Zero-shot classification by the classes that the image encoder was pretrained on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from vlfew.classifiers.conse import conse_embedding, mixed_embedding
from vlfew.classifiers.prototypes import encode_class_texts
from vlfew.core.checks import check_range
from vlfew.core.errors import ConfigError, ModelError
from vlfew.core.features import Features
from vlfew.encoders import TEXT_ENCODERS
from vlfew.evaluation.accuracy import scoring_device
from vlfew.evaluation.class_prompts import check_prompts, class_embeddings, class_prompts
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.feature_bank import FeatureBank, split_indices
from vlfew.evaluation.prompt_templates import ValidTemplates, as_list
from vlfew.evaluation.protocols.multimodal import TEXT_WEIGHTS
from vlfew.evaluation.protocols.zero_shot import classify_by_text, draw_queries
from vlfew.models.backbone_cache import BackboneCache
from vlfew.models.text_cache import cached_text_embeddings, hash_text_encoder


def conse(
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
    top: Annotated[int, Field(ge=1)] = 10,
    center: bool = True,
    alignment_weight: float | Literal["validated"] = 0.0,
    validation_split: str = "val",
) -> ProtocolResult:
    """The zero-shot protocol by ConSE: an image is the mean of the names of the classes it is taken for.

    The classifier is the one that the image encoder was pretrained with, over classes of known names (ImageNet's); the
    mean is weighted by its probabilities (Norouzi et al. 2014). Nothing is trained.

    Args:
        context: the model, whose backbone comes with its classifier, and the data.
        split: the split whose classes are evaluated.
        ways: N, classes per episode, at least 2; `all` scores every image once against all classes.
        queries: with N ways, images per class and episode, or `all` of the class.
        episodes: with N ways, the number of episodes.
        seed: of the random draws, with N ways.
        templates: prompts with `{}` for the class name, or sets of them (`one`, `seven`, `eighty`), averaged.
        descriptions: JSON file of class name to texts, used instead of prompts.
        text_encoder: name of the text encoder, as in a configuration.
        top: T, the number of most likely classes that count.
        center: subtract the mean of the known names from names and images alike; the paper does not.
        alignment_weight: share, 0 to 1, of the model's own cosine of image and text, where it has a text stream;
            `validated` takes the best of 0, 0.1 ... 1 on another split.
        validation_split: the split that validates it.

    Raises:
        DataError: class names are codes; too few classes or images.
        ConfigError: a weight outside `[0, 1]`, or validated on the evaluated split; or as `zero_shot`.
        ModelError: a backbone without its classifier, or that was trained further; no text stream to mix with.
    """
    data = context.data
    drawn, classes = draw_queries(data, split, ways, queries, episodes, seed), data.classes(split)
    prompts = class_prompts(data, classes, templates, descriptions)
    if alignment_weight == "validated":
        if validation_split == split:
            raise ConfigError(
                f"alignment_weight cannot be validated on {split!r}, the split that is evaluated; set "
                "validation_split to another"
            )
        class_prompts(data, data.classes(validation_split), templates, descriptions)
    else:
        check_range("alignment_weight", alignment_weight, 0, 1)
    TEXT_ENCODERS.options(text_encoder)  # raises for an unknown name
    model = context.model
    if alignment_weight != 0 and not model.has_text:
        raise ModelError(
            "alignment_weight mixes in the model's own text stream, and it has none; leave it out"
        )
    if not model.spec.backbone_fixed:
        raise ModelError("conse takes a backbone as it was published, and this one was trained further")
    known = model.backbone.pretrained_classifier()
    encoder: Any = TEXT_ENCODERS.get(text_encoder)().to(scoring_device())
    check_prompts(encoder, data, classes, prompts)

    def encode(texts: list[list[str]]) -> Tensor:
        return cached_text_embeddings(
            hash_text_encoder(encoder),
            texts,
            lambda: encode_class_texts(lambda t: encoder.encode(t).cpu(), texts),
        )

    names = encode(known.names)
    mean = names.mean(0) if center else torch.zeros_like(names[0])

    @cache
    def embedded(of: str) -> tuple[FeatureBank, Tensor]:
        """The images of a split by ConSE, as a bank, and the texts of its classes `[C, D_text]`."""
        index, own = split_indices(data, of), data.classes(of)
        outputs = BackboneCache().encode(model, data, index, f"{data.name} {of}")
        with torch.no_grad():
            logits = torch.cat(
                [known.layer(outputs[rows].embedding) for rows in torch.arange(len(index)).split(4096)]
            )
        images = Features(conse_embedding(logits, names, top) - mean)
        texts = encode(prompts if of == split else class_prompts(data, own, templates, descriptions)) - mean
        return FeatureBank(images, data.labels[index], index, data, of), texts

    @cache
    def aligned(of: str) -> tuple[Tensor, Tensor]:
        """The model's own embeddings of the same images and texts."""
        texts = class_embeddings(context, data.classes(of), templates, descriptions)
        return context.bank(of).features.embedding, texts

    def result_of(of: str, weight: float) -> ProtocolResult:
        bank, texts = embedded(of)
        if weight:
            own_images, own_texts = aligned(of)
            images = mixed_embedding(bank.features.embedding, own_images, weight)
            bank, texts = replace(bank, features=Features(images)), mixed_embedding(texts, own_texts, weight)
        return classify_by_text(bank, drawn if of == split else None, data.classes(of), texts)

    if alignment_weight == "validated":
        weight = max(TEXT_WEIGHTS, key=lambda candidate: result_of(validation_split, candidate).accuracy)
        result = result_of(split, weight)
        result.details["alignment_weight_chosen_on"] = validation_split
    else:
        weight = alignment_weight
        result = result_of(split, weight)
    if drawn is not None:
        result.details["queries"] = queries
    if descriptions is not None:
        result.details["descriptions"] = str(descriptions)
    result.details |= {
        "templates": as_list(templates),
        "text_encoder": text_encoder,
        "known_classes": len(known.names),
        "top": top,
        "center": center,
        "alignment_weight": weight,
    }
    return result
