"""The support set: the items, images and texts, that define each class."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlfew.core.errors import VlfewError
from vlfew.core.features import Features

IMAGE, TEXT = 0, 1
"""The modalities of an item."""


def append_texts(images: Features, texts: Tensor) -> Features:
    """Features of S images followed by those of T texts, `texts [..., T, D]`; maps of texts are zeros."""
    parts = {"embedding": torch.cat([images.embedding, texts], -2)}
    if images.map is not None:
        lead, shape = images.map.shape[:-4], images.map.shape[-3:]
        blank = images.map.new_zeros(*lead, texts.shape[-2], *shape)
        parts["map"] = torch.cat([images.map, blank], -4)
    return Features(**parts)


@dataclass
class SupportSet:
    """The items of N classes: images, texts or both, any number of each.

    Attributes:
        features: of S items, `embedding [..., S, D]`. Leading dimensions are a batch of episodes.
        class_id: `[S]` int64 in 0 to N-1, shared by all episodes of the batch.
        n_classes: N.
        modality: `[S]`, `IMAGE` or `TEXT`; all images where not given.
        class_names: for messages; may be empty.
    """

    features: Features
    class_id: Tensor
    n_classes: int
    modality: Tensor = None  # type: ignore[assignment] # filled in by __post_init__
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        items = self.features.embedding.shape[-2]
        if self.class_id.shape != (items,):
            raise ValueError(f"class_id {tuple(self.class_id.shape)} for {items} support items")
        if self.modality is None:
            self.modality = torch.full_like(self.class_id, IMAGE)

    @property
    def images(self) -> SupportSet:
        """The images alone; classes may be left without items."""
        return self.select(self.modality == IMAGE)

    @property
    def texts(self) -> SupportSet:
        """The texts alone; classes may be left without items."""
        return self.select(self.modality == TEXT)

    def select(self, mask: Tensor) -> SupportSet:
        """The items where `mask [S]` is true; classes may be left without items."""
        chosen, item_dim = mask.nonzero().flatten(), self.features.embedding.ndim - 2
        return replace(
            self,
            features=self.features.apply(lambda t: t.index_select(item_dim, chosen)),
            class_id=self.class_id[chosen],
            modality=self.modality[chosen],
        )

    def counts(self) -> Tensor:
        """Number of items per class, `[N]` int64."""
        return self.class_id.bincount(minlength=self.n_classes)

    def check_items(self, method: str) -> None:
        """Check that every class has an item.

        Raises:
            VlfewError: names the first class without one, and the method.
        """
        if empty := self.first_empty():
            raise VlfewError(
                f"class {empty} has nothing in the support that {method} can use; add at least one item per class"
            )

    def first_empty(self) -> str:
        """The first class without items and how many more there are, for messages; "" where all have items."""
        empty = (self.counts() == 0).nonzero().flatten().tolist()
        if not empty:
            return ""
        name = repr(self.class_names[empty[0]]) if self.class_names else f"number {empty[0]}"
        return name + (f" (and {len(empty) - 1} more)" if len(empty) > 1 else "")

    def one_item_per_class(self) -> bool:
        """Whether item i is the only item of class i, so that nothing needs to be reduced by class."""
        return len(self.class_id) == self.n_classes and bool((self.class_id.diff() == 1).all())

    def mean(self, values: Tensor) -> Tensor:
        """Mean of `values [..., S, D]` over the items of each class, `[..., N, D]`; zeros for empty classes."""
        if self.one_item_per_class():
            return values
        member = values.new_zeros(self.n_classes, len(self.class_id))
        member[self.class_id, torch.arange(len(self.class_id), device=values.device)] = 1.0
        return (member / member.sum(1, keepdim=True).clamp(min=1)) @ values

    def class_means(self, dtype: torch.dtype) -> SupportSet:
        """One item per class: the mean of its features, each part in the number type `dtype`."""
        start = self.features.embedding.ndim - 1

        def mean(part: Tensor) -> Tensor:
            return self.mean(part.to(dtype).flatten(start)).unflatten(-1, part.shape[start:])

        class_id = torch.arange(self.n_classes, device=self.class_id.device)
        return replace(
            self,
            features=self.features.apply(mean),
            class_id=class_id,
            modality=torch.full_like(class_id, IMAGE),
        )
