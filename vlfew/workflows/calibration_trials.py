"""Trials to set a gallery's threshold on: of a data set's images, or of labeled pairs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import normalize

from vlfew.core.console import log_note
from vlfew.core.errors import ConfigError, DataError
from vlfew.evaluation.enrolled_items import EnrolledItems
from vlfew.evaluation.feature_cache import cached_split_features
from vlfew.evaluation.score_normalization import Cohort
from vlfew.evaluation.templates import Combine
from vlfew.evaluation.trials import Trials, trials_from_pairs
from vlfew.gallery.calibration import MOST_IDENTITIES
from vlfew.models.dual_stream import DualStream
from vlfew.workflows.evaluate import trained_on
from vlfew.workflows.evaluation_data import DataOptions, load_evaluation_data


def data_trials(
    model: DualStream,
    source: str,
    *,
    root: Path | None = None,
    options: DataOptions = (),
    split: str | None = None,
    combine: Combine = "mean",
    cohort: Cohort | None = None,
) -> Trials:
    """Every image of a data set in turn, left out of its own template, against the templates of all its classes.

    Args:
        model: encodes the images.
        source: name of the data source.
        root: of the data.
        options: of the source.
        split: of the data; None is all but the one that the model was trained on.
        combine: the gallery's rule for several images.
        cohort: that the gallery's scores are normalized against.

    Raises:
        ConfigError: no such split.
        DataError: data that are missing, or of which nothing can be compared.
    """
    data = load_evaluation_data(model, source, root, options)
    there = [name for name in data.splits if len(data.splits[name])]
    learned = [name for name in there if trained_on(model) == f"{data.name}/{name}"]
    chosen = [name for name in there if name not in learned] if split is None else [split]
    if not chosen or split not in (None, *there):
        what = f"there is no split {split!r}" if chosen else "the model was trained on all of it"
        raise ConfigError(f"{source}: {what}; splits: {', '.join(there)} (--split)")
    if split in learned:
        log_note(f"the model was trained on {data.name}/{split}: the rates of other images will be worse")
    banks = [cached_split_features(model, data, name) for name in chosen]
    embedding = normalize(torch.cat([bank.features.embedding for bank in banks]).double(), dim=1)
    labels = torch.cat([bank.labels for bank in banks])
    items = EnrolledItems(embedding, labels, combine=combine, cohort=cohort, most_identities=MOST_IDENTITIES)
    return items.trials()


def pair_trials(model: DualStream, file: Path, cohort: Cohort | None = None) -> Trials:
    """The scores of labeled pairs: the first image is the probe, the second is all that is enrolled.

    Args:
        model: encodes the images.
        file: CSV with the columns `first`, `second` and `same`, or a list as LFW's (see the data source `pairs`).
        cohort: that the gallery's scores are normalized against.

    Raises:
        DataError: a file that is missing or not of this form, or an image that cannot be read.
    """
    if not file.is_file():
        raise DataError(f"{file}: there is no such file; give a CSV with the columns first, second and same")
    data = load_evaluation_data(model, "pairs", file.parent, {"file": file.name})
    pairs = data.pairs["test"]
    bank = cached_split_features(model, data, "test")
    embedding = normalize(bank.features.embedding.double(), dim=1)
    scores = (embedding[pairs.i] * embedding[pairs.j]).sum(1)
    if cohort is not None:
        of_images = cohort.of_embeddings(embedding)
        scores = of_images[pairs.i].normalize(scores, of_images[pairs.j])
    return trials_from_pairs(scores.numpy(), data.labels[pairs.i].numpy(), data.labels[pairs.j].numpy())
