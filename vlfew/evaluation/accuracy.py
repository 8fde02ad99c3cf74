"""Accuracies of thousands of episodes from one feature bank, a chunk of episodes at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from vlfew.core.features import Features
from vlfew.core.progress import Progress
from vlfew.evaluation.episodes import Episodes

CHUNK_BYTES = {"cpu": 3 * 2**19, "cuda": 2**28}
"""Gathered features that are scored at a time; on a CPU they must fit its second-level cache."""

LogitsFunction = Callable[[Features, Features, Tensor], Tensor]
"""`(support [e, N*K, ...], queries [e, N*Q, ...], classes [e, N])` to logits `[..., e, N*Q, N]`."""


def scoring_device() -> torch.device:
    """The device on which episodes are scored."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def topk_correct(logits: Tensor, target: Tensor, k: int = 1) -> Tensor:
    """Whether `target [...]` is among the `k` best classes of `logits [..., N]`; bool `[...]`."""
    if k == 1:
        return logits.contiguous().argmax(-1) == target
    return (logits.topk(min(k, logits.shape[-1])).indices == target.unsqueeze(-1)).any(-1)


@torch.inference_mode()
def episode_accuracies(
    features: Features, episodes: Episodes, logits_of: LogitsFunction, k: int = 1, maps: bool = False
) -> np.ndarray:
    """Accuracy of each episode over its queries, `[..., E]` float64.

    Args:
        features: of a bank, `embedding [S, D]`.
        episodes: with positions in it.
        logits_of: scores a chunk of episodes; further leading dimensions are those of several methods.
        k: a query is correct when its class is among the k best.
        maps: whether `logits_of` needs `map`; otherwise maps are not gathered.
    """
    device = scoring_device()
    features = (features if maps else replace(features, map=None)).apply(lambda t: t.to(device))
    if features.map is not None:
        # With channels last the vectors of a position are contiguous, as comparing them needs.
        features.map = features.map.movedim(1, -1).contiguous()
    e, n, shots = episodes.support.shape
    queries = episodes.query.shape[2]

    def gather(positions: Tensor) -> Features:
        flat = positions.flatten().to(device)
        gathered = features.apply(lambda t: t.index_select(0, flat).unflatten(0, (len(positions), -1)))
        if gathered.map is not None:
            gathered.map = gathered.map.movedim(-1, 2)
        return gathered

    counts = (episodes.query >= 0).sum((1, 2))
    row_bytes = sum(t[0].nbytes for t in vars(features).values() if t is not None)
    chunk = max(1, CHUNK_BYTES[device.type] // ((n * shots + int(counts.max())) * row_bytes))
    target = torch.arange(n).repeat_interleave(queries)
    ragged = bool((episodes.query < 0).any())
    correct = []
    with Progress("episodes", e, "episodes") as bar:
        for start in range(0, e, chunk):
            part = slice(start, start + chunk)
            query, labels = episodes.query[part].flatten(1), target.expand(len(counts[part]), -1)
            if ragged:
                # Places without an image are left out: a class of 800 images leaves hundreds of them in one of 50.
                real = (query < 0).int().argsort(dim=1, stable=True)[:, : int(counts[part].max())]
                query, labels = query.gather(1, real), labels.gather(1, real)
            logits = logits_of(
                gather(episodes.support[part].flatten(1)),
                gather(query.clamp(min=0)),
                episodes.classes[part].to(device),
            )
            is_correct = topk_correct(logits, labels.to(device), k) & (query >= 0).to(device)
            correct.append(is_correct.sum(-1).cpu())
            bar.step(len(query))
    return (torch.cat(correct, -1).double() / counts).numpy()
