"""Cross attention between feature maps (Hou, Chang, Ma, Shan and Chen, CAN, NeurIPS 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.linalg import vecdot, vector_norm

from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.support import Support
from vlfew.core.checks import check_at_least, check_each_positive, check_positive, check_range
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.base import EPS

WORKING_BYTES = {"cpu": 2**24, "cuda": 2**28}
"""Maps and vectors that are worked on at a time, about; a query with them is the least."""


@dataclass
class Local:
    """Maps as vectors of their positions, with what every comparison needs of them.

    Attributes:
        vectors: `[E, N, m, C]`, N maps of m positions in each of E episodes.
        inverse: `[E, N, m]`, 1 / length of each vector.
        mean: `[E, N, C]`, mean of the unit vectors.
    """

    vectors: Tensor
    inverse: Tensor
    mean: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> Local:
        inverse = 1 / vector_norm(vectors, dim=-1).clamp(min=EPS)
        mean = (inverse / inverse.shape[-1]).unsqueeze(-2) @ vectors
        return cls(vectors, inverse, mean.squeeze(-2))

    def weighted(self, weight: Tensor) -> Tensor:
        """Sums over positions by `weight [E, N, K, m]`: `[E, N, K, C]`."""
        return weight @ self.vectors

    def cosines(self, others: Tensor) -> Tensor:
        """Products of `others [E, N, K, C]` with the unit vectors: `[E, N, K, m]`."""
        return (others @ self.vectors.mT) * self.inverse.unsqueeze(-2)

    def all_cosines(self, others: Tensor) -> Tensor:
        """Products of `others [E, K, C]`, the same for all N maps, with the unit vectors: `[E, N, K, m]`."""
        products = self.vectors.flatten(1, 2) @ others.mT
        return products.unflatten(1, self.inverse.shape[1:]).mT * self.inverse.unsqueeze(-2)


class CrossAttention(FewShotMethod):
    """Cosine of the pooled maps of class and query, after each has attended to the other.

    Section 4.1 of the paper, as the authors' program has it: of the correlations `R [m, m]` between the
    local features of a class (the mean of its maps) and a query, the kernel
    `w = W2 relu(norm(W1 mean_i R_i))` weighs the columns, attention is
    `softmax_i(mean_j R_ij w_j / temperature)`, and the map is multiplied by 1 + attention; with R
    transposed the same for the query.

    R and the attended maps never exist: `mean_j R_ij w_j` is the product of a unit vector of the class
    with the weighted mean of those of the query, which costs 2 C m, not C m^2.

    Args:
        feature_spec: gives m = H * W, the width of the kernel.
        temperature: of the attention.
        scale: of the cosine, the inverse temperature of the loss.
        reduction: W1 gives m / reduction numbers, at least 1.
        batch_norm: norm is BatchNorm, as in the authors' program; the paper's equation 3 has none.

    Raises:
        VlfewError: the model gives no maps.
        ConfigError: temperature, scale or reduction not above 0.
    """

    needs_map = True
    learned = True

    def __init__(
        self,
        feature_spec: FeatureSpec,
        *,
        temperature: float = 0.025,
        scale: float = 7.0,
        reduction: int = 6,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        check_each_positive("cross_attention", temperature=temperature, scale=scale, reduction=reduction)
        _, height, width = feature_spec.require_map("cross_attention")
        positions = height * width
        hidden = max(1, positions // reduction)
        self.temperature, self.score_scale = temperature, scale
        self.narrow, self.widen = nn.Linear(positions, hidden), nn.Linear(hidden, positions)
        self.norm = nn.BatchNorm1d(hidden) if batch_norm else nn.Identity()
        for layer in (self.narrow, self.widen):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def local(self, maps: Tensor) -> Local:
        """`[E, N, C, H, W]`, half precision or not."""
        return Local.of(self._vectors(maps))

    def class_weights(self, classes: Local, queries: Local) -> Tensor:
        """How much each position of a class counts beside a query, 1 + attention: `[E, N, Q, m]`."""
        return 1 + self._attention(classes, queries)

    def query_weights(self, classes: Local, queries: Local) -> Tensor:
        """How much each position of a query counts beside a class, 1 + attention: `[E, Q, N, m]`."""
        return 1 + self._attention(queries, classes)

    def _attention(self, own: Local, other: Local) -> Tensor:
        """Of N maps to K others: `[E, N, K, m]`."""
        described = other.all_cosines(own.mean)  # [E, K, N, m]
        weight: Tensor = self.widen(torch.relu(self.norm(self.narrow(described.flatten(0, -2)))))
        weight = weight.view_as(described)
        sought = other.weighted(weight * (other.inverse / weight.shape[-1]).unsqueeze(-2))
        return torch.softmax(own.cosines(sought.transpose(1, 2)) / self.temperature, dim=-1)

    def _compare(self, classes: Local, queries: Local) -> Tensor:
        """Scores `[E, Q, N]` of attended and pooled maps."""
        p = classes.weighted(self.class_weights(classes, queries)).transpose(1, 2)
        q = queries.weighted(self.query_weights(classes, queries))
        lengths = vector_norm(p, dim=-1) * vector_norm(q, dim=-1)
        return self.score_scale * vecdot(p, q) / lengths.clamp(min=EPS)

    def _vectors(self, maps: Tensor) -> Tensor:
        """`[..., C, H, W]` to `[..., m, C]` in the number type of the weights."""
        weight = self.narrow.weight
        return maps.flatten(-2).mT.to(weight.device, weight.dtype).contiguous()

    def _rows(self, each: int, vectors: Tensor) -> int:
        """How many maps to work on at a time, each compared with `each` others in all of E episodes."""
        episodes, _, positions, channels = vectors.shape
        row = episodes * channels * (positions + 4 * each) * vectors.element_size()
        return max(1, WORKING_BYTES[vectors.device.type] // row)

    def fit(self, support: Support) -> Self:
        support.check_items(type(self).__name__)
        maps = support.features.need("map", type(self).__name__)
        vectors = self._vectors(maps)
        means = support.mean_of(vectors.flatten(-2)).unflatten(-1, vectors.shape[-2:])
        self._lead = means.shape[:-3]
        self._counts = support.counts()
        self._classes = Local.of(means.reshape(-1, *means.shape[-3:]))
        return self

    def score(self, queries: Features) -> Tensor:
        maps = queries.need("map", type(self).__name__)
        scores = self._score(self._classes, maps.reshape(-1, *maps.shape[-4:]))
        return scores.view(*self._lead, *scores.shape[1:])

    def _score(self, classes: Local, maps: Tensor) -> Tensor:
        """Scores `[E, Q, N]` of `maps [E, Q, C, H, W]`, some queries at a time."""
        rows = self._rows(classes.vectors.shape[1], classes.vectors)
        return torch.cat([self._compare(classes, self.local(part)) for part in maps.split(rows, dim=1)], 1)

    def pair(self, a: Features, b: Features) -> Tensor:
        first, second = (f.need("map", type(self).__name__).unsqueeze(1) for f in (a, b))
        rows = self._rows(1, self._vectors(first[:1]))
        parts = zip(first.split(rows), second.split(rows), strict=True)
        return torch.cat([self._compare(self.local(x), self.local(y)).flatten() for x, y in parts])


class TransductiveCrossAttention(CrossAttention):
    """Cross attention whose classes take in the queries that are surest of them (section 4.3).

    All queries of an episode are scored; the surest share of them join the class they were given to,
    whose map becomes the mean over its images and theirs; and again, with twice the share.

    Args:
        feature_spec: gives m = H * W.
        share: of an episode's queries that each round adds, in `(0, 1]`; the paper adds 35 of 75.
        rounds: how many.
        options: those of `CrossAttention`.

    Raises:
        ConfigError: a share outside `(0, 1]`, or fewer than 1 round.
    """

    transductive = True
    weights_of = "cross_attention"

    def __init__(
        self,
        feature_spec: FeatureSpec,
        *,
        share: float = 35 / 75,
        rounds: int = 2,
        **options: Any,
    ) -> None:
        super().__init__(feature_spec, **options)
        check_positive("cross_attention_transductive's share", share)
        check_range("cross_attention_transductive's share", share, 0, 1)
        check_at_least("cross_attention_transductive's rounds", rounds)
        self.share, self.rounds = share, rounds

    def _score(self, classes: Local, maps: Tensor) -> Tensor:
        scores = super()._score(classes, maps)
        counts = self._counts[:, None, None].to(scores.dtype)
        for number in range(1, self.rounds + 1):
            best, given = scores.max(-1)
            surest = best.topk(self._taken(number, maps.shape[1])).indices
            joined = torch.zeros_like(scores).scatter_(-1, given.unsqueeze(-1), 1.0)
            joined *= torch.zeros_like(best).scatter_(-1, surest, 1.0).unsqueeze(-1)
            total = classes.vectors * counts + self._sums(joined, maps)
            means = total / (counts + joined.sum(1)[..., None, None])
            scores = super()._score(Local.of(means), maps)
        return scores

    def _taken(self, number: int, queries: int) -> int:
        """How many of the queries join in a round."""
        return min(queries, number * max(1, round(self.share * queries)))

    def _sums(self, joined: Tensor, maps: Tensor) -> Tensor:
        """Sums of `maps [E, Q, C, H, W]` by class, `joined [E, Q, N]`: `[E, N, m, C]`."""
        rows = self._rows(0, self._vectors(maps[:, :1]))
        parts = zip(joined.split(rows, dim=1), maps.split(rows, dim=1), strict=True)
        sums: Tensor = sum(j.mT @ self._vectors(part).flatten(-2) for j, part in parts)
        return sums.unflatten(-1, self._classes.vectors.shape[-2:])
