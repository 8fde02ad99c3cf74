"""Triplet loss (Schroff, Kalenichenko and Philbin 2015; Hermans, Beyer and Leibe 2017)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vlfew.core.checks import check_one_of
from vlfew.core.errors import ConfigError
from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.distance import Distance, check_margin, distance_matrix

Mining = Literal["all", "batch_hard", "semi_hard"]


class TripletLoss(Loss):
    """`max(0, D(a, p) - D(a, n) + m)` over triplets of the batch: anchor a and p of one class, n of another.

    * `all`: the mean over triplets that violate the margin; with the others in the mean, the loss would fade while
      some are still wrong (Hermans et al. 2017, section 2, "batch all").
    * `batch_hard`: each image with the farthest of its class and the nearest of the others, averaged over images
      (Hermans et al. 2017, eq. 5).
    * `semi_hard`: the mean over triplets whose n is farther than p, but within the margin (Schroff et al. 2015,
      eq. 4). The hardest triplets can collapse all embeddings to one point.

    The default distance and margin are those of Schroff et al., eq. 1. An image that is alone in its class is no
    anchor; without triplets the loss is 0.

    Args:
        margin: m, in units of D; `null` is the soft margin `log(1 + e^(D(a, p) - D(a, n)))` (Hermans et al. 2017,
            section 2).
        distance: D between embeddings: `euclidean`, its square (`squared`) or `l1`.
        mining: which triplets.
        normalize: whether D is taken between unit vectors.

    Raises:
        ConfigError: margin not above 0, wider than unit vectors can be apart, or null for `semi_hard`; unknown
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
            raise ConfigError("mining: semi_hard uses triplets within a margin; margin must be a number")
        self.margin, self.distance, self.mining, self.normalize = margin, distance, mining, normalize

    def forward(self, batch: EncodedBatch) -> Tensor:
        x = batch.image.embedding
        if self.normalize:
            x = F.normalize(x, dim=1)
        gap, valid = self._gaps(distance_matrix(x, self.distance), batch)
        loss = F.softplus(gap) if self.margin is None else (gap + self.margin).clamp(min=0)
        loss = torch.where(valid, loss, 0.0)
        counted = loss > 0 if self.mining == "all" else valid
        return loss.sum() / counted.sum().clamp(min=1)

    def _gaps(self, d: Tensor, batch: EncodedBatch) -> tuple[Tensor, Tensor]:
        """`D(a, p) - D(a, n)` of candidate triplets, and which of them are chosen (bool, same shape).

        Args:
            d: distances `[B, B]`.
            batch: labels in host memory give the candidates, so that shapes do not depend on the device.
        """
        labels = batch.known_labels
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        if self.mining == "batch_hard":
            anchors = (positive.any(1) & ~same.all(1)).nonzero().flatten()
            positive, same = batch.on_device(positive[anchors]), batch.on_device(same[anchors])
            d = d[batch.on_device(anchors)]
            gap = d.masked_fill(~positive, -1).amax(1) - d.masked_fill(same, float("inf")).amin(1)
            return gap, torch.ones_like(gap, dtype=torch.bool)
        # A row for each pair of a and p, never all B^3 triplets.
        a, p = map(batch.on_device, positive.nonzero().unbind(1))
        gap = d[a, p][:, None] - d[a]
        chosen = ~batch.same_class[a]
        if self.mining == "semi_hard":
            assert self.margin is not None
            chosen = chosen & (gap < 0) & (gap > -self.margin)
        return gap, chosen
