"""Logistic regression with a Gaussian prior around given weights, for a batch of episodes at once.

Not scikit-learn's: its `LogisticRegression` pulls weights to zero, where these are pulled to the zero-shot classifier,
and takes one problem at a time, where an evaluation has thousands; published figures stop after a number of steps.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def logistic_weights(
    items: Tensor, class_id: Tensor, prior: Tensor, start: Tensor, c: float | Tensor, steps: int
) -> Tensor:
    """The weights W `[..., D, N]` that minimize `sum_i CE(W' x_i, y_i) + |W - prior|^2 / (2 c)`.

    The Hessian of the cross entropy is bounded by `1/2 X'X` for each class (Böhning 1992, section 3). A Newton step
    with this bound needs one factorization for all steps and no step size. Steps have Nesterov momentum, restarted
    wherever it goes uphill (O'Donoghue and Candès 2015, section 3.2). Episodes do not influence each other.

    Args:
        items: x, `[..., S, D]`.
        class_id: y, `[S]`.
        prior: `[..., D, N]`, which W is pulled to.
        start: `[..., D, N]`, the first W.
        c: inverse strength of the pull, as scikit-learn's C; one for all, or `[..., 1, 1]`.
        steps: how many.
    """
    # All steps lie in the span of the items, which has few dimensions with few items.
    basis: Tensor = torch.linalg.qr(items.mT).Q
    inside = items @ basis
    eye = torch.eye(inside.shape[-1], dtype=items.dtype, device=items.device)
    factor: Tensor = torch.linalg.cholesky(inside.mT @ inside / 2 + eye / c)
    target = one_hot(class_id, prior.shape[-1]).to(items.dtype)
    prior_logits = items @ prior
    w = basis.mT @ (start - prior)
    ahead, momentum = w, w.new_ones(*w.shape[:-2], 1, 1)
    for _ in range(steps):
        error = torch.softmax(prior_logits + inside @ ahead, -1) - target
        gradient = inside.mT @ error + ahead / c
        new = ahead - torch.cholesky_solve(gradient, factor)
        uphill = (gradient * (new - w)).sum((-2, -1), keepdim=True) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        following = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        ahead = new + (momentum - 1) / following * (new - w)
        w, momentum = new, following
    return prior + basis @ w
