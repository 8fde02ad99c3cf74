"""Images decoded on demand are the same images, within bounded memory."""

import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, InMemory
from vlfew.data.decode import read_many
from vlfew.data.image_stores import DecodedOnDemand, load_images

PREPROCESSOR = ImagePreprocessor(image_size=16, channels=3)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{n}.png" for n in range(30)]
    for n, path in enumerate(paths):
        Image.new("RGB", (20, 20), (n, 2 * n, 3 * n)).save(path)
    return paths


def test_batches_equal_those_of_reading_all_images(paths: list[Path]) -> None:
    expected, _, _ = read_many(paths, PREPROCESSOR, "reading")
    store = DecodedOnDemand(paths, PREPROCESSOR)
    assert len(store) == 30 and store.shape == (3, 16, 16) and store.nbytes == 0
    for numbers in ([3, 1, 3, 29], [0], [], list(range(30))):
        index = torch.tensor(numbers, dtype=torch.int64)
        batch = store.batch(index)
        assert batch.dtype == torch.uint8 and torch.equal(batch, expected[index])
    assert store.nbytes == 30 * 3 * 16 * 16


class Counting:
    """Pillow images by number, with a count of accesses."""

    def __init__(self, count: int) -> None:
        self.accesses = [0] * count

    def __len__(self) -> int:
        return len(self.accesses)

    def __getitem__(self, number: int) -> Image.Image:
        self.accesses[number] += 1
        return Image.new("RGB", (600, 600), (number, 0, 0))


def test_the_latest_images_are_cached_up_to_the_limit() -> None:
    images = Counting(8)
    # 3 MiB: four images.
    store = DecodedOnDemand(images, ImagePreprocessor(image_size=512, channels=3), cache_mb=3)
    store.batch(torch.tensor([0, 1, 2, 3]))
    store.batch(torch.tensor([3, 2, 2, 3]))
    assert images.accesses[:4] == [1, 1, 1, 1]
    store.batch(torch.tensor([4, 5, 6, 7]))
    assert store.nbytes <= 3 * 2**20
    assert store.batch(torch.tensor([0]))[0, 0, 0, 0] == 0 and images.accesses[0] == 2


def test_changing_a_batch_does_not_change_the_cache(paths: list[Path]) -> None:
    store = DecodedOnDemand(paths, PREPROCESSOR)
    store.batch(torch.tensor([5])).zero_()
    assert store.batch(torch.tensor([5]))[0, 0, 0, 0] == 5


def test_an_unreadable_image_is_named(paths: list[Path]) -> None:
    paths[4].write_bytes(paths[4].read_bytes()[:30])
    with pytest.raises(DataError, match=r"4\.png: cannot be read"):
        DecodedOnDemand(paths, PREPROCESSOR).batch(torch.tensor([3, 4]))
    with pytest.raises(DataError, match=r"faces\[1\]: cannot be read"):
        DecodedOnDemand([b"", b"nothing"], PREPROCESSOR, "faces").batch(torch.tensor([1]))


def test_it_can_be_sent_to_other_processes(paths: list[Path]) -> None:
    store = pickle.loads(pickle.dumps(DecodedOnDemand(paths, PREPROCESSOR, cache_mb=1)))
    assert store.cache_mb == 1 and store.batch(torch.tensor([7]))[0, 1, 0, 0] == 14


@pytest.mark.parametrize("limit, kind", [(1, InMemory), (0, DecodedOnDemand)])
def test_small_data_sets_are_in_memory(paths: list[Path], limit: int, kind: type) -> None:
    images, numbers, skipped, _ = load_images(paths, PREPROCESSOR, "reading", memory_limit_mb=limit)
    assert isinstance(images, kind) and numbers.tolist() == list(range(30)) and skipped == ()
    assert images.batch(torch.tensor([9]))[0, 2, 0, 0] == 27


@pytest.mark.parametrize("limit", [1, 0])
def test_unreadable_images_are_skipped_in_both_stores(paths: list[Path], limit: int) -> None:
    paths[2].write_bytes(b"")
    preprocessor = ImagePreprocessor(image_size=16, channels=3, on_bad_image="skip")
    images, numbers, skipped, _ = load_images(paths, preprocessor, "reading", memory_limit_mb=limit)
    assert skipped == (str(paths[2]),) and 2 not in numbers.tolist() and len(images) == len(numbers) == 29
    assert images.batch(torch.arange(29))[:, 0, 0, 0].tolist() == numbers.tolist()
