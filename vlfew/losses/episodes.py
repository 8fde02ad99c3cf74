"""Episodes cut from a batch, for losses that compare query images with class maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vlfew.core.errors import ConfigError
from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch
from vlfew.similarities.cross_attention import CrossAttention, LocalFeatures


def check_episodes(classes: int, images: int, ways: int, shots: int) -> None:
    """Checks that batches of `classes` with `images` each can be cut into episodes of `ways` and `shots`.

    Raises:
        ConfigError: fewer than 2 ways or 1 shot; classes not a multiple of `ways`, or without a query image.
    """
    if ways < 2 or shots < 1:
        raise ConfigError(f"ways is {ways} and shots {shots}; ways must be at least 2 and shots 1")
    if classes % ways:
        raise ConfigError(
            f"a batch of {classes} classes cannot be cut into episodes of {ways} ways; "
            "set sampling.classes_per_batch to a multiple of ways"
        )
    if images <= shots:
        raise ConfigError(
            f"a class of the batch has {images} image(s), and episodes of {shots} shot(s) need at least "
            f"{shots + 1}; raise sampling.images_per_class"
        )


def cut_into_episodes(labels: Tensor, ways: int, shots: int) -> tuple[Tensor, Tensor]:
    """A batch as episodes, class after class in order of appearance; no class is in two.

    Args:
        labels: `[B]`.
        ways: N classes per episode.
        shots: K support images of each; the others are queries.

    Returns:
        Indices into the batch of support images `[E, N, K]` and queries `[E, N, Q]`.

    Raises:
        ConfigError: the number of classes is not a multiple of `ways`, or classes differ in their number of images.
    """
    _, label, counts = labels.unique(return_inverse=True, return_counts=True)
    least, most = int(counts.min()), int(counts.max())
    check_episodes(len(counts), least, ways, shots)
    if least < most:
        raise ConfigError(
            f"classes of the batch have {least} to {most} images, and episodes need the same number of each"
        )
    places = label.argsort(stable=True).view(len(counts), least)
    # The sampler draws classes in random order; episodes follow it.
    episodes = places[places[:, 0].argsort()].view(-1, ways, least)
    return episodes[..., :shots], episodes[..., shots:]


class EpisodeMaps(NamedTuple):
    """Feature maps of E episodes of N classes and Q queries of each.

    Attributes:
        classes: N class maps per episode.
        queries: N * Q query maps per episode, class by class.
        positions: `[E, N * Q]` positions of the queries in the batch.
    """

    classes: LocalFeatures
    queries: LocalFeatures
    positions: Tensor

    def own_class(self) -> Tensor:
        """`[N * Q]` class of each query in its episode, 0 to N - 1."""
        ways, queries = self.classes.vectors.shape[1], self.positions.shape[1]
        return torch.arange(ways, device=self.positions.device).repeat_interleave(queries // ways)


class EpisodeLoss(Loss):
    """Base of losses over class maps and query maps of a batch's episodes, compared by the model's cross attention.

    Args:
        ways: N classes per episode; the batch's number of classes is a multiple.
        shots: images that are averaged to a class map; the class's others in the batch are queries.

    Raises:
        ConfigError: fewer than 2 ways or 1 shot.
    """

    needs_map = True
    needs_embedding = False
    trains_similarity = True
    required_similarity = "cross_attention"

    def __init__(self, *, ways: int = 5, shots: int = 1) -> None:
        super().__init__()
        check_episodes(ways, shots + 1, ways, shots)
        self.ways, self.shots = ways, shots

    @classmethod
    def check_batches(cls, options: Mapping[str, Any], classes: int | None, images: int | None) -> None:
        if classes is None or images is None:
            raise ConfigError(
                "cross-attention losses cut episodes from batches of classes; set sampling.classes_per_batch and "
                "sampling.images_per_class, and the keys of other kinds of batches to null"
            )
        check_episodes(classes, images, options["ways"], options["shots"])

    def forward(self, batch: EncodedBatch) -> Tensor:
        attention = batch.similarity
        assert isinstance(attention, CrossAttention)
        support, query = map(batch.on_device, cut_into_episodes(batch.known_labels, self.ways, self.shots))
        maps = batch.image.require("map", type(self).__name__)
        query = query.flatten(1)
        classes, queries = attention.local(maps[support].mean(2)), attention.local(maps[query])
        return self.over_episodes(batch, attention, EpisodeMaps(classes, queries, query))

    @abstractmethod
    def over_episodes(self, batch: EncodedBatch, attention: CrossAttention, maps: EpisodeMaps) -> Tensor:
        """The loss of all episodes."""
