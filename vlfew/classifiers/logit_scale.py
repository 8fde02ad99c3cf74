"""What a cosine is multiplied by to be a logit: the inverse temperature of a model."""

from __future__ import annotations

import torch
from torch import Tensor

LOW, HIGH = 1.0, 100.0
"""The bounds of a scale; the upper one is where CLIP's was held, and arrived (Radford et al. 2021, section 2.5)."""
HALVINGS = 30


def fit_logit_scale(cosines: Tensor, class_id: Tensor) -> Tensor:
    """The scale in 1..100 that gives the least cross entropy of `scale * cosines`: `[..., 1, 1]`.

    Papers on CLIP write 100, which its logits were trained with. Models trained here have a temperature
    of their own, or none, so it is fitted as a temperature is (Guo et al. 2017, section 4.2), on the
    images of the support against the words: neither has been trained on the other. Where the words
    tell all these images apart, the most certain scale is the best, and it is 100.

    Args:
        cosines: `[..., P, N]` of P images with N classes.
        class_id: `[P]`, the classes of the images.
    """
    own = cosines.gather(-1, class_id.expand(cosines.shape[:-1]).unsqueeze(-1))
    low = cosines.new_full((*cosines.shape[:-2], 1, 1), LOW)
    high = torch.full_like(low, HIGH)
    # The loss is convex in the scale: its slope tells on which side the least is.
    for _ in range(HALVINGS):
        middle = (low * high).sqrt()
        expected = (torch.softmax(middle * cosines, -1) * cosines).sum(-1, keepdim=True)
        above = (expected - own).sum((-2, -1), keepdim=True) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return (low * high).sqrt()
