"""Decoded images are cached on disk, and damaged cache files are rebuilt."""

import os
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from PIL import Image

from vlfew.data import ImagePreprocessor
from vlfew.data import cache as cache_module
from vlfew.data.cache import cache_file, read_cached
from vlfew.data.file_hashes import hash_files, hash_images
from vlfew.data.image_files import DataFile, list_files

PREPROCESSOR = ImagePreprocessor(image_size=8, channels=1, on_bad_image="skip")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    for n in range(20):
        Image.new("L", (8, 8), 10 * n).save(images / f"{n:02}.png")
    (images / "07.png").write_bytes(b"broken")
    return images


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each call that decodes."""
    counts: list[int] = []
    original = cache_module.read_many

    def counted(files, preprocessor, label):
        counts.append(len(files))
        return original(files, preprocessor, label)

    monkeypatch.setattr(cache_module, "read_many", counted)
    return counts


def read(
    files: list[DataFile], preprocessor: ImagePreprocessor
) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    images, numbers, skipped = read_cached(files, preprocessor, "reading", hash_files(files))
    assert images.hashes.equal(hash_images(images.tensor))
    return images.tensor, numbers, skipped


def check(result: tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]) -> None:
    images, numbers, skipped = result
    assert numbers.tolist() == [n for n in range(20) if n != 7]
    assert images[:, 0, 3, 3].tolist() == [10 * n for n in numbers.tolist()]
    assert skipped == ("07.png",)


def test_the_second_run_decodes_nothing(folder: Path, decodings: list[int]) -> None:
    for _ in range(3):
        check(read(list_files(folder), PREPROCESSOR))
    assert decodings == [20]


def test_changed_images_and_preprocessing_are_decoded_again(folder: Path, decodings: list[int]) -> None:
    read(list_files(folder), PREPROCESSOR)
    read(list_files(folder), replace(PREPROCESSOR, channels=3))
    read(list_files(folder), replace(PREPROCESSOR, resize="crop"))
    # The seed of splits does not change images.
    read(list_files(folder), replace(PREPROCESSOR, seed=7))
    assert len(decodings) == 3
    Image.new("L", (8, 8), 99).save(folder / "03.png")
    os.utime(folder / "03.png", ns=(1, 1))
    images, _, _ = read(list_files(folder), PREPROCESSOR)
    assert len(decodings) == 4 and images[3, 0, 0, 0] == 99


def test_an_image_that_could_not_be_read_for_once_is_read(
    folder: Path, decodings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content is the same as that of the cache, but this time it can be read."""
    (folder / "07.png").unlink()
    files = list_files(folder)
    hashes, read_file = hash_files(files), DataFile.read

    def failing(file: DataFile) -> bytes:
        if file.name == "03.png":
            raise OSError("a network that is down")
        return read_file(file)

    with monkeypatch.context() as patched:
        patched.setattr(DataFile, "read", failing)
        for _ in range(2):
            assert read_cached(files, PREPROCESSOR, "reading", hashes)[2] == ("03.png",)
    for _ in range(2):
        assert read_cached(files, PREPROCESSOR, "reading", hashes)[2] == ()
    assert decodings == [19, 19]


def test_an_archive_is_identified_by_its_checksums(
    folder: Path, decodings: list[int], tmp_path: Path
) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    check(read(list_files(tmp_path / "a.zip"), PREPROCESSOR))
    (tmp_path / "a.zip").rename(tmp_path / "b.zip")
    check(read(list_files(tmp_path / "b.zip"), PREPROCESSOR))
    assert decodings == [20]


@pytest.mark.parametrize("damage", ["short", "empty", "bit", "header"])
def test_a_damaged_cache_file_is_rebuilt(folder: Path, decodings: list[int], damage: str) -> None:
    files = list_files(folder)
    read(files, PREPROCESSOR)
    path = cache_file(files, PREPROCESSOR, hash_files(files))
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[-200] ^= 1
    if damage == "header":
        content[:8] = b"\xff" * 8
    path.write_bytes({"short": content[:-50], "empty": b""}.get(damage, content))
    check(read(files, PREPROCESSOR))
    check(read(files, PREPROCESSOR))
    assert decodings == [20, 20]


def test_an_unwritable_cache_is_not_needed(
    folder: Path, decodings: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    check(read(list_files(folder), PREPROCESSOR))
    check(read(list_files(folder), PREPROCESSOR))
    assert decodings == [20, 20]


@pytest.mark.filterwarnings("error")
def test_changing_the_images_does_not_change_the_cache(folder: Path) -> None:
    files = list_files(folder)
    read(files, PREPROCESSOR)
    images, _, _ = read(files, PREPROCESSOR)
    images.zero_()
    check(read(files, PREPROCESSOR))
    assert not list(cache_file(files, PREPROCESSOR, hash_files(files)).parent.glob("*.part"))
