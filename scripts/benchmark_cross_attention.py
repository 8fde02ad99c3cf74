"""5-way 1-shot 15-query episodes by cross attention from half-precision 6 x 6 maps (20 classes x 600), one thread.

Sampling of the episodes included; and, on a few, the same scores with explicit correlations.
"""

from __future__ import annotations

import argparse
import resource
import time

CLASSES, IMAGES, SIDE = 20, 600, 6
WAYS, SHOTS, QUERIES = 5, 1, 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--transductive", action="store_true", help="two rounds, as in the paper")


def run(args: argparse.Namespace) -> None:
    import torch
    from torch import Tensor
    from torch.nn.functional import normalize

    from vlfew.classifiers import CLASSIFIERS
    from vlfew.core.features import Features, FeatureSpec
    from vlfew.evaluation.accuracy import episode_accuracies
    from vlfew.evaluation.episodes import sample_episodes
    from vlfew.evaluation.protocols.few_shot import episode_logits
    from vlfew.similarities.cross_attention import CrossAttention

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(IMAGES)

    @torch.inference_mode()
    def explicit(method: CrossAttention, support: Tensor, queries: Tensor) -> Tensor:
        """`[N, C, H, W]` and `[Q, C, H, W]` to `[Q, N]`, with explicit correlations and attended maps."""
        p, q = support.flatten(2).float(), queries.flatten(2).float()
        correlation = normalize(p, dim=1).mT[None] @ normalize(q, dim=1)[:, None]  # [Q, N, m, m]
        pooled = []
        for maps, r in ((p[None], correlation), (q[:, None], correlation.mT)):
            hidden = method.norm(method.narrow(r.mean(-2).flatten(0, 1))).relu()
            kernel = method.widen(hidden).view_as(r[..., 0])
            weight = 1 + torch.softmax((r * kernel.unsqueeze(-2)).mean(-1) / method.temperature, -1)
            pooled.append(normalize((maps * weight.unsqueeze(-2)).mean(-1), dim=-1))
        return method.score_scale * (pooled[0] * pooled[1]).sum(-1)

    for channels in args.channels:
        shape = (channels, SIDE, SIDE)
        # In parts, so that creating the maps takes no more memory than storing them.
        maps = torch.empty(len(labels), *shape, dtype=torch.half, memory_format=torch.channels_last)
        center = 0.2 * torch.randn(CLASSES, *shape, generator=generator)
        for part, of in zip(maps.split(50), labels.split(50), strict=True):
            part.copy_(center[of] + torch.randn(part.shape, generator=generator))
        features = Features(torch.zeros(len(labels), 1), map=maps)
        name = "cross_attention" + "_transductive" * args.transductive
        torch.manual_seed(0)
        method = CLASSIFIERS.get(name)(FeatureSpec(1, shape)).eval().requires_grad_(False)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wall, cpu = time.perf_counter(), time.process_time()
        episodes = sample_episodes(labels, WAYS, SHOTS, QUERIES, args.episodes, 0)
        score = episode_logits(method, WAYS, SHOTS)
        accuracy = episode_accuracies(features, episodes, score, maps=True).mean()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(
            f"{name}, C = {channels}: {args.episodes:,} episodes in {wall:.1f} s ({cpu:.1f} s of the processor), "
            f"{args.episodes / wall:.0f} a second; peak {added:.0f} MiB above the "
            f"{maps.nbytes / 2**20:.0f} MiB of maps; accuracy {accuracy:.4f}",
            flush=True,
        )
        if not args.transductive:
            few = min(10, args.episodes)
            cpu = time.process_time()
            for support, query in zip(episodes.support[:few], episodes.query[:few], strict=True):
                explicit(method.similarity, maps[support.flatten()], maps[query.flatten()])
            cpu = (time.process_time() - cpu) / few
            print(f"  written out: {1 / cpu:.0f} a second of the processor's time", flush=True)
