"""Logistic regression over classes, solved to its end."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def logistic_weights(
    items: Tensor, class_id: Tensor, prior: Tensor, start: Tensor, c: float | Tensor, steps: int
) -> Tensor:
    """The weights W `[..., D, N]` with the least `sum_i CE(W' x_i, y_i) + |W - prior|^2 / (2 c)`.

    The Hessian of the cross entropy is nowhere above `1/2 X'X` for each class (Böhning 1992, section 3). A
    step that takes this bound for the Hessian needs one factorisation for all steps, and no step size.
    Steps are extrapolated as Nesterov's are, afresh wherever that led uphill (O'Donoghue and Candès 2015,
    section 3.2). Each episode goes its own way.

    Args:
        items: x, `[..., S, D]`.
        class_id: y, `[S]`.
        prior: `[..., D, N]`, which W is drawn to.
        start: `[..., D, N]`, where the steps begin.
        c: inverse strength of the pull, as scikit-learn's C; one for all, or `[..., 1, 1]`.
        steps: how many.
    """
    # All but the first step lies in the span of the items, which with few of them has few dimensions.
    basis: Tensor = torch.linalg.qr(items.mT).Q
    inside = items @ basis
    eye = torch.eye(inside.shape[-1], dtype=items.dtype, device=items.device)
    factor: Tensor = torch.linalg.cholesky(inside.mT @ inside / 2 + eye / c)
    target = one_hot(class_id, prior.shape[-1]).to(items.dtype)
    fixed = items @ prior
    w = basis.mT @ (start - prior)
    ahead, momentum = w, w.new_ones(*w.shape[:-2], 1, 1)
    for _ in range(steps):
        wrong = torch.softmax(fixed + inside @ ahead, -1) - target
        slope = inside.mT @ wrong + ahead / c
        new = ahead - torch.cholesky_solve(slope, factor)
        uphill = (slope * (new - w)).sum((-2, -1), keepdim=True) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        ahead = new + (momentum - 1) / following * (new - w)
        w, momentum = new, following
    return prior + basis @ w
