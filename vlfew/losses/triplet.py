"""Triplet loss: an anchor is nearer to its own class than to any other, by a margin."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from vlfew.core.checks import check_one_of
from vlfew.core.errors import ConfigError
from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.distance import Distance, check_margin, distance_matrix

Mining = Literal["all", "batch_hard", "semi_hard"]


class Triplet(Loss):
    """`max(0, D(a, p) - D(a, n) + m)` over triplets of the batch: a and p of one class, n of another.

    * `all`: the mean over the triplets that do not keep the margin yet; with the others in it the
      loss fades while some are still wrong (Hermans, Beyer and Leibe 2017, section 2, "batch all").
    * `batch_hard`: each image with the farthest of its class and the nearest of the others, the
      mean over images (Hermans et al. 2017, eq. 5).
    * `semi_hard`: the mean over triplets whose n is farther than p, but within the margin (Schroff,
      Kalenichenko and Philbin 2015, eq. 4). The hardest ones can pull all images into one point.

    The defaults are the distance and margin of Schroff et al., eq. 1. An image alone in its class is
    no anchor; without triplets the loss is 0.

    Args:
        margin: m, in units of D; `null` is the soft margin, `log(1 + e^(D(a, p) - D(a, n)))`, which
            keeps pulling (Hermans et al. 2017, section 2).
        distance: which D.
        mining: which triplets.
        normalize: take distances between unit vectors.

    Raises:
        ConfigError: margin not above 0, wider than unit vectors can be apart, or none for `semi_hard`; no such
            distance or mining.
    """

    def __init__(
        self,
        *,
        margin: float | None = 0.2,
        distance: Distance = "squared",
        mining: Mining = "all",
        normalize: bool = True,
    ) -> None:
        super().__init__()
        check_one_of("mining", mining, Mining)
        check_margin(margin, distance, normalize)
        if margin is None and mining == "semi_hard":
            raise ConfigError("mining: semi_hard takes triplets within a margin; margin must be a number")
        self.margin, self.distance, self.mining, self.normalize = margin, distance, mining, normalize

    def forward(self, batch: EncodedBatch) -> Tensor:
        x = batch.image.embedding
        if self.normalize:
            x = F.normalize(x, dim=1)
        gap = self._gaps(distance_matrix(x, self.distance), batch.same_class)
        loss = F.softplus(gap) if self.margin is None else (gap + self.margin).clamp(min=0)
        counted = loss > 0 if self.mining == "all" else loss.isfinite()
        return loss.sum() / counted.sum().clamp(min=1)

    def _gaps(self, d: Tensor, same: Tensor) -> Tensor:
        """`D(a, p) - D(a, n)` of the chosen triplets, `[T]`; `d` and `same` are `[B, B]`."""
        positive = same.clone().fill_diagonal_(False)
        if self.mining == "batch_hard":
            anchors = positive.any(1) & ~same.all(1)
            d, same, positive = d[anchors], same[anchors], positive[anchors]
            farthest = d.masked_fill(~positive, -1).amax(1)
            return farthest - d.masked_fill(same, float("inf")).amin(1)
        # A row for each pair of a and p, never all B^3 triplets.
        a, p = positive.nonzero().unbind(1)
        gap = d[a, p][:, None] - d[a]
        chosen = ~same[a]
        if self.mining == "semi_hard":
            assert self.margin is not None
            chosen = chosen & (gap < 0) & (gap > -self.margin)
        return gap[chosen]
