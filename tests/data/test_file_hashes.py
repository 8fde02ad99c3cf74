"""Content is hashed once, and a change of it is never missed."""

from __future__ import annotations

import json
import os
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlfew.data import ImagePreprocessor, load_data
from vlfew.data.data_root import cache_dir
from vlfew.data.file_hashes import hash_bytes, hash_files, hash_images, verified
from vlfew.data.image_files import DataFile, list_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "in").mkdir(parents=True)
    for n in range(5):
        (folder / "in" / f"{n}.bin").write_bytes(bytes([n]) * 1000)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read."""
    names: list[str] = []
    read = DataFile.read

    def recorded(file: DataFile) -> bytes:
        names.append(file.name)
        return read(file)

    monkeypatch.setattr(DataFile, "read", recorded)
    return names


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as old at once."""
    monkeypatch.setattr("vlfew.data.file_hashes._SETTLED_NS", -(10**12))


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_hashes_tell_contents_apart(first: bytes, second: bytes) -> None:
    assert (hash_bytes(first) == hash_bytes(second)) is (first == second)
    assert hash_bytes(first) % 2**64 == int.from_bytes(blake2b(first, digest_size=8).digest(), "little")


def test_hashes_of_images_are_those_of_their_pixels() -> None:
    images = torch.randint(0, 256, (150, 3, 5, 4), dtype=torch.uint8)
    images[140] = images[3]
    for tensor in (images, images.transpose(2, 3)):
        hashes = hash_images(tensor)
        assert hashes.tolist() == [hash_bytes(image.contiguous().numpy().tobytes()) for image in tensor]
        assert hashes[140] == hashes[3] and len(hashes.unique()) == 149
    assert len(hash_images(images[:0])) == 0


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_read_once(folder: Path, reads: list[str]) -> None:
    first = hash_files(list_files(folder))
    assert first == [hash_bytes(bytes([n]) * 1000) for n in range(5)] and len(reads) == 5
    assert hash_files(list_files(folder)) == first and len(reads) == 5
    assert hash_files(list_files(folder)[2:3]) == first[2:3] and len(reads) == 5
    with verified():
        assert hash_files(list_files(folder)) == first and len(reads) == 10
    (folder / "in" / "9.bin").write_bytes(b"new")
    assert hash_files(list_files(folder))[:5] == first and reads[10:] == ["in/9.bin"]


def rewrite(path: Path) -> None:
    path.write_bytes(b"x" * 1000)


def rewrite_with_the_old_time(path: Path) -> None:
    before = os.stat(path)
    rewrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_with_the_old_time(path: Path) -> None:
    other = path.with_suffix(".new")
    rewrite(other)
    os.utime(other, ns=(os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns))
    os.replace(other, path)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("change", [rewrite, rewrite_with_the_old_time, replace_with_the_old_time])
def test_a_changed_file_of_the_same_size_is_read_again(
    folder: Path, reads: list[str], change: Callable[[Path], None]
) -> None:
    first = hash_files(list_files(folder))
    time.sleep(0.05)  # file systems count time in steps
    change(folder / "in" / "3.bin")
    second = hash_files(list_files(folder))
    assert [n for n in range(5) if first[n] != second[n]] == [3] and reads[5:] == ["in/3.bin"]


def test_a_file_that_has_just_changed_is_not_remembered(folder: Path, reads: list[str]) -> None:
    hash_files(list_files(folder))
    hash_files(list_files(folder))
    assert len(reads) == 10


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "damage", [b"", b"[1]", b'{"in/3.bin": [1]}', b"\xff", b'{"in/3.bin": 3, "in/1.bin": [1000, null]}']
)
def test_damaged_memory_is_replaced(folder: Path, reads: list[str], damage: bytes) -> None:
    first = hash_files(list_files(folder))
    (path,) = (cache_dir() / "hashes").iterdir()
    path.write_bytes(damage)
    assert hash_files(list_files(folder)) == first
    assert hash_files(list_files(folder)) == first and len(reads) == 10


@pytest.mark.usefixtures("settled")
def test_an_interruption_keeps_what_was_hashed(
    folder: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlfew.data.threads.BLOCK", 1)
    monkeypatch.setattr("vlfew.data.threads.THREADS", 1)

    def interrupted(values: Iterable[int | None], *_: object) -> Iterator[int | None]:
        yield from islice(values, 2)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("vlfew.data.file_hashes.progress", interrupted)
        hash_files(list_files(folder))
    reads.clear()
    assert len(hash_files(list_files(folder))) == 5 and len(reads) == 3


@pytest.mark.usefixtures("settled")
def test_verifying_finds_a_wrong_memory(folder: Path) -> None:
    first = hash_files(list_files(folder))
    (path,) = (cache_dir() / "hashes").iterdir()
    remembered = json.loads(path.read_bytes())
    remembered["in/1.bin"][-1] += 1
    path.write_text(json.dumps(remembered))
    assert hash_files(list_files(folder))[1] == first[1] + 1
    with verified():
        assert hash_files(list_files(folder)) == first
    assert hash_files(list_files(folder)) == first


def test_an_unwritable_cache_is_not_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "in" / "way").write_text("a file in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "in" / "way"))
    assert len(set(hash_files(list_files(folder)))) == 6


def test_a_folder_and_its_archives_have_the_same_hashes(folder: Path, tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as archive, tarfile.open(tmp_path / "a.tar", "w") as tar:
        for path in sorted(folder.rglob("*.bin")):
            archive.write(path, path.relative_to(folder))
            tar.add(path, str(path.relative_to(folder)))
    places = (folder, tmp_path / "a.zip", tmp_path / "a.tar")
    expected, *archived = [hash_files(list_files(place)) for place in places]
    assert archived == [expected, expected]


def test_an_unreadable_file_has_a_hash(folder: Path) -> None:
    files = list_files(folder)
    (folder / "in" / "2.bin").unlink()
    assert len(set(hash_files(files))) == 5


def test_swapped_images_change_the_fingerprint(tmp_path: Path) -> None:
    """The same names and sizes: two mislabeled images that are put right."""
    root = tmp_path / "images"
    for name, shade in (("cat", 1), ("dog", 2), ("mug", 3), ("yak", 4)):
        (root / name).mkdir(parents=True)
        for n in range(2):
            Image.new("RGB", (8, 8), (shade, n, 0)).save(root / name / f"{n}.bmp")
    preprocessor = ImagePreprocessor(8, 3)
    before = load_data("folder", root, preprocessor)
    (root / "cat" / "1.bmp").rename(root / "x")
    (root / "dog" / "1.bmp").rename(root / "cat" / "1.bmp")
    (root / "x").rename(root / "dog" / "1.bmp")
    after = load_data("folder", root, preprocessor)
    assert before.fingerprint != after.fingerprint
    assert after.images.batch(torch.arange(8))[:, 0, 0, 0].tolist() == [1, 2, 2, 1, 3, 3, 4, 4]


@pytest.mark.usefixtures("settled")
def test_files_that_are_gone_are_forgotten_and_those_of_other_calls_kept(folder: Path) -> None:
    files = list_files(folder)
    hash_files(files)
    (folder / files[0].name).unlink()
    (folder / "new.bin").write_bytes(b"new")
    hash_files([DataFile.at(folder, "new.bin")])
    (memory,) = (cache_dir() / "hashes").iterdir()
    assert sorted(json.loads(memory.read_bytes())) == sorted([*(f.name for f in files[1:]), "new.bin"])
