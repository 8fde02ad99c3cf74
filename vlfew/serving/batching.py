"""Images of concurrent requests, encoded and searched together: what waits when the last batch is done is the next."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from vlfew.core.errors import ModelError, VlfewError
from vlfew.gallery.encoding import encode_images
from vlfew.gallery.gallery import Gallery
from vlfew.gallery.images import ReadImage
from vlfew.gallery.matches import Match
from vlfew.models.dual_stream import DualStream
from vlfew.serving.metrics import Metrics
from vlfew.serving.problems import busy

TOGETHER = 64
"""Images that are encoded at a time."""


@dataclass
class Found:
    """What was found for the images of a request.

    Attributes:
        matches: of each image, best first.
        thumbnails: an item with a thumbnail of each identity that has any, by its id.
    """

    matches: list[list[Match]]
    thumbnails: dict[int, int]


Done = Callable[[Found | Exception], None]
Abandoned = Callable[[], bool]
"""Whether nobody waits for the answer any more."""


def still_wanted() -> bool:
    """Of jobs that cannot be abandoned."""
    return False


@dataclass
class _Job:
    """Images, or embeddings `[Q, D]`, of one request."""

    queries: Sequence[ReadImage] | Tensor
    k: int
    threshold: float | None
    done: Done
    abandoned: Abandoned

    @property
    def rank(self) -> tuple[int, float]:
        return self.k, -torch.inf if self.threshold is None else self.threshold


class Batcher:
    """A thread that identifies the images of all requests.

    Args:
        gallery: that is searched.
        metrics: told how many images a batch has.
        most: so many images and embeddings may wait; a job of more is taken where nothing waits.
    """

    def __init__(self, gallery: Gallery, metrics: Metrics, most: int = 1024) -> None:
        self._gallery, self._metrics, self._most, self._waiting = gallery, metrics, most, 0
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images and embeddings that wait or are being identified."""
        return self._waiting

    def submit(
        self,
        queries: Sequence[ReadImage] | Tensor,
        k: int,
        threshold: float | None,
        done: Done,
        abandoned: Abandoned = still_wanted,
    ) -> None:
        """Identifies images or embeddings `[Q, D]`, and calls `done`: from another thread, or at once with a `Problem`
        where too many wait. It is not called for a job that is abandoned before its turn."""
        with self._changed:
            full = self._closed or (self._waiting and self._waiting + len(queries) > self._most)
            if not full:
                self._waiting += len(queries)
                self._jobs.append(_Job(queries, k, threshold, done, abandoned))
                self._changed.notify()
        if full:
            done(busy(f"{self._waiting:,} images are waiting to be identified; try again in a moment"))

    async def identify(self, queries: Sequence[ReadImage] | Tensor, k: int, threshold: float | None) -> Found:
        """What `Gallery.identify` finds for images or embeddings `[Q, D]`.

        Raises:
            VlfewError: see there.
            Problem: too many are waiting.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = loop.create_future()

        def done(found: Found | Exception) -> None:
            loop.call_soon_threadsafe(resolve, future, found)

        self.submit(queries, k, threshold, done, future.cancelled)
        return await future

    def close(self) -> None:
        """Ends the thread, after what is waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _take(self) -> list[_Job]:
        """Jobs for one batch; none at the end."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            taken: list[_Job] = []
            size = 0
            while self._jobs and (not taken or size + len(self._jobs[0].queries) <= TOGETHER):
                size += len(self._jobs[0].queries)
                taken.append(self._jobs.popleft())
            return taken

    def _run(self) -> None:
        while taken := self._take():
            jobs = [job for job in taken if not job.abandoned()]
            results: list[Found | Exception]
            try:
                results = [*self._together(jobs)] if jobs else []
            except Exception as error:
                results = [error] if len(jobs) == 1 else [self._alone(job) for job in jobs]
            for job, result in zip(jobs, results, strict=True):
                with suppress(RuntimeError):  # the event loop of a server that has stopped
                    job.done(result)
            with self._changed:
                self._waiting -= sum(len(job.queries) for job in taken)

    def _alone(self, job: _Job) -> Found | Exception:
        try:
            return self._together([job])[0]
        except Exception as error:
            return error

    def _together(self, jobs: Sequence[_Job]) -> list[Found]:
        """
        Raises:
            VlfewError: of any of the jobs.
        """
        model, fingerprint = self._gallery.encoder()  # together: the gallery may be embedded again meanwhile
        embeddings = self._encode(jobs, model)
        self._metrics.batch_images.observe(len(embeddings))
        starts = [0]
        for job in jobs:
            starts.append(starts[-1] + len(job.queries))
        found: dict[int, list[list[Match]]] = {}
        order = sorted(range(len(jobs)), key=lambda number: jobs[number].rank)
        for (k, _), group in groupby(order, key=lambda number: jobs[number].rank):
            numbers = [*group]
            part = torch.cat([embeddings[starts[n] : starts[n + 1]] for n in numbers])
            matches = iter(
                self._gallery.identify_embeddings(part, k, jobs[numbers[0]].threshold, fingerprint)
            )
            for n in numbers:
                found[n] = [next(matches) for _ in jobs[n].queries]
        ids = {match.id for own in found.values() for matches in own for match in matches}
        thumbnails = self._gallery.thumbnails(ids)
        return [Found(found[number], thumbnails) for number in range(len(jobs))]

    def _encode(self, jobs: Sequence[_Job], model: DualStream) -> Tensor:
        """Embeddings `[Q, D]` of all of the jobs, in their order."""
        images = [image for job in jobs if not isinstance(job.queries, Tensor) for image in job.queries]
        encoded = encode_images(model, images) if images else torch.empty(0, 0)
        if len(images) and all(not isinstance(job.queries, Tensor) for job in jobs):
            return encoded
        parts, at = [], 0
        for job in jobs:
            if isinstance(job.queries, Tensor):
                parts.append(job.queries)
            else:
                parts.append(encoded[at : at + len(job.queries)])
                at += len(job.queries)
        if len({part.shape[1] for part in parts}) > 1:  # each for itself: one of them is of another size
            raise ModelError("embeddings differ in size")
        return torch.cat(parts)


def resolve(future: asyncio.Future[Found], result: Found | Exception) -> None:
    """Gives a result to who waits for it, if anyone still does."""
    if future.cancelled():
        return
    if isinstance(result, Exception):
        if not isinstance(result, VlfewError):
            result.__traceback__ = None  # it would keep images alive
        future.set_exception(result)
    else:
        future.set_result(result)
