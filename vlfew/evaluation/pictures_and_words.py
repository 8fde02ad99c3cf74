"""Few-shot episodes whose classes have pictures and words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vlfew.data.images import LabelledImages
from vlfew.evaluation.accuracy import episode_accuracies, scoring_device
from vlfew.evaluation.few_shot import check_few_shot, require_shots, split_episodes
from vlfew.evaluation.results import mean_ci95
from vlfew.evaluation.subject import Outcome, Subject
from vlfew.evaluation.templates import as_list
from vlfew.evaluation.words import class_words, prompts
from vlfew.features import Features, Space
from vlfew.scorers.pictures_and_words import PicturesAndWords
from vlfew.scorers.support import PICTURE, WORDS, Support


def pictures_and_words(
    subject: Subject,
    *,
    split: str = "test",
    ways: int | Literal["all"] = 5,
    shots: int = 1,
    queries: int | Literal["all"] = 15,
    episodes: int = 10_000,
    seed: int = 0,
    text_weight: float = 0.5,
    templates: str | tuple[str, ...] = ("{}",),
    descriptions: Path | None = None,
    episodes_file: Path | None = None,
) -> Outcome:
    """The few-shot protocol with `PicturesAndWords`; pictures alone and words alone stand beside it.

    All three see the same episodes (and those of the few-shot protocol with the same options).

    Args:
        subject: the model and the data.
        split: which classes.
        ways: N classes an episode, at least 2, or `all`.
        shots: K support pictures a class.
        queries: query pictures a class, or `all` that are left.
        episodes: how many.
        seed: of the draws.
        text_weight: share of the words in a class, from 0 to 1. Choose it on the validation split.
        templates: prompts with `{}` for the name, or names of sets of them (`one`, `seven`, `eighty`);
            each prompt is normalised, then averaged.
        descriptions: JSON file of class name to texts that are used instead of the name.
        episodes_file: the episodes are kept here, or taken from here when it is there.

    Raises:
        DataError: class names are not words; too few classes or pictures, named.
        ConfigError: fewer than 2 ways or 1 shot, or episodes_file holds other episodes.
        ModelError: the model has no text stream.
    """
    require_shots(shots)
    drawn = split_episodes(subject.data, split, ways, shots, queries, episodes, seed, episodes_file)
    classes = subject.data.classes(split)
    words = class_words(subject, classes, templates, descriptions)
    scorer = PicturesAndWords(Space(words.shape[1]), text_weight=text_weight)
    bank = subject.bank(split)
    n = drawn.classes.shape[1]
    device = scoring_device()
    classes, words, every = classes.to(device), words.to(device), torch.arange(n, device=device)
    class_id = torch.cat([every.repeat_interleave(shots), every])
    modality = torch.cat([torch.full((n * shots,), PICTURE), torch.full((n,), WORDS)]).to(device)

    def accuracies(*keep: int) -> np.ndarray:
        def score(pictures: Features, queries: Features, of: Tensor) -> Tensor:
            items = torch.cat([pictures.embedding, words[torch.searchsorted(classes, of)]], 1)
            support = Support(Features(items), class_id, n, modality)
            return scorer.fit(support if len(keep) == 2 else support.of(*keep)).score(queries)

        return episode_accuracies(bank.features, drawn, score)

    both, pictures_alone, words_alone = accuracies(PICTURE, WORDS), accuracies(PICTURE), accuracies(WORDS)
    accuracy, ci95 = mean_ci95(both.tolist())
    details = {
        "ways": n,
        "shots": shots,
        "queries": queries,
        "text_weight": text_weight,
        "templates": as_list(templates),
        "interval": "over episodes",
    }
    if descriptions is not None:
        details["descriptions"] = str(descriptions)
    for name, values in (("pictures", pictures_alone), ("words", words_alone)):
        details[f"{name}_accuracy"], details[f"{name}_ci95"] = mean_ci95(values.tolist())
    return Outcome(accuracy, ci95, len(drawn), details, both)


def check_pictures_and_words(data: LabelledImages, options: Mapping[str, Any]) -> None:
    """Raises what `pictures_and_words` would, from labels and class names alone; draws one episode."""
    check_few_shot(data, options)
    prompts(data, data.classes(options["split"]), options["templates"], options["descriptions"])
    PicturesAndWords(Space(1), text_weight=options["text_weight"])
