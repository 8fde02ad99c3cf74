"""`FeatureBank`: a split, encoded once."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlfew.core.errors import DataError, ModelError
from vlfew.core.features import Features
from vlfew.core.files import atomic_file, sha256, write_atomic
from vlfew.core.progress import Progress
from vlfew.data.labeled_images import LabeledImages

if TYPE_CHECKING:
    from vlfew.evaluation.context import Model


@dataclass(frozen=True)
class FeatureBank:
    """Features of all images of a split, on the CPU.

    Attributes:
        features: `embedding [S, D]` float32, and `map` in half precision where the similarity needs it.
        labels: `[S]` int64, class number in `data` of each image.
        index: `[S]` int64, number in `data` of each image.
        data: what was encoded; its names, groups and sources.
        split: which of its splits.
    """

    features: Features
    labels: Tensor
    index: Tensor
    data: LabeledImages
    split: str

    def __len__(self) -> int:
        return len(self.labels)

    def save(self, path: Path) -> None:
        """Writes `path` (safetensors) and, beside it, what it was made from (`.json`)."""
        parts = {f.name: getattr(self.features, f.name) for f in fields(Features)}
        tensors = {"features." + name: t.contiguous() for name, t in parts.items() if t is not None}
        with atomic_file(path) as temporary:
            save_file({**tensors, "labels": self.labels, "index": self.index}, temporary)
        metadata = {"data": self.data.name, "split": self.split, "fingerprint": self.data.fingerprint}
        write_atomic(
            path.with_suffix(".json"), json.dumps({**metadata, "sha256": sha256(path)}, indent=2) + "\n"
        )

    @classmethod
    def load(cls, path: Path, data: LabeledImages) -> FeatureBank:
        """What `save` wrote, for the same `data`.

        Raises:
            DataError: missing, damaged, or made from other data.
        """
        try:
            metadata = json.loads(path.with_suffix(".json").read_text())
            if sha256(path) != metadata["sha256"]:
                raise DataError(
                    f"{path} is damaged (its SHA-256 is not the one noted); encode the split again"
                )
            tensors = load_file(path)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise DataError(f"cannot read features from {path}: {error}; encode the split again") from error
        if metadata["fingerprint"] != data.fingerprint:
            raise DataError(
                f"{path} holds features of {metadata['data']} {metadata['fingerprint']}, not of "
                f"{data.name} {data.fingerprint}; encode the split again"
            )
        prefix = "features."
        parts = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
        return cls(Features(**parts), tensors["labels"], tensors["index"], data, metadata["split"])


def split_images(data: LabeledImages, split: str) -> Tensor:
    """Numbers `[S]` of the images of a split, at least one.

    Raises:
        DataError: no such split, or an empty one.
    """
    index = data.indices(split)
    if len(index) == 0:
        raise DataError(f"{data.name}: split {split!r} has no images")
    return index


def encode_split(model: Model, data: LabeledImages, split: str, batch_size: int = 512) -> FeatureBank:
    """All images of a split through the image stream, once.

    Raises:
        DataError: no such split, or an empty one.
        ModelError: the model gave NaN or infinity.
    """
    index = split_images(data, split)
    features = encode_images(model, data, index, split, batch_size)
    return FeatureBank(features, data.labels[index], index, data, split)


def encode_images(
    model: Model, data: LabeledImages, index: Tensor, what: str, batch_size: int = 512
) -> Features:
    """The images of these numbers, `index [S]`, through the image stream.

    Args:
        model: encodes them.
        data: has them.
        index: their numbers.
        what: they are, for messages.
        batch_size: so many at a time.

    Raises:
        ModelError: the model gave NaN or infinity.
    """
    parts = []
    with Progress(f"encoding {data.name} {what}", len(index), "images") as bar:
        for batch in index.split(batch_size):
            features = model.encode_images(data.images.batch(batch))
            parts.append(features)
            bar.step(len(batch))
    features = Features.cat(parts)
    finite = features.embedding.isfinite().all(1)
    if features.map is not None:
        finite &= features.map.isfinite().flatten(1).all(1)
    broken = int((~finite).sum())
    if broken:
        raise ModelError(
            f"the model gives NaN or infinity for {broken} of {len(index)} images of {data.name} {what}; "
            "train it again with a lower learning rate"
        )
    return features
