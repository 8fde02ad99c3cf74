"""Images decoded when asked for are the same images, within bounded memory."""

import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, InMemory
from vlfew.data.decode import read_many
from vlfew.data.image_stores import DecodedOnDemand, load_images

READING = ImagePreprocessor(image_size=16, channels=3)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = [tmp_path / f"{n}.png" for n in range(30)]
    for n, path in enumerate(paths):
        Image.new("RGB", (20, 20), (n, 2 * n, 3 * n)).save(path)
    return paths


def test_batches_are_what_reading_all_gives(paths: list[Path]) -> None:
    wanted, _, _ = read_many(paths, READING, "reading")
    store = DecodedOnDemand(paths, READING)
    assert len(store) == 30 and store.shape == (3, 16, 16) and store.nbytes == 0
    for numbers in ([3, 1, 3, 29], [0], [], list(range(30))):
        index = torch.tensor(numbers, dtype=torch.int64)
        batch = store.batch(index)
        assert batch.dtype == torch.uint8 and torch.equal(batch, wanted[index])
    assert store.nbytes == 30 * 3 * 16 * 16


class Counting:
    """Pillow images by number, counting how often each is asked for."""

    def __init__(self, count: int) -> None:
        self.asked = [0] * count

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, number: int) -> Image.Image:
        self.asked[number] += 1
        return Image.new("RGB", (600, 600), (number, 0, 0))


def test_the_latest_images_are_kept_and_no_more_than_said() -> None:
    images = Counting(8)
    store = DecodedOnDemand(images, ImagePreprocessor(image_size=512, channels=3), cache_mb=3)  # 3 MiB: four images
    store.batch(torch.tensor([0, 1, 2, 3]))
    store.batch(torch.tensor([3, 2, 2, 3]))
    assert images.asked[:4] == [1, 1, 1, 1]
    store.batch(torch.tensor([4, 5, 6, 7]))
    assert store.nbytes <= 3 * 2**20
    assert store.batch(torch.tensor([0]))[0, 0, 0, 0] == 0 and images.asked[0] == 2


def test_changing_a_batch_does_not_change_what_is_kept(paths: list[Path]) -> None:
    store = DecodedOnDemand(paths, READING)
    store.batch(torch.tensor([5])).zero_()
    assert store.batch(torch.tensor([5]))[0, 0, 0, 0] == 5


def test_a_bad_image_is_named(paths: list[Path]) -> None:
    paths[4].write_bytes(paths[4].read_bytes()[:30])
    with pytest.raises(DataError, match=r"4\.png: cannot be read"):
        DecodedOnDemand(paths, READING).batch(torch.tensor([3, 4]))
    with pytest.raises(DataError, match=r"faces\[1\]: cannot be read"):
        DecodedOnDemand([b"", b"nothing"], READING, "faces").batch(torch.tensor([1]))


def test_it_travels_to_other_processes(paths: list[Path]) -> None:
    store = pickle.loads(pickle.dumps(DecodedOnDemand(paths, READING, cache_mb=1)))
    assert store.keep_mb == 1 and store.batch(torch.tensor([7]))[0, 1, 0, 0] == 14


@pytest.mark.parametrize("limit, kind", [(1, InMemory), (0, DecodedOnDemand)])
def test_held_in_memory_where_it_fits(paths: list[Path], limit: int, kind: type) -> None:
    images, kept, skipped = load_images(paths, READING, "reading", memory_limit_mb=limit)
    assert isinstance(images, kind) and kept.tolist() == list(range(30)) and skipped == ()
    assert images.batch(torch.tensor([9]))[0, 2, 0, 0] == 27


@pytest.mark.parametrize("limit", [1, 0])
def test_bad_images_are_skipped_and_counted_either_way(paths: list[Path], limit: int) -> None:
    paths[2].write_bytes(b"")
    preprocessor = ImagePreprocessor(image_size=16, channels=3, on_bad_image="skip")
    images, kept, skipped = load_images(paths, preprocessor, "reading", memory_limit_mb=limit)
    assert skipped == (str(paths[2]),) and 2 not in kept.tolist() and len(images) == len(kept) == 29
    assert images.batch(torch.arange(29))[:, 0, 0, 0].tolist() == kept.tolist()
