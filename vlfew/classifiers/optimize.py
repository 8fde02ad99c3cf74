"""Weights of a support by gradient descent, the same whether episodes come alone or together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vlfew.classifiers.adapter import learning

EPS = 1e-4
"""AdamW's, as Tip-Adapter's program has it: entries that hardly have a gradient hardly move."""


def optimize(
    starts: Sequence[Tensor],
    loss: Callable[[Sequence[Tensor], Tensor], Tensor],
    items: int,
    *,
    epochs: int,
    batch: int,
    lr: float,
    seed: int,
) -> list[Tensor]:
    """Weights after some epochs of AdamW, whose rate falls in half a cosine to zero.

    The order of the items is the seed's, and the same in all episodes.

    Args:
        starts: the weights at the beginning, each `[..., *]` with the dimensions of the episodes.
        loss: from the weights and the numbers of some items to the sum over episodes of their mean loss. What
            it uses beside the weights must have been made under `learning`.
        items: how many there are.
        epochs: how often each item is seen.
        batch: items a step.
        lr: the rate at the first step.
        seed: of the order.
    """
    generator = torch.Generator().manual_seed(seed)
    with learning():
        weights = [start.clone().requires_grad_() for start in starts]
        # AdamW knows each number by itself alone: episodes do not meet in it.
        optimizer = torch.optim.AdamW(weights, lr=lr, eps=EPS, fused=True)
        steps = epochs * -(-items // batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(epochs):
            for part in torch.randperm(items, generator=generator).split(batch):
                value = loss(weights, part.to(weights[0].device))
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                schedule.step()
    return [weight.detach() for weight in weights]


def summed_cross_entropy(logits: Tensor, class_id: Tensor) -> Tensor:
    """Mean cross entropy of `logits [..., B, N]` and `class_id [B]` in each episode, summed over episodes."""
    losses = -torch.log_softmax(logits, -1).gather(-1, class_id.expand(logits.shape[:-1]).unsqueeze(-1))
    return losses.mean((-2, -1)).sum()
