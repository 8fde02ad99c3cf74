"""The losses of the Cross Attention Network (Hou et al. 2019), over episodes cut from the batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlfew.core.errors import ConfigError
from vlfew.losses.base import Loss, LossContext
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.class_weights import target_of
from vlfew.losses.map_cross_entropy import position_cross_entropy
from vlfew.similarities.cross_attention import CrossAttention, Local


def check_episodes(classes: int, images: int, ways: int, shots: int) -> None:
    """Holds batches of so many classes and images of each to what episodes of `ways` and `shots` want.

    Raises:
        ConfigError: fewer than 2 ways or 1 shot; the classes are not so many times `ways`, or have not
            more images than `shots`.
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
            f"a class of the batch has {images} image(s), and episodes of {shots} shot(s) want at least "
            f"{shots + 1}; raise sampling.images_per_class"
        )


def cut_into_episodes(labels: Tensor, ways: int, shots: int) -> tuple[Tensor, Tensor]:
    """A batch as episodes, class after class as they come; no class is in two.

    Args:
        labels: `[B]`.
        ways: N classes an episode.
        shots: K images of each that make its class map; the others are queries.

    Returns:
        Places in the batch of support `[E, N, K]` and queries `[E, N, Q]`.

    Raises:
        ConfigError: the classes of the batch are not so many times `ways`, or have not one number of
            images above `shots`.
    """
    _, label, counts = labels.unique(return_inverse=True, return_counts=True)
    least, most = int(counts.min()), int(counts.max())
    check_episodes(len(counts), least, ways, shots)
    if least < most:
        raise ConfigError(
            f"classes of the batch have {least} to {most} images, and episodes want one number of each"
        )
    places = label.argsort(stable=True).view(len(counts), least)
    # The sampler draws classes in random order, which is not to become that of their numbers.
    episodes = places[places[:, 0].argsort()].view(-1, ways, least)
    return episodes[..., :shots], episodes[..., shots:]


class _EpisodeTerm(Loss):
    """Class maps and query maps of the batch's episodes, through the model's cross attention."""

    needs_map = True
    needs_embedding = False
    trains_similarity = True
    required_similarity = "cross_attention"

    def __init__(self, ways: int, shots: int) -> None:
        super().__init__()
        check_episodes(ways, shots + 1, ways, shots)
        self.ways, self.shots = ways, shots

    @classmethod
    def check_batches(cls, options: Mapping[str, Any], classes: int | None, images: int | None) -> None:
        if classes is None or images is None:
            raise ConfigError(
                "the losses of cross attention cut episodes from batches of classes; set sampling.classes_per_batch and "
                "sampling.images_per_class, and what is set of the other forms to null"
            )
        check_episodes(classes, images, options["ways"], options["shots"])

    def forward(self, batch: EncodedBatch) -> Tensor:
        attention = batch.similarity
        assert isinstance(attention, CrossAttention)
        support, query = cut_into_episodes(batch.labels, self.ways, self.shots)
        maps = batch.image.need("map", type(self).__name__)
        query = query.flatten(1)
        classes, queries = attention.local(maps[support].mean(2)), attention.local(maps[query])
        return self.over_episodes(batch, attention, classes, queries, query)

    @abstractmethod
    def over_episodes(
        self, batch: EncodedBatch, attention: CrossAttention, classes: Local, queries: Local, query: Tensor
    ) -> Tensor:
        """The loss of E episodes of N classes and N * Q queries, class by class, at places `query`."""


class CrossAttentionNearest(_EpisodeTerm):
    """Every position of a query finds its class among those of the episode: L1, equations 5 and 6.

    The scores are `scale * cosine` of the query's vector there and the attended, pooled class map. The
    query's own attention scales a vector, which leaves its cosines as they are, so it has no part here.

    Args:
        ways: N classes an episode; the batch's classes are a multiple.
        shots: images that make a class map; the class's others in the batch are queries.

    Raises:
        ConfigError: fewer than 2 ways or 1 shot.
    """

    def __init__(self, *, ways: int = 5, shots: int = 1) -> None:
        super().__init__(ways, shots)

    def over_episodes(
        self, batch: EncodedBatch, attention: CrossAttention, classes: Local, queries: Local, query: Tensor
    ) -> Tensor:
        pooled = classes.weighted(attention.class_weights(classes, queries)).transpose(1, 2)
        scores = attention.score_scale * queries.cosines(F.normalize(pooled, dim=-1))  # [E, N * Q, N, m]
        target = torch.arange(self.ways, device=query.device).repeat_interleave(query.shape[1] // self.ways)
        return position_cross_entropy(scores.mT, target.expand_as(query))


class CrossAttentionClasses(_EpisodeTerm):
    """Every position of a query finds its class among all of training: L2, equation 7.

    A dense layer over the query's map as it is attended beside its own class.

    Args:
        trained: the space and the number of training classes.
        ways: N classes an episode; the batch's classes are a multiple.
        shots: images that make a class map; the class's others in the batch are queries.

    Raises:
        ConfigError: fewer than 2 ways or 1 shot.
        VlfewError: the model gives no maps.
    """

    needs_classes = True

    def __init__(self, trained: LossContext, *, ways: int = 5, shots: int = 1) -> None:
        super().__init__(ways, shots)
        self.dense = nn.Linear(
            trained.feature_spec.require_map("cross_attention_classes")[0], trained.classes
        )

    def over_episodes(
        self, batch: EncodedBatch, attention: CrossAttention, classes: Local, queries: Local, query: Tensor
    ) -> Tensor:
        weights = attention.query_weights(classes, queries)  # [E, N * Q, N, m]
        own = torch.arange(self.ways, device=query.device).repeat_interleave(query.shape[1] // self.ways)
        weight = weights[:, torch.arange(len(own), device=query.device), own]
        logits = self.dense(queries.vectors * weight.unsqueeze(-1))
        return position_cross_entropy(logits, target_of(batch)[query])
