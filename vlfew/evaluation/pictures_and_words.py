"""Few-shot episodes whose classes have pictures and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vlfew.checks import require_within
from vlfew.data.images import LabelledImages
from vlfew.errors import ConfigError
from vlfew.evaluation.accuracy import episode_accuracies, scoring_device
from vlfew.evaluation.episodes import Episodes
from vlfew.evaluation.few_shot import check_few_shot, from_pictures, require_shots, split_episodes
from vlfew.evaluation.results import mean_ci95
from vlfew.evaluation.subject import Outcome, Subject
from vlfew.evaluation.templates import Templates, as_list
from vlfew.evaluation.words import class_words, prompts
from vlfew.features import Features, Space
from vlfew.scorers.pictures_and_words import beside_words
from vlfew.scorers.support import PICTURE, WORDS, Support, pictures_with_words

WEIGHTS = tuple(n / 10 for n in range(11))
"""Among which a share of the words is chosen."""

CHOOSING = 1000
"""Episodes by which it is chosen, at most."""


def pictures_and_words(
    subject: Subject,
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
) -> Outcome:
    """The few-shot protocol with classes that have words too; pictures and words alone stand beside it.

    All three see the same episodes (and those of the few-shot protocol with the same options). Both
    together are scored as `beside_words` says, words alone by cosine, and pictures alone as the
    few-shot protocol scores them.

    Args:
        subject: the model and the data.
        split: which classes.
        ways: N classes an episode, at least 2, or `all`.
        shots: K support pictures a class.
        queries: query pictures a class, or `all` that are left.
        episodes: how many.
        seed: of the draws.
        text_weight: share of the words in a class, from 0 to 1; or `validated`: the best of 0, 0.1 ... 1
            in up to 1,000 such episodes of another split.
        calibrate: that split, of other classes or pictures.
        templates: prompts with `{}` for the name, or names of sets of them (`one`, `seven`, `eighty`);
            each prompt is normalised, then averaged.
        descriptions: JSON file of class name to texts that are used instead of the name.
        episodes_file: the episodes are kept here, or taken from here when it is there.

    Raises:
        DataError: class names are not words; too few classes or pictures, named.
        ConfigError: fewer than 2 ways or 1 shot, episodes_file holds other episodes, or a share is to be
            chosen on the split that is scored.
        ModelError: the model has no text stream.
    """
    require_shots(shots)
    asked = _Asked(subject, shots, templates, descriptions)
    drawn = split_episodes(subject.data, split, ways, shots, queries, episodes, seed, episodes_file)
    details: dict[str, Any] = {}
    if text_weight == "validated":
        _require_another(calibrate, split)
        few = min(episodes, CHOOSING)
        choosing = split_episodes(subject.data, calibrate, ways, shots, queries, few, seed)
        found = {w: float(asked.accuracies(calibrate, choosing, w).mean()) for w in WEIGHTS}
        share = max(found, key=lambda w: found[w])
        details["text_weight_chosen_on"] = calibrate
    else:
        share = text_weight
    both = asked.accuracies(split, drawn, share)
    alone = {"pictures": asked.accuracies(split, drawn, None), "words": asked.accuracies(split, drawn, 1.0)}
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
    return Outcome(accuracy, ci95, len(drawn), details, both)


@dataclass
class _Asked:
    """What stays the same whichever split and share of the words are asked about."""

    subject: Subject
    shots: int
    templates: str | tuple[str, ...]
    descriptions: Path | None
    _words: dict[str, Tensor] = field(default_factory=dict)

    def words(self, split: str, classes: Tensor) -> Tensor:
        """Of `classes [C]`, those of the split: `[C, D]`, read once."""
        if split not in self._words:
            self._words[split] = class_words(self.subject, classes, self.templates, self.descriptions)
        return self._words[split]

    def accuracies(self, split: str, drawn: Episodes, text_weight: float | None) -> np.ndarray:
        """`[E]`; without a text_weight, of pictures alone as the model compares them."""
        own = self.subject.model.scorer("default")
        if text_weight is None:
            score = from_pictures(own, drawn.classes.shape[1], self.shots)
            return episode_accuracies(self.subject.bank(split).features, drawn, score, maps=own.needs_map)
        classes = self.subject.data.classes(split)
        words = self.words(split, classes)
        scorer = beside_words(own, Space(words.shape[1]), text_weight).to(scoring_device())
        n, device = drawn.classes.shape[1], scoring_device()
        classes, words, every = classes.to(device), words.to(device), torch.arange(n, device=device)
        class_id = torch.cat([every.repeat_interleave(self.shots), every])
        modality = torch.full((n * self.shots + n,), PICTURE, device=device)
        modality[-n:] = WORDS

        def score_both(pictures: Features, queries: Features, of: Tensor) -> Tensor:
            items = pictures_with_words(pictures, words[torch.searchsorted(classes, of)])
            return scorer.fit(Support(items, class_id, n, modality)).score(queries)

        features = self.subject.bank(split).features
        return episode_accuracies(features, drawn, score_both, maps=scorer.needs_map)


def _require_another(calibrate: str, split: str) -> None:
    if calibrate == split:
        raise ConfigError(
            f"text_weight cannot be validated on {split!r}, the split that is scored; set calibrate to another"
        )


def check_pictures_and_words(data: LabelledImages, options: Mapping[str, Any]) -> None:
    """Raises what `pictures_and_words` would, from labels and class names alone; draws one episode."""
    check_few_shot(data, options)
    splits = [options["split"]]
    if options["text_weight"] == "validated":
        _require_another(options["calibrate"], options["split"])
        check_few_shot(data, {**options, "split": options["calibrate"], "episodes_file": None})
        splits.append(options["calibrate"])
    else:
        require_within("text_weight", options["text_weight"], 0, 1)
    for split in splits:
        prompts(data, data.classes(split), options["templates"], options["descriptions"])
