"""Training on cached outputs of a frozen backbone: k augmented views of every image, encoded once."""

from __future__ import annotations

import torch
from torch import Tensor

from vlfew.core.errors import ConfigError
from vlfew.core.features import Features
from vlfew.core.random import generator_at, seed_at
from vlfew.data.augmentation import BatchAugment
from vlfew.data.labeled_images import LabeledImages
from vlfew.models.backbone_cache import BackboneCache, View
from vlfew.models.dual_stream import DualStream


def check_frozen(model: DualStream) -> None:
    """Checks that no weight of the image backbone is trained.

    Raises:
        ConfigError: one is, or there are two backbones.
    """
    if not model.spec.backbone_fixed:
        raise ConfigError(
            "training.cache_views keeps the outputs of a frozen backbone, and this one is trained; set "
            "image.frozen=true (without image.unfreeze_last and image.lora), or leave cache_views out"
        )
    if model.right_backbone is not None:
        raise ConfigError("training.cache_views takes one backbone; set image.share_weights=true")


class CachedViews:
    """Outputs of a frozen backbone for the training images, in k views.

    A view is what the augmentation makes of an image, drawn once from the seed, the image and the number of the view;
    which of its views an image has in a batch is drawn from the seed, the number of the batch and the place in it.
    Where nothing is augmented, all views are the image itself, and one is cached.

    Args:
        model: with a frozen backbone.
        data: its training images are encoded.
        cache: keeps the outputs.
        augment: of the images; its seed is also that of the views and of their choice.
        views: k.

    Raises:
        ConfigError: the backbone is trained, or there is no space for the outputs.
    """

    def __init__(
        self, model: DualStream, data: LabeledImages, cache: BackboneCache, augment: BatchAugment, views: int
    ) -> None:
        check_frozen(model)
        self.seed, index = augment.seed, data.indices("train")
        fixed = BatchAugment(augment.settings, seed_at(augment.seed, "views"))
        self.count = views if fixed.changes_images else 1
        cache.check_space(model, len(index), self.count)
        self.row = torch.full((len(data.images),), -1)
        self.row[index] = torch.arange(len(index))
        self.views = [
            cache.encode(
                model,
                data,
                index,
                f"{data.name} train" + (f", view {number + 1} of {self.count}" if self.count > 1 else ""),
                View(fixed, number) if fixed.changes_images else None,
            )
            for number in range(self.count)
        ]

    def batch(self, images: Tensor, number: int, total: int, start: int) -> Features:
        """Outputs `[b, ...]` of the backbone for a share of a batch.

        Args:
            images: `[b]` their numbers.
            number: of the batch.
            total: images of the whole batch.
            start: place in it of the first.
        """
        drawn = generator_at(self.seed, "view", number).integers(self.count, size=total)
        view, rows = torch.from_numpy(drawn[start : start + len(images)]), self.row[images]
        order = view.argsort(stable=True)
        parts = [self.views[n][rows[order][view[order] == n]] for n in view.unique().tolist()]
        return Features.cat(parts)[order.argsort()]
