"""A gallery without its encoder: exact search among made-up clustered embeddings, enrolling them, and opening it again.

Search compares one query and a batch with the same product in float32 (`torch`), in turn. Embeddings lie around random
centers, as those of people do around each person.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rows", type=int, default=1_000_000, help="embeddings that are searched; 0 for none"
    )
    parser.add_argument(
        "--enroll", type=int, default=100_000, help="embeddings that are enrolled; 0 for none"
    )
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where galleries are written; by default a temporary one")


def run(args: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(args.threads)
    print(f"{args.threads} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    if args.rows:
        _search(args)
    if args.enroll:
        with TemporaryDirectory(dir=args.folder) as folder:
            _enroll(args, Path(folder))


def _search(args: argparse.Namespace) -> None:
    import torch
    from torch import Tensor

    from vlfew.gallery.exact_search import ExactSearch

    vectors = _clustered(args.rows, args.dim)
    queries = torch.nn.functional.normalize(
        vectors[:: max(1, args.rows // args.batch)][: args.batch]
        + 0.5 / args.dim**0.5 * torch.randn(args.batch, args.dim),
        dim=1,
    )
    search = ExactSearch(args.dim)
    search.load(torch.arange(args.rows), vectors)

    def plain(part: Tensor) -> tuple[Tensor, Tensor]:
        found = (part @ vectors.T).topk(10)
        return found.values, found.indices

    for part in (queries[:1], queries):
        ours, theirs = search.search(part, 10), plain(part)
        apart = float((ours[0] - theirs[0]).abs().max())
        took = _in_turn([partial(search.search, part, 10), partial(plain, part)], args.rounds)
        per_query = [1e3 * statistics.median(times) / len(part) for times in took]
        print(
            f"top 10 of {args.rows:,} x {args.dim}, {len(part)} at once: gallery {per_query[0]:.1f} ms a query (least "
            f"{1e3 * min(took[0]) / len(part):.1f}), float32 product and topk {per_query[1]:.1f}; scores differ by "
            f"{apart:.1e}",
            flush=True,
        )


def _enroll(args: argparse.Namespace, folder: Path) -> None:
    import torch

    from vlfew.gallery.gallery import Gallery
    from vlfew.models import DualStream, ModelSpec

    # The image encoder is small and not used.
    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=args.dim, image_size=16)
    model = DualStream.from_spec(spec).eval()
    vectors, names = _clustered(args.enroll, args.dim), [f"n{n}" for n in range(args.enroll)]
    path = folder / "gallery.db"
    with Gallery.create(path, model) as gallery:
        begin = time.perf_counter()
        gallery.enroll_embeddings(names, vectors)
        print(f"{args.enroll:,} embeddings enrolled in {time.perf_counter() - begin:.1f} s", flush=True)
    begin = time.perf_counter()
    gallery = Gallery.open(path, model)
    gallery._index.refresh()
    print(
        f"opened again, ready to answer, in {time.perf_counter() - begin:.2f} s ({path.stat().st_size / 1e6:,.0f} MB)"
    )
    one, syncs = [], []
    more = _clustered(200, args.dim)
    for n in range(200):
        begin = time.perf_counter()
        gallery.enroll_embeddings([f"more {n}"], more[n : n + 1])
        one.append(1e3 * (time.perf_counter() - begin))
        with open(folder / "sync", "ab") as file:
            begin = time.perf_counter()
            file.write(b"x" * 8192)
            file.flush()
            os.fsync(file.fileno())
            syncs.append(1e3 * (time.perf_counter() - begin))
    print(
        f"one durable enrollment {statistics.median(one):.2f} ms (median of 200; 8 KiB written and synced to the same "
        f"disk: {statistics.median(syncs):.2f} ms)"
    )
    begin = time.perf_counter()
    gallery.remove("n5")
    print(f"one identity removed, the file rewritten, in {time.perf_counter() - begin:.2f} s")
    assert torch.isfinite(vectors).all()
    gallery.close()


def _clustered(rows: int, dim: int):  # type: ignore[no-untyped-def]
    """Unit vectors `[rows, dim]` around a center for every ten of them."""
    import torch

    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(max(1, rows // 10), dim, generator=generator)
    made = torch.empty(rows, dim)
    for start in range(0, rows, 65536):
        at = torch.randint(len(centers), (min(65536, rows - start),), generator=generator)
        part = centers[at] + 0.5 * torch.randn(len(at), dim, generator=generator)
        made[start : start + len(at)] = torch.nn.functional.normalize(part, dim=1)
    return made


def _in_turn(sides: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    took: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for times, side in zip(took, sides, strict=True):
            begin = time.perf_counter()
            side()
            times.append(time.perf_counter() - begin)
    return took
