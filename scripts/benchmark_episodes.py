"""10,000 episodes 5-way 1-shot 15-query on 12,000 x 512 features (20 classes x 600), one thread.

vlfew, sampling of the episodes included, and easyfsl's evaluation of cached features take turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

CLASSES, IMAGES, DIM = 20, 600, 512
WAYS, SHOTS, QUERIES = 5, 1, 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3, help="each side runs once a round")


def run(args: argparse.Namespace) -> None:
    import torch

    try:
        from easyfsl.datasets import FeaturesDataset
        from easyfsl.methods import PrototypicalNetworks, SimpleShot
        from easyfsl.samplers import TaskSampler
        from easyfsl.utils import evaluate
    except ImportError as error:
        sys.exit(f"{error}; run: uv run --group bench scripts/benchmark.py episodes")
    from torch.utils.data import DataLoader, Sampler

    from vlfew.classifiers import CLASSIFIERS
    from vlfew.core.features import Features, FeatureSpec
    from vlfew.evaluation.accuracy import episode_accuracies
    from vlfew.evaluation.episodes import sample_episodes
    from vlfew.evaluation.protocols.few_shot import episode_logits

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(IMAGES)
    centers = torch.randn(CLASSES, DIM, generator=generator)
    embedding = 0.15 * centers[labels] + torch.randn(len(labels), DIM, generator=generator)

    class TakesDataSource(Sampler[list[int]]):
        def __init__(self, *_: object, **__: object) -> None:
            """Sampler no longer takes the argument that TaskSampler passes."""

    class Tasks(TaskSampler, TakesDataSource):
        pass

    dataset = FeaturesDataset(labels.tolist(), embedding, [str(c) for c in range(CLASSES)])

    def theirs(method: type) -> float:
        tasks = Tasks(dataset, WAYS, SHOTS, QUERIES, args.episodes)
        loader = DataLoader(dataset, batch_sampler=tasks, collate_fn=tasks.episodic_collate_fn)
        return float(evaluate(method(torch.nn.Identity()), loader, device="cpu", use_tqdm=False))

    def ours(metric: str, seed: int) -> float:
        episodes = sample_episodes(labels, WAYS, SHOTS, QUERIES, args.episodes, seed)
        method = CLASSIFIERS.get("prototypes")(FeatureSpec(DIM), metric=metric)
        score = episode_logits(method, WAYS, SHOTS)
        return float(episode_accuracies(Features(embedding), episodes, score).mean())

    print(f"{args.episodes:,} episodes, {WAYS}-way {SHOTS}-shot, {QUERIES} queries per class, one thread")
    for metric, method in (("euclidean", PrototypicalNetworks), ("cosine", SimpleShot)):
        mine, other, accuracy = [], [], (0.0, 0.0)
        for number in range(args.rounds):
            begin = time.perf_counter()
            first = ours(metric, number)
            middle = time.perf_counter()
            second = theirs(method)
            mine.append(middle - begin)
            other.append(time.perf_counter() - middle)
            accuracy = first, second
            print(f"  round {number + 1}: vlfew {mine[-1]:.2f} s, easyfsl {other[-1]:.2f} s", flush=True)
        ratio = statistics.median(other) / statistics.median(mine)
        print(
            f"{metric}: vlfew {statistics.median(mine):.2f} s, easyfsl {method.__name__} "
            f"{statistics.median(other):.2f} s, {ratio:.1f} times "
            f"(accuracy {accuracy[0]:.4f} and {accuracy[1]:.4f})"
        )
