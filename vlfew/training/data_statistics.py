"""What a model takes from the training images besides its weights: pixel statistics, preprocessing, references."""

from __future__ import annotations

import torch
from torch import Tensor

from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.feature_bank import model_inputs
from vlfew.models.dual_stream import DualStream

SAMPLE = 4096
"""About this many training images are used at most."""
CHUNK = 512


def fit_pixel_statistics(model: DualStream, data: LabeledImages) -> None:
    """Sets the model's mean and standard deviation per channel, over evenly spread training images.

    Pretrained backbones, which keep the statistics that their weights expect, read none.
    """
    if model.backbone.pixel_mean is not None:
        return
    index = _evenly(data.indices("train"), SAMPLE)
    total = torch.zeros(data.images.shape[0], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for part in index.split(CHUNK):
        pixels = data.images.batch(part).double()
        total += pixels.mean(dim=(0, 2, 3)) * len(part)
        squares += pixels.square().mean(dim=(0, 2, 3)) * len(part)
    mean = total / len(index)
    std = (squares / len(index) - mean.square()).clamp(min=1.0).sqrt()
    model.set_pixel_statistics(mean.float(), std.float())


def fit_preprocessing(model: DualStream, data: LabeledImages) -> None:
    """Fits the model's preprocessing (PCA), if it has one to fit, on evenly spread training images.

    Raises:
        ModelError: there are too few of them.
    """
    if model.preprocessing is not None and model.preprocessing.max_fit_images:
        index = _evenly(data.indices("train"), model.preprocessing.max_fit_images)
        model.preprocessing.fit(
            model.normalize_pixels(data.images.batch(part)) for part in index.split(CHUNK)
        )


def fit_training_means(model: DualStream, data: LabeledImages) -> None:
    """Fits what the model has of centering, whitening, class probabilities and class neighbors.

    On evenly spread training images.
    """
    neighbors = model.class_neighbors is not None and not model.uses_pretraining_classes
    if not model.spec.center_embeddings and not neighbors and model.class_probabilities is None:
        return
    index, classes = data.indices("train"), data.classes("train")
    labels = torch.searchsorted(classes, data.labels[index])
    sample = evenly_of_each_class(labels, max(1, SAMPLE // len(classes)))
    classes_of_sample = labels[sample]
    texts = [data.class_texts[c] for c in classes.tolist()]
    if model.backbone_cache is None:
        index, sample = index[sample], torch.arange(len(sample))
    # A cache holds the outputs for the whole split, and gives those of the sample.
    inputs = model_inputs(model, data, index, f"{data.name} train")
    model.fit_training_means((inputs(rows) for rows in sample.split(CHUNK)), classes_of_sample, texts)


def evenly_of_each_class(labels: Tensor, most: int) -> Tensor:
    """Positions in `labels [n]` of up to `most` evenly spread entries of each class."""
    return torch.cat([_evenly((labels == c).nonzero().flatten(), most) for c in labels.unique().tolist()])


def _evenly(index: Tensor, most: int) -> Tensor:
    """Up to `most` evenly spread entries of `index [n]`."""
    return index[torch.linspace(0, len(index) - 1, min(most, len(index))).long()]
