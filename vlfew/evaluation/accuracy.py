"""Thousands of episodes from one bank, some at a time."""

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

Score = Callable[[Features, Features, Tensor], Tensor]
"""`(support [e, N*K, ...], queries [e, N*Q, ...], classes [e, N])` to scores `[e, N*Q, N]`."""


def scoring_device() -> torch.device:
    """Where episodes are scored."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def hits(scores: Tensor, target: Tensor, top: int = 1) -> Tensor:
    """Whether `target [...]` is among the `top` best of `scores [..., N]`; bool `[...]`."""
    if top == 1:
        return scores.contiguous().argmax(-1) == target
    return (scores.topk(min(top, scores.shape[-1])).indices == target.unsqueeze(-1)).any(-1)


@torch.inference_mode()
def episode_accuracies(
    features: Features, episodes: Episodes, score: Score, top: int = 1, maps: bool = False
) -> np.ndarray:
    """Share of its queries that each episode gets right, `[E]` float64.

    Args:
        features: of a bank, `embedding [S, D]`.
        episodes: with positions in it.
        score: what scores some episodes.
        top: the right class must be among this many best.
        maps: whether `score` looks at `map`, which is else left behind.
    """
    device = scoring_device()
    features = (features if maps else replace(features, map=None)).apply(lambda t: t.to(device))
    if features.map is not None:
        # With channels last the vectors of positions lie in one piece, as comparing them wants it.
        features.map = features.map.movedim(1, -1).contiguous()
    e, n, shots = episodes.support.shape
    queries = episodes.query.shape[2]

    def gather(positions: Tensor) -> Features:
        flat = positions.flatten().to(device)
        taken = features.apply(lambda t: t.index_select(0, flat).unflatten(0, (len(positions), -1)))
        if taken.map is not None:
            taken.map = taken.map.movedim(-1, 2)
        return taken

    row_bytes = sum(t[0].nbytes for t in vars(features).values() if t is not None)
    chunk = max(1, CHUNK_BYTES[device.type] // (n * (shots + queries) * row_bytes))
    target = torch.arange(n, device=device).repeat_interleave(queries)
    ragged = bool((episodes.query < 0).any())
    out = torch.empty(e, dtype=torch.float64)
    with Progress("episodes", e, "episodes") as bar:
        for start in range(0, e, chunk):
            part = slice(start, start + chunk)
            query = episodes.query[part].flatten(1)
            scores = score(
                gather(episodes.support[part].flatten(1)),
                gather(query.clamp(min=0) if ragged else query),
                episodes.classes[part].to(device),
            )
            right = hits(scores, target, top)
            if ragged:
                right &= query.to(device) >= 0
            out[part] = right.sum(1)
            bar.step(len(query))
    return (out / (episodes.query >= 0).sum((1, 2))).numpy()
