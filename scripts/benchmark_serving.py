"""A gallery over HTTP, in a server process of its own, on this machine: clients take processor time, too.

Search without encoding at a fixed rate; encode and identify by one client and by many, against decoding and encoding
the same images in batches without a server; and a mixed load, with memory and open handles of the server.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", help="run folder for encode and identify; by default a small untrained model"
    )
    parser.add_argument("--identities", type=int, default=10_000, help="enrolled for search")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rate", type=float, default=200, help="requests a second for search")
    parser.add_argument("--seconds", type=float, default=10, help="length of each part")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--images", type=int, default=1, help="images in a request")
    parser.add_argument("--image-size", type=int, default=64, help="of the images that are sent, in pixels")
    parser.add_argument("--mixed", type=float, default=60, help="seconds of mixed load; 0 for none")
    parser.add_argument("--threads", type=int, default=2, help="of the computation without a server")


def run(args: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(args.threads)
    print(f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, {os.cpu_count()} processors")
    with TemporaryDirectory() as name:
        folder = Path(name)
        _search(args, folder)
        _identify(args, folder)
        if args.mixed:
            _mixed(args, folder)


@contextmanager
def _served(db: Path) -> Iterator[tuple[str, int]]:
    """The address and the process of `vlfew gallery serve`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vlfew.cli", "gallery", "serve", str(db), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r" at (http://\S+)", line):
                break
        else:
            raise SystemExit("the server does not start")
        import threading

        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield found[1], process.pid
    finally:
        process.terminate()
        process.wait()


def _tiny(dim: int) -> Any:
    from vlfew.models import DualStream, ModelSpec

    spec = ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=dim, image_size=32)
    return DualStream.from_spec(spec).eval()


def _saved(folder: Path, dim: int) -> Path:
    from vlfew.models import save_model

    save_model(_tiny(dim), folder / f"run{dim}", {})
    return folder / f"run{dim}"


def _search(args: argparse.Namespace, folder: Path) -> None:
    import torch

    from vlfew.gallery.gallery import Gallery

    db = folder / "search.db"
    with Gallery.create(db, _saved(folder, args.dim)) as gallery:
        rows = torch.randn(args.identities, args.dim)
        gallery.enroll_embeddings([f"n{n}" for n in range(args.identities)], rows)
    bodies = [{"embeddings": [torch.randn(args.dim).tolist()], "k": 10} for _ in range(64)]
    with _served(db) as (url, _):

        async def load(client: Any) -> list[float]:
            async def ask(number: int) -> float:
                begin = time.perf_counter()
                response = await client.post("/search", json=bodies[number % len(bodies)])
                assert response.status_code == 200, response.text
                return time.perf_counter() - begin

            for number in range(50):
                await ask(number)
            return await _at_rate(ask, args.rate, args.seconds)

        took = asyncio.run(_with_client(url, load))
    print(
        f"search of {args.identities:,} x {args.dim} over HTTP at {args.rate:g} requests/s: {_quantiles(took)}",
        flush=True,
    )


def _identify(args: argparse.Namespace, folder: Path) -> None:
    from vlfew.gallery.gallery import Gallery

    db = folder / "identify.db"
    images = _images(args.image_size)
    model = args.model or str(_saved(folder, 128))
    with Gallery.create(db, model) as gallery:
        import torch

        dim = gallery.settings["dim"]
        gallery.enroll_embeddings([f"n{n}" for n in range(1000)], torch.randn(1000, dim))
        alone, batched = _bare(gallery.model, images, args.seconds)
    print(
        f"without a server: {1e3 * alone:.2f} ms an image alone, {batched:,.0f} images/s decoded and encoded by 64"
    )
    with _served(db) as (url, pid):

        async def closed_loop(clients: int, seconds: float) -> tuple[list[float], float]:
            took: list[float] = []

            async def load(client: Any) -> None:
                until, number = time.perf_counter() + seconds, 0
                while (begin := time.perf_counter()) < until:
                    sent = [
                        ("images", ("a.png", images[(number + n) % len(images)])) for n in range(args.images)
                    ]
                    response = await client.post("/identify?k=5", files=sent)
                    assert response.status_code == 200, response.text
                    took.append(time.perf_counter() - begin)
                    number += args.images

            begin = time.perf_counter()
            await asyncio.gather(*(_with_client(url, load) for _ in range(clients)))
            return took, len(took) * args.images / (time.perf_counter() - begin)

        asyncio.run(closed_loop(args.clients, 1))
        one, _ = asyncio.run(closed_loop(1, args.seconds))
        print(f"one client, {args.images} images a request: {_quantiles(one)}", flush=True)
        before = _processor_seconds(pid)
        many, rate = asyncio.run(closed_loop(args.clients, args.seconds))
        own, decoding = (1e3 * (b - a) for a, b in zip(before, _processor_seconds(pid), strict=True))
        sent = len(many) * args.images
        print(
            f"{args.clients} clients, {args.images} images a request: {rate:,.0f} images/s "
            f"({100 * rate / batched:.0f}% of batches without a server), {_quantiles(many)}; processor time an image: "
            f"server {own / sent:.2f} ms, decoding {decoding / sent:.2f}",
            flush=True,
        )


def _processor_seconds(pid: int) -> tuple[float, float]:
    """Of a process, and of those that it has started."""
    import psutil

    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children())]
    used = [one.user + one.system for one in times]
    return used[0], sum(used[1:])


def _bare(model: Any, images: list[bytes], seconds: float) -> tuple[float, float]:
    """Seconds of decoding and encoding one image; images a second in batches of 64."""
    import torch

    from vlfew.data.decode import read_image

    preprocessor = model.spec.preprocessor()

    def work(batch: list[bytes]) -> None:
        model.encode_image(torch.stack([read_image(image, preprocessor) for image in batch]))

    batch = (images * (64 // len(images) + 1))[:64]
    rates = []
    for part in (images[:1], batch):
        work(part)
        begin, count, used = time.perf_counter(), 0, time.process_time()
        while time.perf_counter() - begin < seconds / 2:
            work(part)
            count += len(part)
        rates.append(count / (time.perf_counter() - begin))
        each = 1e3 * (time.process_time() - used) / count
        print(f"without a server, {len(part)} at once: {each:.2f} ms of processor time an image")
    return 1 / rates[0], rates[1]


def _mixed(args: argparse.Namespace, folder: Path) -> None:
    """Enrolls, identifies, lists, shows and removes; what the server has in memory and open meanwhile."""
    import psutil

    from vlfew.gallery.gallery import Gallery

    db = folder / "mixed.db"
    images = _images(args.image_size)
    with Gallery.create(db, args.model or str(_saved(folder, 128))):
        pass
    with _served(db) as (url, pid):
        process = psutil.Process(pid)
        sizes: list[tuple[float, float, int]] = []
        statuses: dict[int, int] = {}

        async def worker(client: Any, who: int) -> None:
            number, until = 0, time.perf_counter() + args.mixed
            while time.perf_counter() < until:
                number += 1
                image = images[(who + number) % len(images)]
                name = f"{who} {number % 20}"
                sent = {"data": {"name": name, "replace": "true"}, "files": {"images": ("a.png", image)}}
                answers = [await client.post("/identities", **sent)]
                bad = image[: len(image) // 2]
                answers += [
                    await client.post("/identify", files=[("images", ("a", image)), ("images", ("b", bad))]),
                    await client.get("/identities?limit=10"),
                    await client.get(f"/identities/{answers[0].json().get('id', 1)}"),
                    await client.get("/look-alikes?limit=3"),
                ]
                if number % 10 == 0:
                    answers.append(await client.delete(f"/identities/{answers[0].json().get('id', 1)}"))
                for answer in answers:
                    statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1

        async def watch() -> None:
            begin = time.perf_counter()
            while time.perf_counter() - begin < args.mixed:
                sizes.append(
                    (time.perf_counter() - begin, process.memory_info().rss / 2**20, process.num_fds())
                )
                await asyncio.sleep(1)

        async def load() -> None:
            await asyncio.gather(watch(), *(_with_client(url, partial(worker, who=n)) for n in range(4)))

        asyncio.run(load())
        time.sleep(6)
        last = process.memory_info().rss / 2**20, process.num_fds()
    third = [memory for second, memory, _ in sizes if second > args.mixed / 3][:3]
    shown = f"{sum(statuses.values()):,} answers {dict(sorted(statuses.items()))}"
    print(f"{args.mixed:g} s of mixed load by 4 clients: {shown}")
    print(
        f"memory {statistics.median(third):.0f} MiB after a third, {last[0]:.0f} at the end; open handles "
        f"{sizes[0][2]}, then {last[1]}"
    )


async def _with_client(url: str, load: Callable[[Any], Awaitable[Any]]) -> Any:
    import httpx2

    async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        return await load(client)


async def _at_rate(
    ask: Callable[[int], Coroutine[Any, Any, float]], rate: float, seconds: float
) -> list[float]:
    """Requests at a fixed rate, whether or not the earlier ones were answered."""
    begin = time.perf_counter()
    tasks: list[asyncio.Task[float]] = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0, begin + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(number)))
    return [*await asyncio.gather(*tasks)]


def _images(size: int) -> list[bytes]:
    """16 PNG files of noise and shapes."""
    import numpy as np
    from PIL import Image

    files = []
    for seed in range(16):
        noise = np.random.default_rng(seed).integers(0, 255, (8, 8, 3)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize((size, size)).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def _quantiles(seconds: list[float]) -> str:
    ordered = sorted(1e3 * one for one in seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(ordered):,}"
