"""Outputs of a frozen backbone, cached on disk: a backbone that is not trained encodes every image once.

What is trained behind it (projections, similarities, classifiers) then sees the same outputs at every step, hundreds of
times as fast.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlfew import __version__
from vlfew.core.config import TestTimeAugmentation
from vlfew.core.console import log_not_cached
from vlfew.core.errors import ConfigError, DataError, WriteError
from vlfew.core.features import Features
from vlfew.core.progress import Progress
from vlfew.core.tensor_file import load_tensors, save_tensors
from vlfew.data.augmentation import BatchAugment
from vlfew.data.data_root import cache_dir
from vlfew.data.image_files import digest
from vlfew.data.labeled_images import LabeledImages
from vlfew.models.build import backbone_options
from vlfew.models.cache_keys import hash_sample, hash_weights
from vlfew.models.onnx_backbone import onnx_backbone
from vlfew.models.tta import augmented_views

if TYPE_CHECKING:
    from vlfew.models.dual_stream import DualStream

SHARD = 1024
"""Images of a file, which is written as soon as they are encoded: what an interruption loses."""
BATCH_SIZE = 64
MIN_ONNX_IMAGES = 256
"""Fewer images are encoded before the backbone is exported to ONNX."""
SAMPLED_IMAGES = 4
"""Images of a shard whose pixels are part of its name."""


@dataclass(frozen=True)
class View:
    """An augmented view of every image of a list: as that list was batch `number` of the augmentation."""

    augment: BatchAugment
    number: int

    @property
    def key(self) -> tuple[object, ...]:
        """What decides the view's pixels."""
        return self.augment.key, self.number

    def __call__(self, pixels: Tensor, first: int, images: int) -> Tensor:
        """Pixels `[b, C, H, W]` of the images from `first` on, of so many."""
        return self.augment(pixels, self.number, images, first)

    def place(self, first: int, images: int) -> tuple[int, int] | None:
        """What of its place in the list an image's view depends on."""
        return first, images


@dataclass(frozen=True)
class TestTimeView:
    """One of the views of test-time augmentation, by its number from 1 on; the image itself is number 0."""

    tta: TestTimeAugmentation
    number: int

    @property
    def key(self) -> tuple[object, ...]:
        """What decides the view's pixels."""
        return self.tta, self.number

    def __call__(self, pixels: Tensor, first: int, images: int) -> Tensor:
        """Pixels `[b, C, H, W]`, wherever they are in a list."""
        return augmented_views(pixels, self.tta)[self.number]

    def place(self, first: int, images: int) -> tuple[int, int] | None:
        """None: it does not depend on its place."""
        return None


class BackboneOutputs:
    """Outputs of a backbone for S images, mapped from files.

    Args:
        shards: `embedding [n, D]` float32 and, where it is cached, `map` in half precision; all but the last hold
            `SHARD` images.
    """

    def __init__(self, shards: list[Features]) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def __getitem__(self, rows: Tensor) -> Features:
        """Rows `[b]` in float32."""
        shard, within = rows // SHARD, rows % SHARD
        order = shard.argsort(stable=True)
        parts = [self.shards[n][within[order][shard[order] == n]] for n in shard.unique().tolist()]
        return Features.cat(parts)[order.argsort()].apply(Tensor.float)


class BackboneCache:
    """The outputs of a model's frozen backbone for the images of a data set, encoded once.

    The name of a file covers the weights of the backbone, what is before it, how images were read, their content, the
    view and the precision: with anything else, images are encoded again. A damaged file is replaced. Where no file can
    be written, outputs stay in memory.

    Args:
        with_map: whether feature maps are cached.
        precision: name of what `autocast` computes in.
        autocast: gives the context in which images are encoded.
        rank, world_size: this process, and how many share the work.
        wait: returns when all processes have called it.
    """

    def __init__(
        self,
        *,
        with_map: bool = False,
        precision: str = "no",
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        rank: int = 0,
        world_size: int = 1,
        wait: Callable[[], object] = lambda: None,
    ) -> None:
        self.with_map, self.precision, self.autocast = with_map, precision, autocast
        self.rank, self.world_size, self.wait = rank, world_size, wait
        self._loaded: dict[Path, Features] = {}

    def encode(
        self,
        model: DualStream,
        data: LabeledImages,
        index: Tensor,
        name: str,
        view: View | TestTimeView | None = None,
    ) -> BackboneOutputs:
        """Outputs of the model's backbone, without gradients.

        Args:
            model: whose backbone is frozen; on the device where it computes.
            data: holds the images.
            index: `[S]` numbers of the images.
            name: of what is encoded, for the progress bar.
            view: of the images; None for the images themselves.

        Raises:
            DataError: an image that cannot be read.
            ModelError: the backbone gives NaN or infinity.
        """
        model.eval()
        weights = hash_weights(model.backbone, model.preprocessing)
        key = self._key(model, weights)
        starts = range(0, len(index), SHARD)
        files = [self._shard_file(data, index, start, key, view) for start in starts]
        shards: list[Features | None] = [self._load(file) for file in files]
        missing = [number for number, shard in enumerate(shards) if shard is None]
        with Progress(
            f"encoding {name}", sum(len(index[starts[n] :][:SHARD]) for n in missing), "images"
        ) as bar:
            forward = self._forward(model, key, sum(len(index[starts[n] :][:SHARD]) for n in missing))
            encode = partial(self._encode_shard, model, data, index, forward=forward, view=view, bar=bar)
            for number in (n for n in missing if n % self.world_size == self.rank):
                shards[number] = self._kept(encode(starts[number]), files[number])
            if self.world_size > 1:
                self.wait()
            # Those of other processes, and again what they could not write.
            found = [
                shard or self._load(file) or encode(start)
                for shard, file, start in zip(shards, files, starts, strict=True)
            ]
        return BackboneOutputs(found)

    def check_space(self, model: DualStream, images: int, views: int) -> None:
        """Checks that there is space for the outputs of so many views of so many images.

        Raises:
            ConfigError: there is not; says how much is needed.
        """
        per_image = 4 * model.backbone.dim
        if self.with_map:
            channels, height, width = model.feature_spec.require_map("training.cache_views")
            per_image += 2 * channels * height * width
        needed, place = images * views * per_image, cache_dir()
        existing = next(folder for folder in (place, *place.parents) if folder.is_dir())
        free = shutil.disk_usage(existing).free
        if needed > free:
            maps = " and feature maps" if self.with_map else ""
            raise ConfigError(
                f"training.cache_views={views} keeps embeddings{maps} of {images:,} images: {needed / 1e9:,.3g} GB, "
                f"and {existing} has {free / 1e9:,.3g} GB free; cache fewer views, or set XDG_CACHE_HOME"
            )

    def _forward(self, model: DualStream, key: str, images: int) -> Callable[[Tensor], Features]:
        """From pixels `[b, C, H, W]` to the backbone's output."""
        if self.with_map or self.precision != "no" or images < MIN_ONNX_IMAGES:
            return model.backbone_output
        # The exported network takes images of one size.
        name = digest(key, model.spec.channels, model.spec.image_size)
        encode = onnx_backbone(model, cache_dir() / "backbones" / f"{name}.onnx")
        return model.backbone_output if encode is None else lambda pixels: Features(encode(pixels))

    def _key(self, model: DualStream, weights: str) -> str:
        """What decides the backbone's output for given pixels."""
        spec = model.spec
        options = json.dumps(backbone_options(spec, model.backbone), sort_keys=True, default=str)
        before = (
            spec.preprocessing,
            spec.preprocessing_options,
            model.pixel_mean.tolist(),
            model.pixel_std.tolist(),
        )
        how = (self.with_map, self.precision, model.device.type)
        # The options of a folder or hub repository name its architecture; where it lies does not matter.
        prefix, _, name = spec.backbone.partition(":")
        return digest(__version__, prefix, "" if "/" in name else name, options, before, weights, how)

    def _shard_file(
        self,
        data: LabeledImages,
        index: Tensor,
        start: int,
        key: str,
        view: View | TestTimeView | None,
    ) -> Path | None:
        """The file of a shard; None where the images have no hashes to tell them by."""
        if data.images.hashes is None:
            return None
        own = index[start : start + SHARD]
        pixels = hash_sample(data, own, SAMPLED_IMAGES)
        of_view = None if view is None else view.key
        place = None if view is None else view.place(start, len(index))
        name = digest((key, of_view), place, data.images.shape, pixels, data.images.hashes[own].tolist())
        return cache_dir() / "backbones" / f"{name}.safetensors"

    def _load(self, file: Path | None) -> Features | None:
        """What a file holds, checked when it is first read; None if it is missing or damaged."""
        if file is None or not file.is_file():
            return None
        if file not in self._loaded:
            try:
                self._loaded[file] = Features(**load_tensors(file, "outputs of a backbone")[0])
            except DataError:
                return None
        return self._loaded[file]

    def _kept(self, features: Features, file: Path | None) -> Features:
        """The features, mapped from their file where it can be written."""
        if file is None:
            return features
        try:
            save_tensors(file, {name: t for name, t in vars(features).items() if t is not None}, {})
        except WriteError as error:
            log_not_cached("outputs of the frozen backbone are not cached", error)
            return features
        return self._load(file) or features

    @torch.no_grad()
    def _encode_shard(
        self,
        model: DualStream,
        data: LabeledImages,
        index: Tensor,
        start: int,
        *,
        forward: Callable[[Tensor], Features],
        view: View | TestTimeView | None,
        bar: Progress,
    ) -> Features:
        """Outputs of the backbone for images `start` to `start + SHARD` of `index`."""
        parts = []
        for first in range(start, min(start + SHARD, len(index)), BATCH_SIZE):
            # No batch reaches into the next shard, whose size may differ.
            own = index[first : min(first + BATCH_SIZE, start + SHARD)]
            pixels = data.images.batch(own).to(model.device)
            if view is not None:
                pixels = view(pixels, first, len(index))
            with self.autocast():
                features = forward(pixels)
            maps = features.require("map", "training.cache_views").half().cpu() if self.with_map else None
            parts.append(Features(features.embedding.float().cpu(), maps))
            bar.step(len(own))
        shard = Features.cat(parts)
        shard.check_finite(f"images of {data.name}")
        return shard


def evaluation_cache(model: DualStream, maps: bool = False) -> BackboneCache | None:
    """The cache with which a model is evaluated, in full precision; None where its backbone was trained.

    Args:
        model: that is evaluated.
        maps: whether it is also for a model whose similarity needs feature maps, which are large.
    """
    with_map = model.similarity.needs_map
    usable = model.spec.backbone_fixed and (maps or not with_map)
    return BackboneCache(with_map=with_map) if usable else None
