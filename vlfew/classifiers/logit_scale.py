"""The logit scale: the factor, an inverse temperature, that makes a logit of a cosine."""

from __future__ import annotations

import torch
from torch import Tensor

LOW, HIGH = 1.0, 100.0
"""Bounds of the scale; the upper one is the bound of CLIP's, and where it ended (Radford et al. 2021, section 2.5)."""
HALVINGS = 30


def fit_logit_scale(cosines: Tensor, class_id: Tensor) -> Tensor:
    """The scale in 1 to 100 with the least cross entropy of `scale * cosines`: `[..., 1, 1]`.

    Papers on CLIP write 100, the scale it was trained with. Models trained here have a temperature of their own or
    none, so the scale is fitted like a temperature (Guo et al. 2017, section 4.2), on the images of the support and
    their class texts, neither of which was trained on the other. It is 100 where the texts classify every image
    correctly.

    Args:
        cosines: `[..., S, N]` of S images and N classes.
        class_id: `[S]`, the classes of the images.
    """
    own = cosines.gather(-1, class_id.expand(cosines.shape[:-1]).unsqueeze(-1))
    low = cosines.new_full((*cosines.shape[:-2], 1, 1), LOW)
    high = torch.full_like(low, HIGH)
    # The loss is convex in the scale, so the sign of its slope tells on which side the minimum is. SciPy's solvers
    # take one problem at a time; this takes a batch of episodes.
    for _ in range(HALVINGS):
        middle = (low * high).sqrt()
        expected = (torch.softmax(middle * cosines, -1) * cosines).sum(-1, keepdim=True)
        above = (expected - own).sum((-2, -1), keepdim=True) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low * high).sqrt()


def scale_or_fit(scale: float | None, cosines: Tensor, class_id: Tensor) -> float | Tensor:
    """The given scale, or the fitted one; see `fit_logit_scale`."""
    return fit_logit_scale(cosines, class_id) if scale is None else scale
