"""N-way K-shot episodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vlfew.data.images import LabelledImages
from vlfew.errors import ConfigError
from vlfew.evaluation.accuracy import Score, episode_accuracies, scoring_device
from vlfew.evaluation.bank import split_pictures
from vlfew.evaluation.episodes import Episodes, draw_episodes
from vlfew.evaluation.results import mean_ci95
from vlfew.evaluation.subject import Outcome, Subject
from vlfew.features import Features
from vlfew.scorers import SCORERS
from vlfew.scorers.base import Scorer
from vlfew.scorers.support import Support


def split_episodes(
    data: LabelledImages,
    split: str,
    ways: int | Literal["all"],
    shots: int,
    queries: int | Literal["all"],
    episodes: int,
    seed: int,
    file: Path | None = None,
) -> Episodes:
    """`draw_episodes` from a split, whose bank they index; kept in `file`, or read from it when there.

    Raises:
        ConfigError: as `draw_episodes`, or the file holds other episodes than were asked for.
        DataError: no such split, or as `draw_episodes` and `Episodes.load`.
    """
    labels = data.labels[split_pictures(data, split)]
    drawn_from = f"{data.name} {data.fingerprint} {split}"
    if file is not None and file.exists():
        kept = Episodes.load(file, drawn_from)
        n = len(labels.unique()) if ways == "all" else ways
        q = kept.query.shape[2] if queries == "all" else queries
        asked, held = (episodes, n, shots, q), (*kept.support.shape, kept.query.shape[2])
        if asked != held:
            raise ConfigError(
                f"{file} holds {held} episodes, ways, shots and queries, not {asked}; name another file"
            )
        return kept
    drawn = draw_episodes(labels, ways, shots, queries, episodes, seed, data.class_names)
    if file is not None:
        drawn.save(file, drawn_from)
    return drawn


def require_shots(shots: int) -> None:
    """Refuses a support without pictures.

    Raises:
        ConfigError: fewer than one shot.
    """
    if shots < 1:
        raise ConfigError(f"shots is {shots}; it must be at least 1 (the zero-shot protocol goes by words)")


def from_pictures(scorer: Scorer, ways: int, shots: int) -> Score:
    """Scores episodes whose support is `shots` pictures a class, side by side."""
    scorer = scorer.to(scoring_device())
    class_id = torch.arange(ways, device=scoring_device()).repeat_interleave(shots)

    def score(support: Features, queries: Features, classes: Tensor) -> Tensor:
        return scorer.fit(Support(support, class_id, ways)).score(queries)

    return score


def few_shot(
    subject: Subject,
    *,
    split: str = "test",
    ways: int | Literal["all"] = 5,
    shots: int = 1,
    queries: int | Literal["all"] = 15,
    episodes: int = 10_000,
    seed: int = 0,
    scorer: str = "default",
    episodes_file: Path | None = None,
) -> Outcome:
    """Mean over episodes of the share of queries that get their class; interval over episodes.

    Args:
        subject: the model and the data.
        split: which classes.
        ways: N classes an episode, at least 2, or `all`.
        shots: K support pictures a class.
        queries: query pictures a class, or `all` that are left.
        episodes: how many.
        seed: of the draws.
        scorer: by name; `default` is what the model was trained for.
        episodes_file: the episodes are kept here, or taken from here when it is there.

    Raises:
        DataError: too few classes or pictures, named.
        ConfigError: fewer than 2 ways or 1 shot, or episodes_file holds other episodes.
    """
    require_shots(shots)
    drawn = split_episodes(subject.data, split, ways, shots, queries, episodes, seed, episodes_file)
    n = drawn.classes.shape[1]
    score = from_pictures(subject.model.scorer(scorer), n, shots)
    accuracies = episode_accuracies(subject.bank(split).features, drawn, score)
    accuracy, ci95 = mean_ci95(accuracies.tolist())
    details = {"ways": n, "shots": shots, "queries": queries, "scorer": scorer, "interval": "over episodes"}
    return Outcome(accuracy, ci95, len(drawn), details, accuracies)


def check_few_shot(data: LabelledImages, options: Mapping[str, Any]) -> None:
    """Raises what `few_shot` would, from the labels alone; draws one episode."""
    o, file = options, options["episodes_file"]
    require_shots(o["shots"])
    check_scorer(o.get("scorer", "default"))
    draw = (data, o["split"], o["ways"], o["shots"], o["queries"])
    if file is not None and file.exists():
        split_episodes(*draw, o["episodes"], o["seed"], file)
    else:
        split_episodes(*draw, min(o["episodes"], 1), o["seed"])


def check_scorer(name: str) -> None:
    """Refuses a scorer that no model has.

    Raises:
        VlfewError: no such scorer.
    """
    if name != "default":
        SCORERS.get(name)
