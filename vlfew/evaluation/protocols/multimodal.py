"""Few-shot classification with support images and text together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from vlfew.classifiers.multimodal_prototypes import multimodal_method
from vlfew.classifiers.support import IMAGE, TEXT, SupportSet, append_texts
from vlfew.core.checks import check_range
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features, FeatureSpec
from vlfew.evaluation.accuracy import episode_accuracies, scoring_device
from vlfew.evaluation.class_prompts import class_embeddings, class_prompts
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.episodes import Episodes
from vlfew.evaluation.prompt_templates import ValidTemplates, as_list
from vlfew.evaluation.protocols.few_shot import check_shots, method_accuracies
from vlfew.evaluation.split_episodes import choose_queries, split_episodes
from vlfew.evaluation.statistics import mean_ci95

TEXT_WEIGHTS = tuple(n / 10 for n in range(11))
"""The candidates for a validated text weight."""
VALIDATION_EPISODES = 1000
"""At most this many episodes validate it."""


def multimodal(
    context: EvaluationContext,
    *,
    split: str = "test",
    ways: int | Literal["all"] = 5,
    shots: int = 1,
    queries: int | Literal["all", "auto"] = "auto",
    episodes: int = 10_000,
    seed: int = 0,
    text_weight: float | Literal["validated"] = 0.5,
    adaptive_text_weight: bool = False,
    validation_split: str = "val",
    templates: Annotated[str | tuple[str, ...], ValidTemplates] = ("{}",),
    descriptions: Path | None = None,
    episodes_file: Path | None = None,
) -> ProtocolResult:
    """The few-shot protocol with text in the support set; also with images alone and with text alone.

    All three get the same episodes (those of the few-shot protocol with the same options). Images and text
    together are scored by `multimodal_method`, text alone by cosine similarity, and images alone as in the
    few-shot protocol.

    Args:
        context: the model and the data.
        split: the split whose classes are evaluated.
        ways: N, classes per episode, at least 2, or `all`.
        shots: K, support images per class.
        queries: query images per class, or `all` that are left; `auto` is 15, or as many as the smallest class has
            left.
        episodes: number of episodes.
        seed: of the random draws.
        text_weight: weight of the text from 0 to 1; `validated` takes the best of 0, 0.1 ... 1 on another split.
        adaptive_text_weight: give each class a weight of its own, between half and all of `text_weight`: the larger,
            the better its text recognizes its own support images (`adaptive_weight`).
        validation_split: the split that validates the text weight, in up to 1,000 episodes.
        templates: prompts with `{}` for the class name, or sets of them (`one`, `seven`, `eighty`), averaged.
        descriptions: JSON file of class name to texts, used instead of prompts.
        episodes_file: file to save the episodes in, or to read them from where it exists.

    Raises:
        DataError: class names are codes; too few classes or images, named.
        ConfigError: fewer than 2 ways or 1 shot; a file with other episodes; a text weight outside `[0, 1]`, or
            validated on the evaluated split.
        ModelError: the model has no text encoder.
    """
    data = context.data
    check_shots(shots)
    queries = choose_queries(data, split, shots, queries)
    drawn = {split: split_episodes(data, split, ways, shots, queries, episodes, seed, episodes_file)}
    if text_weight == "validated":
        if validation_split == split:
            raise ConfigError(
                f"text_weight cannot be validated on {split!r}, the split that is evaluated; "
                "set validation_split to another"
            )
        few = min(episodes, VALIDATION_EPISODES)
        drawn[validation_split] = split_episodes(data, validation_split, ways, shots, queries, few, seed)
    else:
        check_range("text_weight", text_weight, 0, 1)
    for name in drawn:
        class_prompts(data, data.classes(name), templates, descriptions)
    texts = {name: class_embeddings(context, data.classes(name), templates, descriptions) for name in drawn}

    def accuracies(name: str, weights: Sequence[float]) -> np.ndarray:
        return multimodal_accuracies(
            context, name, drawn[name], shots, texts[name], weights, adaptive_text_weight
        )

    details: dict[str, Any] = {}
    if adaptive_text_weight:
        details["adaptive_text_weight"] = True
    if text_weight == "validated":
        weight = TEXT_WEIGHTS[accuracies(validation_split, TEXT_WEIGHTS).mean(1).argmax()]
        details["text_weight_chosen_on"] = validation_split
    else:
        weight = text_weight
    both = accuracies(split, (weight,))[0]
    text = multimodal_accuracies(context, split, drawn[split], shots, texts[split], (1.0,))[0]
    method, n = context.model.few_shot_method(), drawn[split].classes.shape[1]
    image = method_accuracies(method, context.bank(split).features, drawn[split])
    details |= {
        "ways": n,
        "shots": shots,
        "queries": queries,
        "text_weight": weight,
        "templates": as_list(templates),
        "interval": "over episodes",
    }
    if descriptions is not None:
        details["descriptions"] = str(descriptions)
    for name, values in (("image", image), ("text", text)):
        details[f"{name}_accuracy"], details[f"{name}_ci95"] = mean_ci95(values.tolist())
    return ProtocolResult.over_episodes(both, details)


def multimodal_accuracies(
    context: EvaluationContext,
    split: str,
    drawn: Episodes,
    shots: int,
    texts: Tensor,
    text_weights: Sequence[float],
    adaptive: bool = False,
) -> np.ndarray:
    """Accuracies `[W, E]` of episodes whose support has K images and one text embedding per class.

    Args:
        context: the model and the data.
        split: of the episodes.
        drawn: E episodes.
        shots: K.
        texts: `[C, D]` of the classes of the split.
        text_weights: W weights of the text.
        adaptive: each class has its own, at most these.
    """
    n, device = drawn.classes.shape[1], scoring_device()
    image_method, spec = context.model.few_shot_method(), FeatureSpec(texts.shape[1])
    methods = [multimodal_method(image_method, spec, weight, adaptive).to(device) for weight in text_weights]
    classes, texts, each = (
        context.data.classes(split).to(device),
        texts.to(device),
        torch.arange(n, device=device),
    )
    class_id = torch.cat([each.repeat_interleave(shots), each])
    modality = torch.full((n * shots + n,), IMAGE, device=device)
    modality[-n:] = TEXT

    def logits_of(images: Features, queries: Features, of: Tensor) -> Tensor:
        items = append_texts(images, texts[torch.searchsorted(classes, of)])
        support = SupportSet(items, class_id, n, modality)
        return torch.stack([method.fit(support).logits(queries) for method in methods])

    maps = any(method.needs_map for method in methods)
    return episode_accuracies(context.bank(split).features, drawn, logits_of, maps=maps)
