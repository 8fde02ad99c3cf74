"""Decoding in processes that can be ended: the pixels are those of the gallery, and no image brings the server down."""

from __future__ import annotations

import asyncio
import io
import os
import queue
import signal
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

from tests.serving.conftest import MIB, draw
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.gallery.images import ReadImage, read
from vlfew.models import DualStream
from vlfew.serving.decoding import Decoded, Decoders, DecodeSettings
from vlfew.serving.problems import Problem
from vlfew.serving.uploads import Upload

PREPROCESSOR = ImagePreprocessor(image_size=16, channels=3)


def settings(
    preprocessor: ImagePreprocessor = PREPROCESSOR,
    thumbnail: bool = False,
    content: bool = False,
    **limits: int,
) -> DecodeSettings:
    most = {"most_pixels": 50_000_000, "most_bytes": 20 * MIB, **limits}
    return DecodeSettings(preprocessor, thumbnail, content, **most)


def decode(decoders: Decoders, *contents: bytes, how: DecodeSettings | None = None) -> list[Decoded]:
    uploads = [Upload(f"{n}.png", content) for n, content in enumerate(contents)]
    return asyncio.run(decoders.read(uploads, how or settings()))


def encoded(
    size: tuple[int, int] = (40, 30), kind: str = "PNG", color: str = "red", **options: object
) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says that it is so large, and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    header = struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_images_are_read_as_the_gallery_reads_them(
    decoders: Decoders, tmp_path: Path, model: DualStream, kind: str
) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    Image.open(draw(tmp_path / "drawn.png", 3, size=70)).save(path, kind)
    for preprocessor in (PREPROCESSOR, model.spec.preprocessor()):
        how = settings(preprocessor, thumbnail=True, content=True)
        (found,) = decode(decoders, path.read_bytes(), how=how)
        expected = read(path, 0, preprocessor, thumbnail=True, content=True)
        assert isinstance(found, ReadImage) and torch.equal(found.pixels, expected.pixels)
        assert (found.digest, found.thumbnail, found.content) == (
            expected.digest,
            expected.thumbnail,
            expected.content,
        )
        assert found.source == ""
    (plain,) = decode(decoders, path.read_bytes())
    assert isinstance(plain, ReadImage) and plain.thumbnail is None and plain.content is None


BAD = {
    "empty": b"",
    "text": b"hello",
    "truncated": encoded()[:60],
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "pdf": b"%PDF-1.4\n",
    "icon": encoded(kind="ICO"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_of_a_known_kind(decoders: Decoders, name: str) -> None:
    good = encoded()
    first, bad, last = decode(decoders, good, BAD[name], good)
    assert isinstance(first, ReadImage) and isinstance(last, ReadImage)
    assert isinstance(bad, Problem) and bad.status == 422 and bad.detail.startswith("1.png: cannot be read: ")


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (2**31 - 1, 1), (20_000, 5000)])
def test_too_many_pixels_are_refused_before_decoding(decoders: Decoders, width: int, height: int) -> None:
    (found,) = decode(decoders, png_header(width, height))
    assert isinstance(found, Problem) and found.status == 413 and "pixels" in found.detail


def test_too_many_bytes_are_not_sent(decoders: Decoders) -> None:
    good = encoded()
    small, large = decode(decoders, good, good + b"\0" * 5000, how=settings(most_bytes=len(good) + 10))
    assert isinstance(small, ReadImage)
    assert isinstance(large, Problem) and large.status == 413 and "above the limit" in large.detail


@pytest.fixture(scope="module")
def limited() -> Iterator[Decoders]:
    """One process, with little time and memory."""
    made = Decoders(1, 3, 100 * MIB)
    yield made
    made.close()


def worker() -> psutil.Process:
    """The process that decodes for `limited`."""
    children = [
        c for c in psutil.Process().children() if "vlfew.serving.decode_worker" in " ".join(c.cmdline())
    ]
    own = [child for child in children if child.cmdline()[-1] == str(100 * MIB)]
    assert len(own) == 1
    return own[0]


def test_memory_is_limited(limited: Decoders) -> None:
    (found,) = decode(limited, encoded((7000, 7000)))  # 147 MB once it is decoded
    assert isinstance(found, Problem) and found.status in (413, 422)
    assert isinstance(decode(limited, encoded())[0], ReadImage)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no signals")
def test_a_process_that_hangs_is_replaced(limited: Decoders) -> None:
    assert isinstance(decode(limited, encoded())[0], ReadImage)
    before, restarts = worker(), limited.restarts
    os.kill(before.pid, signal.SIGSTOP)
    (found,) = decode(limited, encoded())
    assert isinstance(found, Problem) and found.status == 422 and "more than 3 s" in found.detail
    assert not before.is_running() and limited.restarts == restarts + 1
    assert isinstance(decode(limited, encoded())[0], ReadImage)
    os.kill(worker().pid, signal.SIGSTOP)
    assert all(isinstance(one, ReadImage) for one in decode(limited, encoded(), encoded(color="blue")))


def test_a_process_that_was_killed_is_replaced(limited: Decoders) -> None:
    assert isinstance(decode(limited, encoded())[0], ReadImage)
    worker().kill()
    assert all(isinstance(one, ReadImage) for one in decode(limited, encoded(), encoded(color="blue")))
    worker().kill()
    assert isinstance(decode(limited, encoded())[0], ReadImage)


def test_time_is_for_one_image_not_for_all_of_a_request() -> None:
    large = encoded((3000, 3000))
    made = Decoders(1, 60, 512 * MIB)
    try:
        decode(made, large)
        begin = time.monotonic()
        decode(made, large)
        alone = time.monotonic() - begin
    finally:
        made.close()
    seconds = max(1.0, 6 * alone)
    made = Decoders(1, seconds, 512 * MIB)
    try:
        assert made.wait_ready()
        begin = time.monotonic()
        found = decode(made, *[large] * (2 + int(1.5 * seconds / alone)))
        assert time.monotonic() - begin > seconds, "too fast to show anything"
        assert all(isinstance(one, ReadImage) for one in found) and made.restarts == 0
    finally:
        made.close()


def test_a_process_that_cannot_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/no/such/python")
        patch.setattr("vlfew.serving.decoding.RETRY_SECONDS", 0.05)
        made = Decoders(2, 60, 100 * MIB)
        try:
            assert not made.wait_ready(0.3) and not made.ready
            (refused,) = decode(made, encoded())
            assert isinstance(refused, Problem) and refused.status == 503 and "try again" in refused.detail
            patch.undo()
            assert made.wait_ready() and made.ready
            assert isinstance(decode(made, encoded())[0], ReadImage)
        finally:
            made.close()


def test_a_full_queue_is_busy() -> None:
    made = Decoders(1, 60, 100 * MIB, most_queued=3)
    try:
        with pytest.raises(Problem) as refused:
            decode(made, *[encoded()] * 4)
        assert refused.value.status == 503 and refused.value.headers["Retry-After"]
        assert len(decode(made, *[encoded()] * 3)) == 3 and made.queued == 0
    finally:
        made.close()
    with pytest.raises(Problem):
        decode(made, encoded())


def test_bytes_that_wait_are_limited_too() -> None:
    content = encoded()
    made = Decoders(1, 60, 100 * MIB, most_bytes=len(content) + 10)
    try:
        answers: queue.Queue[list[Decoded]] = queue.Queue()
        made.submit([Upload("a", content)], settings(), answers.put)  # waits until the process has started
        with pytest.raises(Problem, match="waiting"):
            made.submit([Upload("b", content)], settings(), answers.put)
        assert isinstance(answers.get(timeout=60)[0], ReadImage)
        assert isinstance(decode(made, content, content)[1], ReadImage)  # more than that, where nothing waits
    finally:
        made.close()
