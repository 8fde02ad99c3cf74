"""The support: what classes are said to be. Ragged by nature."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlfew.core.errors import VlfewError
from vlfew.core.features import Features

IMAGE, TEXT = 0, 1
"""The modalities of a support item."""


def images_with_words(images: Features, words: Tensor) -> Features:
    """Features of S images and, after them, of T texts `words [..., T, D]`, of which maps are zeros."""
    parts = {"embedding": torch.cat([images.embedding, words], -2)}
    if images.map is not None:
        lead, shape = images.map.shape[:-4], images.map.shape[-3:]
        blank = images.map.new_zeros(*lead, words.shape[-2], *shape)
        parts["map"] = torch.cat([images.map, blank], -4)
    return Features(**parts)


@dataclass
class Support:
    """Items that say what each class is: images, words or both, any number of each.

    Attributes:
        features: of S items, `embedding [..., S, D]`. Leading dimensions are a batch of episodes of
            equal size.
        class_id: `[S]` int64 in `0..n_classes-1`, shared by all episodes of the batch.
        n_classes: N.
        modality: `[S]`, `IMAGE` or `TEXT`; all images when not given.
        class_names: one a class, for what is shown to people; may be empty.
    """

    features: Features
    class_id: Tensor
    n_classes: int
    modality: Tensor | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        items = self.features.embedding.shape[-2]
        if self.class_id.shape != (items,):
            raise ValueError(f"class_id {tuple(self.class_id.shape)} for {items} support items")
        if self.modality is None:
            self.modality = torch.full_like(self.class_id, IMAGE)

    def of(self, modality: int) -> Support:
        """Only the items of one modality; classes without any stay, empty."""
        assert self.modality is not None
        keep = (self.modality == modality).nonzero().flatten()
        item_dim = self.features.embedding.ndim - 2
        return replace(
            self,
            features=self.features.apply(lambda t: t.index_select(item_dim, keep)),
            class_id=self.class_id[keep],
            modality=self.modality[keep],
        )

    def counts(self) -> Tensor:
        """`[N]` int64, items of each class."""
        return self.class_id.bincount(minlength=self.n_classes)

    def check_items(self, who: str) -> None:
        """Holds the support to at least one item a class.

        Raises:
            VlfewError: names the first class without items, and `who` needs them.
        """
        empty = self.first_empty()
        if empty:
            raise VlfewError(
                f"class {empty} has nothing in the support that {who} can use; give each class at least one item"
            )

    def first_empty(self) -> str:
        """The first class without items, for messages, and how many more there are; empty where all have some."""
        empty = (self.counts() == 0).nonzero().flatten().tolist()
        if not empty:
            return ""
        name = repr(self.class_names[empty[0]]) if self.class_names else f"number {empty[0]}"
        return name + (f" (and {len(empty) - 1} more)" if len(empty) > 1 else "")

    def one_item_each(self) -> bool:
        """Whether item i is all that class i has, so that nothing need be gathered by class."""
        return len(self.class_id) == self.n_classes and bool((self.class_id.diff() == 1).all())

    def mean_of(self, values: Tensor) -> Tensor:
        """Mean of each class's items of `values [..., S, D]`: `[..., N, D]`; zeros for empty classes."""
        if self.one_item_each():
            return values
        member = values.new_zeros(self.n_classes, len(self.class_id))
        member[self.class_id, torch.arange(len(self.class_id), device=values.device)] = 1.0
        return (member / member.sum(1, keepdim=True).clamp(min=1)) @ values
