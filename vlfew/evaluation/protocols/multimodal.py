"""Few-shot episodes whose classes have images and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vlfew.classifiers.multimodal_prototypes import with_text
from vlfew.classifiers.support import IMAGE, TEXT, Support, images_with_words
from vlfew.core.checks import check_range
from vlfew.core.errors import ConfigError
from vlfew.core.features import Features, FeatureSpec
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.accuracy import episode_accuracies, scoring_device
from vlfew.evaluation.class_prompts import class_words, prompts
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.episodes import Episodes
from vlfew.evaluation.prompt_templates import Templates, as_list
from vlfew.evaluation.protocols.few_shot import check_few_shot, check_shots, from_images, split_episodes
from vlfew.evaluation.results import mean_ci95

WEIGHTS = tuple(n / 10 for n in range(11))
"""Among which a share of the words is chosen."""

CHOOSING = 1000
"""Episodes by which it is chosen, at most."""


def multimodal(
    context: EvaluationContext,
    *,
    split: str = "test",
    ways: int | Literal["all"] = 5,
    shots: int = 1,
    queries: int | Literal["all"] = 15,
    episodes: int = 10_000,
    seed: int = 0,
    text_weight: float | Literal["validated"] = 0.5,
    calibrate: str = "val",
    templates: Templates = ("{}",),
    descriptions: Path | None = None,
    episodes_file: Path | None = None,
) -> ProtocolResult:
    """The few-shot protocol with classes that have words too; images and words alone stand beside it.

    All three see the same episodes (and those of the few-shot protocol with the same options). Both
    together are scored as `with_text` says, words alone by cosine, and images alone as the
    few-shot protocol scores them.

    Args:
        context: the model and the data.
        split: which classes.
        ways: N classes an episode, at least 2, or `all`.
        shots: K support images a class.
        queries: query images a class, or `all` that are left.
        episodes: how many.
        seed: of the draws.
        text_weight: share of the words in a class, from 0 to 1; or `validated`: the best of 0, 0.1 ... 1
            in up to 1,000 such episodes of another split.
        calibrate: that split, of other classes or images.
        templates: prompts with `{}` for the name, or names of sets of them (`one`, `seven`, `eighty`);
            each prompt is normalized, then averaged.
        descriptions: JSON file of class name to texts that are used instead of the name.
        episodes_file: the episodes are kept here, or taken from here when it is there.

    Raises:
        DataError: class names are not words; too few classes or images, named.
        ConfigError: fewer than 2 ways or 1 shot, episodes_file holds other episodes, or a share is to be
            chosen on the split that is scored.
        ModelError: the model has no text stream.
    """
    check_shots(shots)
    asked = _Asked(context, shots, templates, descriptions)
    drawn = split_episodes(context.data, split, ways, shots, queries, episodes, seed, episodes_file)
    details: dict[str, Any] = {}
    if text_weight == "validated":
        _check_another(calibrate, split)
        few = min(episodes, CHOOSING)
        choosing = split_episodes(context.data, calibrate, ways, shots, queries, few, seed)
        found = {w: float(asked.accuracies(calibrate, choosing, w).mean()) for w in WEIGHTS}
        share = max(found, key=lambda w: found[w])
        details["text_weight_chosen_on"] = calibrate
    else:
        share = text_weight
    both = asked.accuracies(split, drawn, share)
    alone = {"images": asked.accuracies(split, drawn, None), "words": asked.accuracies(split, drawn, 1.0)}
    accuracy, ci95 = mean_ci95(both.tolist())
    details |= {
        "ways": drawn.classes.shape[1],
        "shots": shots,
        "queries": queries,
        "text_weight": share,
        "templates": as_list(templates),
        "interval": "over episodes",
    }
    if descriptions is not None:
        details["descriptions"] = str(descriptions)
    for name, values in alone.items():
        details[f"{name}_accuracy"], details[f"{name}_ci95"] = mean_ci95(values.tolist())
    return ProtocolResult(accuracy, ci95, len(drawn), details, both)


@dataclass
class _Asked:
    """What stays the same whichever split and share of the words are asked about."""

    context: EvaluationContext
    shots: int
    templates: str | tuple[str, ...]
    descriptions: Path | None
    _words: dict[str, Tensor] = field(default_factory=dict)

    def words(self, split: str, classes: Tensor) -> Tensor:
        """Of `classes [C]`, those of the split: `[C, D]`, read once."""
        if split not in self._words:
            self._words[split] = class_words(self.context, classes, self.templates, self.descriptions)
        return self._words[split]

    def accuracies(self, split: str, drawn: Episodes, text_weight: float | None) -> np.ndarray:
        """`[E]`; without a text_weight, of images alone as the model compares them."""
        own = self.context.model.method("default")
        if text_weight is None:
            score = from_images(own, drawn.classes.shape[1], self.shots)
            return episode_accuracies(self.context.bank(split).features, drawn, score, maps=own.needs_map)
        classes = self.context.data.classes(split)
        words = self.words(split, classes)
        method = with_text(own, FeatureSpec(words.shape[1]), text_weight).to(scoring_device())
        n, device = drawn.classes.shape[1], scoring_device()
        classes, words, every = classes.to(device), words.to(device), torch.arange(n, device=device)
        class_id = torch.cat([every.repeat_interleave(self.shots), every])
        modality = torch.full((n * self.shots + n,), IMAGE, device=device)
        modality[-n:] = TEXT

        def score_both(images: Features, queries: Features, of: Tensor) -> Tensor:
            items = images_with_words(images, words[torch.searchsorted(classes, of)])
            return method.fit(Support(items, class_id, n, modality)).score(queries)

        features = self.context.bank(split).features
        return episode_accuracies(features, drawn, score_both, maps=method.needs_map)


def _check_another(calibrate: str, split: str) -> None:
    if calibrate == split:
        raise ConfigError(
            f"text_weight cannot be validated on {split!r}, the split that is scored; set calibrate to another"
        )


def check_images_and_words(data: LabeledImages, options: Mapping[str, Any]) -> None:
    """Raises what `multimodal` would, from labels and class names alone; draws one episode."""
    check_few_shot(data, options)
    splits = [options["split"]]
    if options["text_weight"] == "validated":
        _check_another(options["calibrate"], options["split"])
        check_few_shot(data, {**options, "split": options["calibrate"], "episodes_file": None})
        splits.append(options["calibrate"])
    else:
        check_range("text_weight", options["text_weight"], 0, 1)
    for split in splits:
        prompts(data, data.classes(split), options["templates"], options["descriptions"])
