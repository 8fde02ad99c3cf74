"""Gradient descent on a support set; the same result whether episodes come alone or in a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

EPS = 1e-4
"""AdamW's epsilon, as in Tip-Adapter's implementation: entries with hardly any gradient hardly move."""


@contextmanager
def gradients_enabled() -> Iterator[None]:
    """Allow gradients although evaluation runs without them; tensors from outside must be cloned in here."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def optimize(
    starts: Sequence[Tensor],
    loss: Callable[[Sequence[Tensor], Tensor], Tensor],
    items: int,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> list[Tensor]:
    """Weights after epochs of AdamW, whose learning rate decays to zero in half a cosine.

    Args:
        starts: the initial weights, each with the leading dimensions of the episodes.
        loss: from the weights and the indices of some items to the sum over episodes of their mean loss. Other tensors
            that it uses must have been made under `gradients_enabled`.
        items: how many there are.
        epochs: how often each item is used.
        batch_size: items per step.
        lr: learning rate of the first step.
        seed: of the order of the items, which is the same in all episodes.
    """
    generator = torch.Generator().manual_seed(seed)
    with gradients_enabled():
        weights = [start.clone().requires_grad_() for start in starts]
        # AdamW treats every number on its own, so episodes do not influence each other.
        optimizer = torch.optim.AdamW(weights, lr=lr, eps=EPS, fused=True)
        steps = epochs * -(-items // batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(epochs):
            for indices in torch.randperm(items, generator=generator).split(batch_size):
                value = loss(weights, indices.to(weights[0].device))
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                schedule.step()
    return [weight.detach() for weight in weights]


def summed_cross_entropy(logits: Tensor, class_id: Tensor) -> Tensor:
    """Mean cross entropy of `logits [..., B, N]` and `class_id [B]` in each episode, summed over episodes."""
    losses = -torch.log_softmax(logits, -1).gather(-1, class_id.expand(logits.shape[:-1]).unsqueeze(-1))
    return losses.mean((-2, -1)).sum()
