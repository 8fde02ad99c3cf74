"""Cross attention between feature maps: CAN (Hou, Chang, Ma, Shan and Chen, NeurIPS 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.linalg import vecdot, vector_norm

from vlfew.core.checks import check_each_positive
from vlfew.core.features import Features, FeatureSpec
from vlfew.similarities.base import EPS, Similarity

CHUNK_BYTES = {"cpu": 2**24, "cuda": 2**28}
"""Approximate working memory of a chunk of queries; a single query may take more."""


@dataclass
class LocalFeatures:
    """Feature maps as one vector per position, with what every comparison needs of them.

    Attributes:
        vectors: `[E, N, m, C]`: N maps of m positions in each of E episodes.
        inverse_norm: `[E, N, m]`, 1 / length of each vector.
        mean: `[E, N, C]`, mean of the unit vectors of a map.
    """

    vectors: Tensor
    inverse_norm: Tensor
    mean: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> LocalFeatures:
        inverse_norm = 1 / vector_norm(vectors, dim=-1).clamp(min=EPS)
        mean = (inverse_norm / inverse_norm.shape[-1]).unsqueeze(-2) @ vectors
        return cls(vectors, inverse_norm, mean.squeeze(-2))

    def weighted_sum(self, weight: Tensor) -> Tensor:
        """Sums over positions with `weight [E, N, K, m]`: `[E, N, K, C]`."""
        return weight @ self.vectors

    def cosines(self, others: Tensor) -> Tensor:
        """Products of `others [E, N, K, C]` with the unit vectors: `[E, N, K, m]`."""
        return (others @ self.vectors.mT) * self.inverse_norm.unsqueeze(-2)

    def all_cosines(self, others: Tensor) -> Tensor:
        """Products of `others [E, K, C]`, shared by all N maps, with the unit vectors: `[E, N, K, m]`."""
        products = self.vectors.flatten(1, 2) @ others.mT
        return products.unflatten(1, self.inverse_norm.shape[1:]).mT * self.inverse_norm.unsqueeze(-2)


class CrossAttention(Similarity):
    """Cosine of the pooled maps of class and query after each has attended to the other.

    Section 4.1 of the paper, as implemented by its authors. `R [m, m]` are the correlations between the positions of
    a class map (the mean over the images of the class) and of a query map. The kernel
    `w = W2 relu(norm(W1 mean_i R_i))` weighs the columns, the attention is `softmax_i(mean_j R_ij w_j / temperature)`,
    and the class map is multiplied by 1 + attention. The same with R transposed gives the attended query map.

    R and the attended maps are never built: `mean_j R_ij w_j` is the product of a unit vector of the class with the
    weighted mean of those of the query, which costs 2 C m instead of C m^2.

    Args:
        feature_spec: gives m = H * W, the width of the kernel.
        temperature: of the attention.
        scale: factor of the cosine, the inverse temperature of the loss.
        reduction: W1 has m / reduction outputs, at least 1.
        batch_norm: norm is BatchNorm, as in the authors' implementation; equation 3 of the paper has none.

    Raises:
        VlfewError: the model has no feature map.
        ConfigError: temperature, scale or reduction not above 0.
    """

    needs_map = True
    learned = True
    averages_items = True

    def __init__(
        self,
        feature_spec: FeatureSpec,
        *,
        temperature: float = 0.025,
        scale: float = 7.0,
        reduction: int = 6,
        batch_norm: bool = True,
    ) -> None:
        super().__init__(feature_spec)
        check_each_positive("cross_attention", temperature=temperature, scale=scale, reduction=reduction)
        _, height, width = feature_spec.require_map("cross_attention")
        positions = height * width
        hidden = max(1, positions // reduction)
        self.temperature, self.score_scale = temperature, scale
        self.narrow, self.widen = nn.Linear(positions, hidden), nn.Linear(hidden, positions)
        self.norm = nn.BatchNorm1d(hidden) if batch_norm else nn.Identity()
        for layer in (self.narrow, self.widen):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def pairwise(self, a: Features, b: Features) -> Tensor:
        first, second = (f.require("map", "cross_attention").unsqueeze(1) for f in (a, b))
        rows = self.chunk_size(1, self.vectors(first[:1]))
        chunks = zip(first.split(rows), second.split(rows), strict=True)
        return torch.cat([self._compare(self.local(x), self.local(y)).flatten() for x, y in chunks])

    def matrix(self, queries: Features, items: Features) -> Tensor:
        maps = [f.require("map", "cross_attention") for f in (queries, items)]
        lead = maps[1].shape[:-4]
        query_maps, item_maps = (m.reshape(-1, *m.shape[-4:]) for m in maps)
        scores = self.class_scores(self.local(item_maps), query_maps)
        return scores.view(*lead, *scores.shape[1:])

    def class_scores(self, classes: LocalFeatures, query_maps: Tensor) -> Tensor:
        """Similarities `[E, Q, N]` of `query_maps [E, Q, C, H, W]` and classes, in chunks of queries."""
        rows = self.chunk_size(classes.vectors.shape[1], classes.vectors)
        chunks = query_maps.split(rows, dim=1)
        return torch.cat([self._compare(classes, self.local(chunk)) for chunk in chunks], 1)

    def class_weights(self, classes: LocalFeatures, queries: LocalFeatures) -> Tensor:
        """Weight of each position of a class given a query, 1 + attention: `[E, N, Q, m]`."""
        return 1 + self._attention(classes, queries)

    def query_weights(self, classes: LocalFeatures, queries: LocalFeatures) -> Tensor:
        """Weight of each position of a query given a class, 1 + attention: `[E, Q, N, m]`."""
        return 1 + self._attention(queries, classes)

    def _attention(self, own: LocalFeatures, other: LocalFeatures) -> Tensor:
        """Attention of N maps given each of K others: `[E, N, K, m]`."""
        pooled = other.all_cosines(own.mean)  # [E, K, N, m]
        kernel: Tensor = self.widen(torch.relu(self.norm(self.narrow(pooled.flatten(0, -2)))))
        kernel = kernel.view_as(pooled)
        target = other.weighted_sum(kernel * (other.inverse_norm / kernel.shape[-1]).unsqueeze(-2))
        return torch.softmax(own.cosines(target.transpose(1, 2)) / self.temperature, dim=-1)

    def _compare(self, classes: LocalFeatures, queries: LocalFeatures) -> Tensor:
        """Similarities `[E, Q, N]` of attended and pooled maps."""
        p = classes.weighted_sum(self.class_weights(classes, queries)).transpose(1, 2)
        q = queries.weighted_sum(self.query_weights(classes, queries))
        lengths = vector_norm(p, dim=-1) * vector_norm(q, dim=-1)
        return self.score_scale * vecdot(p, q) / lengths.clamp(min=EPS)

    def local(self, maps: Tensor) -> LocalFeatures:
        """Feature maps `[E, N, C, H, W]` as `LocalFeatures`."""
        return LocalFeatures.of(self.vectors(maps))

    def vectors(self, maps: Tensor) -> Tensor:
        """Maps `[..., C, H, W]` as vectors `[..., m, C]` in the number type of the weights."""
        weight = self.narrow.weight
        return maps.flatten(-2).mT.to(weight.device, weight.dtype).contiguous()

    def chunk_size(self, others: int, vectors: Tensor) -> int:
        """How many maps fit `CHUNK_BYTES`, each compared with `others` maps in all of E episodes."""
        episodes, _, positions, channels = vectors.shape
        row = episodes * channels * (positions + 4 * others) * vectors.element_size()
        return max(1, CHUNK_BYTES[vectors.device.type] // row)
