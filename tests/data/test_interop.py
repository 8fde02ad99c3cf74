"""Conversion of torchvision and Hugging Face data sets preserves images and labels."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms.v2 import PILToTensor

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, InMemory, LabeledImages
from vlfew.data.image_stores import DecodedOnDemand
from vlfew.data.interop import from_huggingface, from_torchvision
from vlfew.data.splits import split_by_class
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.run_protocol import check_protocol, run_protocol
from vlfew.models.dual_stream import DualStream
from vlfew.models.spec import ModelSpec

PREPROCESSOR = ImagePreprocessor(image_size=8, channels=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n, name in enumerate(("hot_dog", "mug", "red fox")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for k in range(4):
            Image.new("RGB", (8, 8), (n, k, 7)).save(tmp_path / "images" / name / f"{k}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("limit, kind", [(10, InMemory), (0, DecodedOnDemand)])
def test_torchvision_folder(folder: Path, limit: int, kind: type) -> None:
    splits = {"train": torch.arange(8), "test": torch.arange(8, 12)}
    data = from_torchvision(
        ImageFolder(folder), PREPROCESSOR, name="mine", splits=splits, memory_limit_mb=limit
    )
    assert isinstance(data.images, kind) and data.name == "mine" and all(data.class_texts)
    assert data.class_names == ("hot dog", "mug", "red fox")
    images = data.images.batch(torch.arange(12))
    assert images[:, 0, 0, 0].tolist() == data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.classes("test").tolist() == [2]


def accuracy(data: LabeledImages, split: str) -> float:
    """One-shot accuracy of an untrained model."""
    torch.manual_seed(0)
    spec = ModelSpec(
        backbone="conv4", backbone_options={"width": 8}, embedding_dim=None, image_size=16, channels=3
    )
    options = {"split": split, "ways": 2, "shots": 1, "queries": 2, "episodes": 20}
    context = EvaluationContext(DualStream.from_spec(spec).eval(), data)
    result, outcome = run_protocol(context, "few-shot", options)
    assert result.data == data.name and result.split == split and result.data_fingerprint == data.fingerprint
    assert outcome.per_episode is not None and len(outcome.per_episode) == 20
    return result.accuracy


def test_an_image_folder_is_split_and_evaluated(tmp_path: Path) -> None:
    for n in range(7):
        (tmp_path / f"kind {'abcdefg'[n]}").mkdir()
        for k in range(3):
            Image.new("RGB", (8, 8), (36 * n, 255 - 36 * n, 0)).save(
                tmp_path / f"kind {'abcdefg'[n]}" / f"{k}.png"
            )
    source = ImageFolder(tmp_path)
    splits = split_by_class(torch.tensor(source.targets), source.classes, seed=0)
    data = from_torchvision(source, ImagePreprocessor(16, 3), name="kinds", splits=splits)
    assert accuracy(data, "test") == 1.0  # all images of a class are equal
    with pytest.raises(DataError, match="need 5 classes, but the split has 2"):
        check_protocol("few-shot", {"ways": 5, "queries": 1}, data)


def test_fake_data_are_evaluated_at_chance() -> None:
    data = from_torchvision(FakeData(size=40, image_size=(3, 8, 8), num_classes=4), ImagePreprocessor(16, 3))
    assert 0.2 < accuracy(data, "all") < 0.8


class Minimal(torch.utils.data.Dataset):
    """The minimal interface of a data set."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        return Image.new("L", (9, 9), 10 * number), 7 * (number % 2)


def test_any_sequence_of_images_and_labels_is_accepted() -> None:
    source: Any = Minimal()
    for data in (
        from_torchvision(source, PREPROCESSOR),
        from_torchvision(source, PREPROCESSOR, memory_limit_mb=0),
    ):
        assert data.class_names == ("0", "7") and data.labels.tolist() == [0, 1, 0, 1]
        assert data.images.batch(torch.arange(4))[:, 2, 0, 0].tolist() == [0, 10, 20, 30]
    parts = torch.utils.data.Subset(ConcatDataset([source, source]), [1, 4])
    assert from_torchvision(parts, PREPROCESSOR).images.batch(torch.arange(2))[:, 0, 0, 0].tolist() == [10, 0]


def test_torchvision_without_targets_or_classes() -> None:
    source = FakeData(size=12, image_size=(3, 8, 8), num_classes=3)
    data = from_torchvision(source, PREPROCESSOR)
    assert data.labels.tolist() == [int(source[n][1]) for n in range(12)]
    assert not any(data.class_texts) and data.indices("all").tolist() == list(range(12))
    assert torch.equal(data.images.batch(torch.tensor([5]))[0], PILToTensor()(source[5][0]))


def test_torchvision_synonyms_are_texts(folder: Path) -> None:
    source: Any = ImageFolder(folder)
    source.classes = [("crane",), ("mug", "cup"), ("crane",)]
    data = from_torchvision(source, PREPROCESSOR)
    assert data.class_texts == (("crane",), ("mug", "cup"), ("crane",))
    assert len(set(data.class_names)) == 3 and all(data.class_texts)


def test_torchvision_with_a_transform_is_rejected(folder: Path) -> None:
    with pytest.raises(DataError, match=r"torchvision\[0\]: .*without a transform"):
        from_torchvision(ImageFolder(folder, PILToTensor()), PREPROCESSOR)


def huggingface(rows: range, **features: Any) -> Any:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Feature

    columns = {"image": Feature(), "label": ClassLabel(names=["tench", "great_auk", "mug"])}
    images = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in rows]
    return Dataset.from_dict(
        {"image": images, "label": [n % 3 for n in rows]}, features=Features(columns | features)
    )


@pytest.mark.parametrize("limit, kind", [(10, InMemory), (0, DecodedOnDemand)])
def test_huggingface_parts_are_splits(limit: int, kind: type) -> None:
    from datasets import DatasetDict

    source = DatasetDict({"train": huggingface(range(9)), "validation": huggingface(range(9, 15))})
    data = from_huggingface(source, PREPROCESSOR, memory_limit_mb=limit)
    assert isinstance(data.images, kind)
    assert data.class_names == ("tench", "great auk", "mug") and all(data.class_texts)
    assert data.indices("train").tolist() == list(range(9)) and data.indices("val").tolist() == list(
        range(9, 15)
    )
    assert data.images.batch(torch.arange(15))[:, 0, 0, 0].tolist() == list(range(15))
    assert data.labels.tolist() == [n % 3 for n in range(15)]
    assert data.fingerprint == from_huggingface(source, PREPROCESSOR).fingerprint


def test_huggingface_labels_of_text_and_numbers() -> None:
    from datasets import Value

    text = huggingface(range(4)).remove_columns("label").add_column("label", ["b", "a", "b", "c"])
    data = from_huggingface(text, PREPROCESSOR)
    assert data.class_names == ("a", "b", "c") and data.labels.tolist() == [1, 0, 1, 2]
    numbers = huggingface(range(4)).cast_column("label", Value("int64"))
    assert not any(from_huggingface(numbers, PREPROCESSOR).class_texts)


def test_names_that_differ_in_case_only_are_distinguished() -> None:
    names = ["Cat", "cat", "caf\u00e9", "cafe\u0301", "dog"]
    rows = huggingface(range(5)).remove_columns("label").add_column("label", names)
    data = from_huggingface(rows, PREPROCESSOR)
    folded = [unicodedata.normalize("NFKC", name).casefold() for name in data.class_names]
    assert len(set(folded)) == 5 and "dog" in data.class_names


def test_huggingface_sixteen_bits_are_scaled_not_clipped() -> None:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Feature

    image = Image.fromarray(np.full((8, 8), 128 * 257, np.uint16))
    features = Features({"image": Feature(), "label": ClassLabel(names=["a", "b"])})
    source = Dataset.from_dict({"image": [image], "label": [0]}, features=features)
    assert (from_huggingface(source, PREPROCESSOR).images.batch(torch.tensor([0])) == 128).all()


def test_huggingface_column_mistakes_are_reported() -> None:
    source = huggingface(range(4))
    with pytest.raises(DataError, match="no column 'photo'"):
        from_huggingface(source, PREPROCESSOR, image="photo")
    with pytest.raises(DataError, match=r"did you mean 'label'"):
        from_huggingface(source, PREPROCESSOR, label="labels")
    with pytest.raises(DataError, match=r"'label' contains .*, not images"):
        from_huggingface(source, PREPROCESSOR, image="label")


def test_huggingface_unreadable_rows_are_named_or_skipped() -> None:
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Feature

    good = {"bytes": huggingface(range(1)).cast_column("image", Feature(decode=False))[0]["image"]["bytes"]}
    rows = [good | {"path": None}, {"bytes": b"broken", "path": None}, None, good | {"path": None}]
    features = Features({"image": Feature(), "label": ClassLabel(names=["a", "b"])})
    source = Dataset.from_dict({"image": rows, "label": [0, 0, 1, 1]}, features=features)
    with pytest.raises(DataError, match=r"mine\[1\]: cannot be read"):
        from_huggingface(source, PREPROCESSOR, name="mine")
    data = from_huggingface(source, ImagePreprocessor(8, 3, on_bad_image="skip"), name="mine")
    assert data.skipped == ("mine[1]", "mine[2]") and data.labels.tolist() == [0, 1]
    assert data.indices("all").tolist() == [0, 1]


def test_a_row_without_a_label_is_named() -> None:
    source = huggingface(range(4)).remove_columns("label").add_column("label", ["b", None, "b", "c"])
    with pytest.raises(DataError, match=r"huggingface\[1\]: None is not the label"):
        from_huggingface(source, PREPROCESSOR)
