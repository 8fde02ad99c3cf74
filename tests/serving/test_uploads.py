"""Requests with images: forms and their limits, and images that were damaged at random."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from tests.gallery.conftest import DIM
from tests.serving.conftest import Serve, draw, files, problem, running
from vlfew.gallery.gallery import Gallery
from vlfew.models import DualStream
from vlfew.serving.app import make_app
from vlfew.serving.decoding import Decoders
from vlfew.serving.options import ServeOptions
from vlfew.serving.problems import Problem
from vlfew.serving.uploads import Form, parse_form

BOUNDARY = b"b"


def part(head: bytes, content: bytes) -> bytes:
    return b"--b\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + content + b"\r\n"


def parse(*parts: bytes) -> Form:
    return parse_form(b"".join(parts) + b"--b--\r\n", BOUNDARY)


def test_forms() -> None:
    form = parse(
        part(b'name="name"', "Zoë".encode()),
        part(b'name="texts"', b"a"),
        part(b'name="texts"', b""),
        part(b'name="images"; filename="a/b.png"', b"1\r\n2"),
        part(b'name="images"; filename=""', b""),  # a file input that was left empty
        part(b'name="images"; filename=""', b"3"),
    )
    assert form.text("name") == "Zoë" and form.fields["texts"] == ["a", ""] and form.text("other", "x") == "x"
    assert [(upload.name, upload.content) for upload in form.images("images", 1, 9)] == [
        ("a/b.png", b"1\r\n2"),
        ("image", b"3"),
    ]
    odd = (
        parse(part('name="images"; filename="x\x07\u2028.png"'.encode(), b"1")).images("images", 1, 1)[0].name
    )
    assert odd.isprintable()


WRONG = {
    "two of one": lambda: parse(part(b'name="name"', b"a"), part(b'name="name"', b"b")).text("name"),
    "no image": lambda: parse(part(b'name="name"', b"a")).images("images", 1, 2),
    "too many": lambda: parse(*[part(b'name="images"; filename="a"', b"a")] * 3).images("images", 1, 2),
    "a text": lambda: parse(part(b'name="images"', b"a")).images("images", 0, 2),
    "no flag": lambda: parse(part(b'name="replace"', b"maybe")).flag("replace"),
    "no name": lambda: parse(part(b'filename="a"', b"a")),
    "no UTF-8": lambda: parse(part(b'name="name"', b"\xff\xfe")),
    "too long": lambda: parse(part(b'name="name"', b"a" * 100_000)),
    "too many parts": lambda: parse(*[part(b'name="texts"', b"a")] * 300),
    "no form": lambda: parse_form(b"hello", BOUNDARY),
    "cut": lambda: parse_form(part(b'name="name"', b"a")[:-9], BOUNDARY),
    "nothing": lambda: parse_form(b"", BOUNDARY),
    "other boundary": lambda: parse_form(part(b'name="a"', b"a") + b"--b--", b"c"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_forms(name: str) -> None:
    with pytest.raises(Problem) as found:
        WRONG[name]()
    assert 400 <= found.value.status < 500 and found.value.detail


def test_limits_of_a_request(gallery: Gallery, serve: Serve, people: dict[str, list[Path]]) -> None:
    http = serve(gallery, image_bytes=20_000, images=3, request_bytes=60_000)
    image = people["ann"][0]
    assert image.stat().st_size < 20_000
    padded = ("large.png", image.read_bytes() + b"\0" * 20_000)
    large, fine = http.post("/identify", files=[("images", padded), *files("images", image)]).json()[
        "answers"
    ]
    assert large["error"]["status"] == 413 and fine["name"] == "ann"
    enrolled = http.post("/identities", data={"name": "x"}, files=[("images", padded)])
    assert "large.png" in problem(enrolled, 413)
    assert "several requests" in problem(http.post("/identify", files=files("images", *[image] * 4)), 413)
    body = b"\0" * 60_001
    assert "60,000" in problem(
        http.post("/identify", content=body, headers={"Content-Type": "image/png"}), 413
    )

    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"\0" * 2**20

    problem(http.post("/identify", content=chunks(), headers={"Content-Type": "image/png"}), 413)
    assert http.post("/identify", files=files("images", image)).status_code == 200


NOT_FORMS = ["", "text/plain", "application/json", "multipart/form-data", "multipart/mixed; boundary=b"]


@pytest.mark.parametrize("kind", NOT_FORMS)
def test_types_of_content(http: httpx2.Client, kind: str) -> None:
    for path in ("/identify", "/verify?name=ann", "/identities"):
        assert "multipart/form-data" in problem(
            http.post(path, content=b"x", headers={"Content-Type": kind}), 415
        )


@pytest.fixture(scope="module")
def fuzzed(
    tmp_path_factory: pytest.TempPathFactory, model: DualStream, decoders: Decoders
) -> Iterator[httpx2.Client]:
    """A server that many examples are sent to."""
    path = tmp_path_factory.mktemp("fuzzed") / "g.db"
    with Gallery.create(path, model) as gallery:
        gallery.enroll_embeddings(["a", "b"], np_eye(2))
        with (
            running(make_app(gallery, ServeOptions(image_pixels=4_000_000), decoders)) as url,
            httpx2.Client(base_url=url, timeout=120, trust_env=False) as client,
        ):
            yield client
            assert client.get("/healthz").status_code == 200


def np_eye(rows: int):  # type: ignore[no-untyped-def]
    import torch

    return torch.eye(DIM)[:rows]


KINDS = ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"]


def originals() -> list[bytes]:
    """Small images of each kind, of several modes."""
    made = []
    for number, kind in enumerate(KINDS):
        for mode in ("RGB", "L", "P" if kind in ("PNG", "GIF", "TIFF") else "RGB"):
            pixels = np.random.default_rng(number).integers(0, 255, (24, 31, 3)).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).convert(mode).save(buffer, kind)
            made.append(buffer.getvalue())
    return made


ORIGINALS = originals()


def mutated(seed: int) -> bytes:
    """An image with bytes changed, cut out, repeated or put in; a third of the time behind its header alone."""
    rng = random.Random(seed)
    content = bytearray(rng.choice(ORIGINALS))
    first = min(len(content) - 1, 64) if rng.random() < 0.35 else 0
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(first, max(first + 1, len(content)))
        action = rng.randrange(6)
        if action == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            del content[at:]
        elif action == 2:
            del content[at : at + rng.randrange(1, 40)]
        elif action == 3:
            content[at:at] = content[at : at + rng.randrange(1, 200)] * rng.choice([1, 2, 50])
        elif action == 4:
            content[at : at + 4] = rng.choice(
                [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\xff\0\xff\0"]
            )
        else:
            content[at:at] = rng.randbytes(rng.randrange(1, 64))
    return bytes(content)


def send(client: httpx2.Client, contents: list[bytes]) -> None:
    """Every image gets an answer, good or bad, and the server stays up."""
    sent = [("images", (f"{n}.png", content)) for n, content in enumerate(contents)]
    response = client.post("/identify", files=sent)
    assert response.status_code == 200, response.text
    answers = response.json()["answers"]
    assert len(answers) == len(contents)
    for answer in answers:
        assert answer["error"]["status"] in (413, 422) if "error" in answer else answer["matches"]


@hypothesis_settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(st.integers(0, 2**40).map(mutated), st.binary(max_size=200)), min_size=1, max_size=8)
)
@example([b""])
def test_damaged_images_are_answered(fuzzed: httpx2.Client, contents: list[bytes]) -> None:
    send(fuzzed, contents)


@hypothesis_settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["/identify", "/identities", "/verify?name=a", "/calibrate", "/import"]),
    st.binary(max_size=300),
    st.sampled_from(
        [f"multipart/form-data; boundary={b}" for b in ("b", "")] + ["application/json", "image/png"]
    ),
    st.booleans(),
)
def test_damaged_requests_are_answered(
    fuzzed: httpx2.Client, path: str, body: bytes, kind: str, framed: bool
) -> None:
    if framed:
        body = part(b'name="images"; filename="x"', body) + b"--b--\r\n"
    response = fuzzed.post(path, content=body, headers={"Content-Type": kind})
    assert response.status_code < 500, response.text


@pytest.mark.slow
def test_many_damaged_images_are_answered(fuzzed: httpx2.Client) -> None:
    """`VLFEW_FUZZ_UPLOADS` says how many."""
    count = int(os.environ.get("VLFEW_FUZZ_UPLOADS", "10000"))
    for start in range(0, count, 20):
        send(fuzzed, [mutated(10**6 + seed) for seed in range(start, start + 20)])


def test_concurrent_requests_share_batches(
    gallery: Gallery, serve: Serve, people: dict[str, list[Path]]
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    http = serve(gallery)
    jobs = [(name, path, k) for name, paths in people.items() for path in paths for k in (1, 2, 3)] * 4

    def ask(job: tuple[str, Path, int]) -> None:
        name, path, k = job
        (answer,) = http.post(f"/identify?k={k}", files=files("images", path)).json()["answers"]
        assert answer["name"] == name and len(answer["matches"]) == k

    with ThreadPoolExecutor(16) as pool:
        assert len([*pool.map(ask, jobs)]) == len(jobs)
    metrics = dict(
        line.rsplit(" ", 1) for line in http.get("/metrics").text.splitlines() if not line.startswith("#")
    )
    assert float(metrics["vlfew_batch_images_sum"]) == len(jobs)
    assert float(metrics["vlfew_batch_images_count"]) <= len(jobs)


def test_one_request_cannot_spoil_another_of_its_batch(
    gallery: Gallery, serve: Serve, people: dict[str, list[Path]], tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    http = serve(gallery)
    zero = {"embeddings": [[0.0] * DIM]}
    image = draw(tmp_path / "a.png", 0)

    def ask(number: int) -> int:
        if number % 3 == 0:
            return http.post("/search", json=zero).status_code
        return http.post("/identify", files=files("images", image)).status_code

    with ThreadPoolExecutor(12) as pool:
        statuses = [*pool.map(ask, range(60))]
    assert statuses == [422 if n % 3 == 0 else 200 for n in range(60)]
