"""`FeatureBank`: the features of a split, encoded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.features import Features
from vlfew.core.progress import Progress
from vlfew.core.tensor_file import load_tensors, save_tensors
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation.encoder_model import EncoderModel
from vlfew.models.backbone_cache import BackboneCache, TestTimeView
from vlfew.models.tta import NUM_VIEWS


@dataclass(frozen=True)
class FeatureBank:
    """Features of all images of a split, on the CPU.

    Attributes:
        features: `embedding [S, D]` float32, and `map` in half precision where the similarity needs it.
        labels: `[S]` int64, class number in `data` of each image.
        index: `[S]` int64, number in `data` of each image.
        data: the encoded data set, with its class names, groups and sources.
        split: name of the split.
    """

    features: Features
    labels: Tensor
    index: Tensor
    data: LabeledImages
    split: str

    def __len__(self) -> int:
        return len(self.labels)

    def save(self, path: Path) -> None:
        """Writes a safetensors file that records which data and split it belongs to."""
        parts = {f"features.{name}": t for name, t in vars(self.features).items() if t is not None}
        metadata = {"data": self.data.name, "split": self.split, "fingerprint": self.data.fingerprint}
        save_tensors(path, {**parts, "labels": self.labels, "index": self.index}, metadata)

    @classmethod
    def load(cls, path: Path, data: LabeledImages) -> FeatureBank:
        """The bank that `save` wrote, for the same `data`.

        Raises:
            DataError: missing, damaged, or made from other data.
        """
        tensors, metadata = load_tensors(path, "features")
        if metadata.get("fingerprint") != data.fingerprint:
            raise DataError(
                f"{path} holds features of {metadata.get('data')} {metadata.get('fingerprint')}, not of "
                f"{data.name} {data.fingerprint}; encode the split again"
            )
        labels, index = tensors.pop("labels"), tensors.pop("index")
        features = Features(**{name.removeprefix("features."): t for name, t in tensors.items()})
        return cls(features, labels, index, data, metadata["split"])


def split_indices(data: LabeledImages, split: str) -> Tensor:
    """Numbers `[S]` of the images of a split, at least one.

    Raises:
        DataError: no such split, or an empty one.
    """
    index = data.indices(split)
    if len(index) == 0:
        raise DataError(f"{data.name}: split {split!r} has no images")
    return index


def encode_split(model: EncoderModel, data: LabeledImages, split: str, batch_size: int = 512) -> FeatureBank:
    """Encodes all images of a split.

    Raises:
        DataError: no such split, or an empty one; images of several objects.
        ModelError: the model gives NaN or infinity.
    """
    index = split_indices(data, split)
    data.require_labels("a bank of features")
    features = encode_subset(model, data, index, split, batch_size)
    return FeatureBank(features, data.labels[index], index, data, split)


def model_inputs(model: Any, data: LabeledImages, index: Tensor, name: str) -> Callable[[Tensor], Any]:
    """From rows of `index [S]` to what `image_features` takes: pixels, or cached outputs of each view."""
    cache: BackboneCache | None = getattr(model, "backbone_cache", None)
    if cache is None:
        return lambda rows: data.images.batch(index[rows])
    views = [cache.encode(model, data, index, name)]
    for number in range(1, NUM_VIEWS[model.spec.tta]):
        view = TestTimeView(model.spec.tta, number)
        views.append(cache.encode(model, data, index, f"{name}, view {number + 1}", view))
    return lambda rows: [view[rows] for view in views]


def encode_subset(
    model: EncoderModel, data: LabeledImages, index: Tensor, name: str, batch_size: int = 512
) -> Features:
    """Encodes some images of a data set.

    Args:
        model: encodes the images.
        data: holds the images.
        index: `[S]` numbers of the images.
        name: of the subset, for messages.
        batch_size: images per forward pass.

    Raises:
        ModelError: the model gives NaN or infinity.
    """
    inputs = model_inputs(model, data, index, f"{data.name} {name}")
    parts = []
    with Progress(f"encoding {data.name} {name}", len(index), "images") as bar:
        for rows in torch.arange(len(index)).split(batch_size):
            parts.append(model.image_features(inputs(rows)))
            bar.step(len(rows))
    features = Features.cat(parts)
    features.check_finite(f"images of {data.name} {name}")
    return features
