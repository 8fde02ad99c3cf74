"""Images decoded in processes that can be ended: one that takes too long or crashes is replaced, its image refused."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from vlfew.core.errors import VlfewError
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.gallery.images import ReadImage
from vlfew.serving.batching import Abandoned, still_wanted
from vlfew.serving.decode_worker import receive, send, settings_message
from vlfew.serving.logs import describe_exception, logger
from vlfew.serving.options import MIB
from vlfew.serving.problems import Problem, busy
from vlfew.serving.uploads import Upload

START_SECONDS = 120.0
"""Until a new process has loaded what it needs."""
RETRY_SECONDS = 5.0
"""Until a process that could not be started is tried again, where nothing waits."""
TOGETHER = 16
"""Images that are sent to a process at a time."""
TOGETHER_BYTES = 4 * 2**20


@dataclass(frozen=True)
class DecodeSettings:
    """What is made of images.

    Attributes:
        preprocessor: of the model.
        thumbnail: whether to make thumbnails.
        content: whether to keep the files.
        most_pixels: larger images are refused before they are decoded.
        most_bytes: so are larger files.
    """

    preprocessor: ImagePreprocessor
    thumbnail: bool
    content: bool
    most_pixels: int
    most_bytes: int


Decoded = ReadImage | Problem
Done = Callable[[list[Decoded]], None]


@dataclass
class _Job:
    uploads: list[Upload]
    settings: DecodeSettings
    message: str
    done: Done
    abandoned: Abandoned

    @property
    def bytes(self) -> int:
        return sum(len(upload.content) for upload in self.uploads)


class Decoders:
    """Processes that decode images, each with a thread that waits for it.

    Args:
        count: how many.
        seconds: how long one image may take.
        memory: bytes that decoding may take.
        most_queued: so many images may wait.
        most_bytes: so many bytes may wait; a request of more is taken where nothing waits.
    """

    def __init__(
        self, count: int, seconds: float, memory: int, most_queued: int = 1024, most_bytes: int = 512 * MIB
    ) -> None:
        self._seconds, self._memory, self._most, self._most_bytes = seconds, memory, most_queued, most_bytes
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._queued, self._queued_bytes, self._closed = 0, 0, False
        self.restarts = 0
        """Processes that had to be replaced."""
        self._messages: dict[DecodeSettings, str] = {}
        self._working = 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def wait_ready(self, timeout: float = START_SECONDS) -> bool:
        """Waits until one process can work."""
        with self._changed:
            return self._changed.wait_for(lambda: self._working > 0, timeout)

    @property
    def ready(self) -> bool:
        """Whether a process can work."""
        return self._working > 0

    @property
    def queued(self) -> int:
        """Images that wait or are being decoded."""
        return self._queued

    def submit(
        self,
        uploads: Sequence[Upload],
        settings: DecodeSettings,
        done: Done,
        abandoned: Abandoned = still_wanted,
    ) -> None:
        """Decodes images, and calls `done` with an image or a problem for each, from another thread; not so for what is
        abandoned before its turn.

        Raises:
            Problem: too many images are waiting.
        """
        message = self._messages.get(settings)
        if message is None:
            self._messages.clear()
            message = settings_message(settings.preprocessor, settings.thumbnail, settings.most_pixels)
            self._messages[settings] = message
        job = _Job([*uploads], settings, message, done, abandoned)
        with self._changed:
            many = self._queued + len(uploads) > self._most
            large = self._queued_bytes and self._queued_bytes + job.bytes > self._most_bytes
            if self._closed or many or large:
                raise busy(f"{self._queued:,} images are waiting to be decoded; try again in a moment")
            self._queued += len(uploads)
            self._queued_bytes += job.bytes
            self._jobs.append(job)
            self._changed.notify()

    async def read(self, uploads: Sequence[Upload], settings: DecodeSettings) -> list[Decoded]:
        """Decodes images: an image or a problem for each.

        Raises:
            Problem: too many images are waiting.
        """
        if not uploads:
            return []
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Decoded]] = loop.create_future()

        def resolve(decoded: list[Decoded]) -> None:
            if not future.cancelled():
                future.set_result(decoded)

        def done(decoded: list[Decoded]) -> None:
            loop.call_soon_threadsafe(resolve, decoded)

        self.submit(uploads, settings, done, future.cancelled)
        return await future

    def close(self) -> None:
        """Ends the processes, after what is waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _take(self, timeout: float | None) -> list[_Job] | None:
        """Jobs for one message: all that wait, shared among the processes.

        Args:
            timeout: seconds after which there are none; None waits for as long as it takes.

        Returns:
            The jobs; None at the end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed, timeout)
            if not self._jobs:
                return None if self._closed else []
            taken = [self._jobs.popleft()]
            images, size = len(taken[0].uploads), taken[0].bytes
            share = -(-(len(self._jobs) + 1) // len(self._threads))
            while self._jobs and len(taken) < share:
                following = self._jobs[0]
                images, size = images + len(following.uploads), size + following.bytes
                if following.settings != taken[0].settings or images > TOGETHER or size > TOGETHER_BYTES:
                    break
                taken.append(self._jobs.popleft())
            return taken

    def _run(self) -> None:
        process = self._start()
        try:
            while (taken := self._take(RETRY_SECONDS if process is None else None)) is not None:
                process = process or self._start()
                jobs = [job for job in taken if not job.abandoned()]
                uploads = [upload for job in jobs for upload in job.uploads]
                decoded: list[Decoded] = []
                try:
                    if process is None:
                        raise VlfewError("there is no process that decodes")
                    if jobs:
                        decoded, process = self._decode(process, uploads, jobs[0])
                except Exception as error:  # such as no memory, or no process to be had
                    detail = f"cannot be decoded now ({type(error).__name__}); try again"
                    decoded = [busy(f"{upload.name}: {detail}") for upload in uploads]
                    if process is not None:
                        process.kill()
                        process = None
                        with self._changed:
                            self._working -= 1
                at = 0
                for job in jobs:
                    with suppress(RuntimeError):  # the event loop of a server that has stopped
                        job.done(decoded[at : at + len(job.uploads)])
                    at += len(job.uploads)
                with self._changed:
                    self._queued -= sum(len(job.uploads) for job in taken)
                    self._queued_bytes -= sum(job.bytes for job in taken)
        finally:
            if process is not None:
                process.kill()

    def _start(self) -> _Process | None:
        """A new process; None where there is none to be had for now."""
        try:
            process = _Process(self._memory)
        except Exception as error:
            logger.error("no decoder", extra={"fields": {"error": describe_exception(error)}})
            return None
        with self._changed:
            self._working += 1
            self._changed.notify_all()
        return process

    def _decode(
        self, process: _Process, uploads: list[Upload], job: _Job, again: bool = False
    ) -> tuple[list[Decoded], _Process]:
        """Decodes images, and the process that is there afterwards; `again` is for one that a process ended at."""
        answers: list[Decoded] = []
        try:
            answers.extend(process.decode(uploads, job, self._seconds))
            return answers, process
        except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
            process.kill()
            self.restarts += 1
            process = _Process(self._memory)
            if len(uploads) == 1 and not again and not isinstance(error, TimeoutError):
                return self._decode(process, uploads, job, again=True)  # it may have ended for another reason
            if len(uploads) == 1:
                why = (
                    f"it took more than {self._seconds:g} s to decode"
                    if isinstance(error, TimeoutError)
                    else "its decoder crashed"
                )
                return [_bad(uploads[0], 422, why)], process
        for upload in uploads[len(answers) :]:  # one of those without an answer, most likely the first
            own, process = self._decode(process, [upload], job)
            answers += own
        return answers, process


class _Process:
    """A process of `decode_worker` and the socket to it."""

    def __init__(self, memory: int) -> None:
        self._socket, theirs = socket.socketpair()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": "1",
        }
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vlfew.serving.decode_worker", str(theirs.fileno()), str(memory)],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is for the server, which ends it after what is in flight
            )
        self._socket.settimeout(START_SECONDS)
        try:
            receive(self._socket)
        except (OSError, EOFError) as error:
            self.kill()
            raise VlfewError(f"a process that decodes images cannot be started: {error!r}") from None

    def kill(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def decode(self, uploads: list[Upload], job: _Job, seconds: float) -> Iterator[Decoded]:
        """Yields an answer for each image, as soon as it is there.

        Raises:
            TimeoutError: one takes too long.
            OSError, EOFError, ValueError, LookupError, TypeError: the process is gone, or answers nonsense.
        """
        most = job.settings.most_bytes
        contents = [upload.content for upload in uploads if len(upload.content) <= most]
        self._socket.settimeout(seconds)
        if contents:
            send(self._socket, {"settings": job.message, "sizes": [*map(len, contents)]}, contents)
        for upload in uploads:
            if len(upload.content) <= most:
                yield self._receive(upload, job.settings)
            else:
                yield _bad(upload, 413, f"{len(upload.content):,} bytes, above the limit of {most:,}")

    def _receive(self, upload: Upload, settings: DecodeSettings) -> Decoded:
        """The answer for the next image."""
        answer, parts = receive(self._socket)
        if "error" in answer:
            return _bad(upload, 413 if answer["status"] == 413 else 422, str(answer["error"]))
        shape = settings.preprocessor.shape
        size, small = shape[0] * shape[1] * shape[2], int(answer["thumbnail"])
        if size + small != len(parts):
            raise ValueError("pixels are missing")
        return ReadImage(
            upload.name,
            "",
            hashlib.sha256(upload.content).digest(),
            torch.frombuffer(parts[:size], dtype=torch.uint8).reshape(shape),
            bytes(parts[size:]) if settings.thumbnail else None,
            upload.content if settings.content else None,
        )


def _bad(upload: Upload, status: int, reason: str) -> Problem:
    return Problem(status, f"{upload.name}: cannot be read: {reason}")
