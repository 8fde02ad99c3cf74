"""From batch numbers to batches on the device: torch's DataLoader, and augmentation."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vlfew.core.errors import DataError, VlfewError
from vlfew.core.features import Features
from vlfew.data.augmentation import BatchAugment
from vlfew.data.batch import Batch
from vlfew.data.image_stores import DecodedOnDemand
from vlfew.data.labeled_images import ImageStore, LabeledImages
from vlfew.data.samplers import Sampler
from vlfew.losses.batch import BatchPairs
from vlfew.training.cached_views import CachedViews
from vlfew.training.hardware import available_cores
from vlfew.training.text_batches import TextBatches

MAX_WORKERS = 8
GPU_MEMORY_SHARE = 0.5
"""Training images are copied to GPU memory if they take at most this share of what is free."""


@dataclass(frozen=True)
class BatchLabels:
    """The labels of the images and texts of a batch, over all processes.

    Attributes:
        labels: `[B]` class of each image, on the device.
        host_labels: `[B]` the same in host memory, for losses whose shapes depend on them: the host does not have
            to wait for the device.
        text_labels: `[T]` class of each text, if there are any.
        pairs: that the batch was sampled for, if it was.
    """

    labels: Tensor
    host_labels: Tensor
    text_labels: Tensor | None = None
    pairs: BatchPairs | None = None


@dataclass(frozen=True)
class TrainingBatch:
    """A process's share of a batch, on the device.

    Attributes:
        number: of the batch.
        images: uint8 `[B / P, C, H, W]` for P processes, or cached outputs of a frozen backbone for them.
        labels: of the whole batch.
        text: vectors `[T, D_text]` of a frozen text encoder, or tokens `[T, L]` by name; None without text.
        augment: of images.
        start: position of the first image in the whole batch of B.
    """

    number: int
    images: Tensor | Features
    labels: BatchLabels
    text: Tensor | dict[str, Tensor] | None
    augment: BatchAugment
    start: int = 0

    def pixels(self, first: int = 0, last: int | None = None) -> Tensor | Features:
        """Images `first` to `last`, augmented: float32 `[b, C, H, W]` in 0..255, the same at every call.

        Cached outputs are those of augmented images.
        """
        if isinstance(self.images, Features):
            return self.images[first:last]
        total = len(self.labels.host_labels)
        return self.augment(self.images[first:last], self.number, total, self.start + first)


class _NumberedBatches(Dataset["tuple[int, Batch, Tensor] | DataError"]):
    """Number, batch, and this process's share of its images in host memory. Worker processes only read and decode.

    An error is an item too: raised in a worker process it would arrive with a traceback in its message.

    Args:
        sampler: of image numbers.
        images: where they come from; None gives their numbers.
        rank: of this process.
        world_size: processes that share each batch.
    """

    def __init__(self, sampler: Sampler, images: ImageStore | None, rank: int, world_size: int) -> None:
        self.sampler, self.images, self.rank, self.world_size = sampler, images, rank, world_size

    def __getitem__(self, number: int) -> tuple[int, Batch, Tensor] | DataError:
        batch = self.sampler.batch(number)
        share = len(batch.index) // self.world_size
        index = batch.index[share * self.rank : share * (self.rank + 1)]
        try:
            return number, batch, index if self.images is None else self.images.batch(index)
        except VlfewError as error:
            return DataError(str(error))  # not every error can be sent between processes


class BatchLoader:
    """Gives the batches of a training, from any number on.

    Images that are decoded on demand are decoded by worker processes. On a GPU, batches are copied from pinned memory
    without waiting, and training images that are in memory and fit live in GPU memory.

    Args:
        data: its training images are used.
        sampler: gives batch n as a function of its seed and n.
        augment: applied on the device.
        texts: of the classes; None for training without text.
        device: of the batches.
        rank, world_size: this process, and how many share each batch.
        views: cached outputs of a frozen backbone, which take the place of images.
        num_workers: processes that read and decode; None for one per core (at most 8) where images are decoded on
            demand, and none where they are in memory.
    """

    def __init__(
        self,
        data: LabeledImages,
        sampler: Sampler,
        augment: BatchAugment,
        texts: TextBatches | None,
        device: torch.device,
        *,
        rank: int = 0,
        world_size: int = 1,
        views: CachedViews | None = None,
        num_workers: int | None = None,
    ) -> None:
        self.augment, self.texts, self.device, self.rank = augment, texts, device, rank
        self.views = views
        on_demand = isinstance(data.images, DecodedOnDemand) and views is None
        workers = min(MAX_WORKERS, available_cores()) if on_demand else 0
        self.num_workers = workers if num_workers is None else num_workers
        self.resident: Tensor | None = None
        if device.type == "cuda" and not on_demand and views is None:
            self._move_to_gpu(data)
        images = data.images if self.resident is None and views is None else None
        self.dataset = _NumberedBatches(sampler, images, rank, world_size)

    def _move_to_gpu(self, data: LabeledImages) -> None:
        """Copies the training images to GPU memory, if they fit."""
        train, (c, h, w) = data.indices("train"), data.images.shape
        free, _ = torch.cuda.mem_get_info(self.device)
        if len(train) * c * h * w > GPU_MEMORY_SHARE * free:
            return
        self.resident = torch.empty((len(train), c, h, w), dtype=torch.uint8, device=self.device)
        for part in torch.arange(len(train)).split(1024):
            self.resident[part[0] : part[-1] + 1] = data.images.batch(train[part]).to(self.device)
        self.row = torch.zeros(len(data.images), dtype=torch.long)
        self.row[train] = torch.arange(len(train))

    def batches(self, start: int, stop: int) -> Generator[TrainingBatch, None, None]:
        """Batches `start` to `stop - 1`.

        Raises:
            DataError: an image cannot be read.
        """
        on_gpu = self.device.type == "cuda"
        loader = DataLoader(
            self.dataset,
            batch_size=None,  # an item is a whole batch
            sampler=range(start, stop),
            num_workers=self.num_workers,
            pin_memory=on_gpu,
            generator=torch.Generator(),  # without it, starting workers would draw from torch's global one
        )
        for item in loader:
            if isinstance(item, DataError):
                raise item
            number, batch, images = item
            start = len(images) * self.rank
            text, text_labels = (None, None) if self.texts is None else self.texts(batch)
            if self.resident is not None:
                images = self.resident[self.row[images].to(self.device, non_blocking=True)]
            elif self.views is not None:
                outputs = self.views.batch(images, number, len(batch.index), start)
                images = outputs.apply(lambda part: part.to(self.device, non_blocking=on_gpu))
            labels, pairs = send_to_device((batch.labels, batch.pairs), self.device, non_blocking=on_gpu)
            if isinstance(images, Tensor):
                images = send_to_device(images, self.device, non_blocking=on_gpu)
            sampled_pairs = None if pairs is None else BatchPairs(*pairs)
            batch_labels = BatchLabels(labels, batch.labels, text_labels, sampled_pairs)
            yield TrainingBatch(number, images, batch_labels, text, self.augment, start)
