"""Conversion of torchvision and Hugging Face data sets preserves images and labels."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, random_split
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms.v2 import PILToTensor

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, InMemory, LabeledImages, load_data
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


def test_names_that_differ_in_case_only() -> None:
    """Where a list names the classes, they are distinguished; labels that were typed are one class."""
    from datasets import ClassLabel

    names = ["Cat", "cat", "caf\u00e9", "cafe\u0301", "dog"]
    rows = huggingface(range(5)).remove_columns("label").add_column("label", names)
    with pytest.raises(DataError, match="classes 'Cat' and 'cat' are the same class; merge them"):
        from_huggingface(rows.select([0, 1, 4]), PREPROCESSOR)
    with pytest.raises(DataError, match="are the same class; merge them"):
        from_huggingface(rows.select([2, 3, 4]), PREPROCESSOR)
    data = from_huggingface(rows.cast_column("label", ClassLabel(names=names)), PREPROCESSOR)
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


def shown(data: LabeledImages) -> list[tuple[int, str]]:
    """The red value and the class name of each image."""
    red = data.images.batch(torch.arange(len(data.labels)))[:, 0, 0, 0].tolist()
    return [(value, data.class_names[label]) for value, label in zip(red, data.labels.tolist(), strict=True)]


@pytest.mark.parametrize("kind", ["torch", "numpy", "arrow", "pandas", "transform"])
def test_huggingface_formats_make_no_difference(kind: str) -> None:
    plain = huggingface(range(6))
    formatted = plain.with_transform(lambda _: {"x": [1]}) if kind == "transform" else plain.with_format(kind)
    with_columns = plain if kind == "transform" else plain.with_format(kind, columns=["label"])
    expected = from_huggingface(plain, PREPROCESSOR)
    for source in (formatted, with_columns):
        data = from_huggingface(source, PREPROCESSOR)
        assert shown(data) == shown(expected) and data.fingerprint == expected.fingerprint


def labeled(labels: list[Any], kind: Any = None, **more: list[Any]) -> Any:
    """A data set of as many images; red is the row number."""
    from datasets import Dataset

    images = huggingface(range(len(labels))).remove_columns("label")
    if kind is None:
        return images.add_column("label", labels)
    import datasets

    own = Dataset.from_dict({"label": labels}, features=datasets.Features(label=kind))
    joined = datasets.concatenate_datasets([images, own], axis=1)
    for name, values in more.items():
        joined = joined.add_column(name, values)
    return joined


def one_line(call: Any, *arguments: Any, **options: Any) -> str:
    """The message of the DataError that the call raises: a single line."""
    with pytest.raises(DataError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_huggingface_labels_of_every_kind_that_can_serve() -> None:
    import pyarrow as pa
    from datasets import Dataset, Value

    for labels, kind, names in (
        ([2.0, 0.0, 2.0], Value("float32"), ("0", "2")),
        ([True, False, True], Value("bool"), ("False", "True")),
        ([-1, 5, 5], Value("int16"), ("-1", "5")),
        ([2, 0, 2], Value("uint8"), ("0", "2")),
        (["7.0", "1.0", "7.0"], Value("string"), ("1.0", "7.0")),
    ):
        data = from_huggingface(labeled(labels, kind), PREPROCESSOR)
        assert data.class_names == names and not any(data.class_texts), names
    for kind in ("string", "large_string"):
        data = from_huggingface(labeled(["mug", "cat", "mug"], Value(kind)), PREPROCESSOR)
        assert shown(data) == [(0, "mug"), (1, "cat"), (2, "mug")] and all(data.class_texts)
    encoded = Dataset(pa.table({"label": pa.array(["mug", "cat", "mug"]).dictionary_encode()}))
    both = labeled([0, 0, 0]).remove_columns("label").add_column("label", encoded["label"][:])
    assert from_huggingface(both, PREPROCESSOR).class_names == ("cat", "mug")


def test_huggingface_images_as_bytes() -> None:
    from datasets import Image as Feature
    from datasets import Value

    source = huggingface(range(3))
    encoded = [row["image"]["bytes"] for row in source.cast_column("image", Feature(decode=False))]
    for kind, values in (
        (Value("binary"), encoded),
        (Value("large_binary"), encoded),
        ({"bytes": Value("binary"), "path": Value("string")}, [{"bytes": e, "path": None} for e in encoded]),
    ):
        column = labeled(values, kind).remove_columns("image").rename_column("label", "image")
        data = from_huggingface(column.add_column("label", ["a b", "c d", "a b"]), PREPROCESSOR)
        assert shown(data) == [(0, "a b"), (1, "c d"), (2, "a b")]


def kinds_that_cannot_serve() -> dict[str, tuple[list[Any], Any, str, list[str]]]:
    """By name: labels, their type, what is said of them, and the class names that the printed way out gives."""
    from datetime import date, datetime

    from datasets import ClassLabel, List, Value

    animals = ClassLabel(names=["cat", "owl"])
    dates = [date(2020, 1, 2), date(2020, 1, 3)]
    days = ["2020 01 02", "2020 01 03"]
    times = [datetime(2020, 1, 2), datetime(2020, 1, 3)]
    return {
        "several": ([[0, 1], [1]], List(animals), "row 0 is [0, 1], several labels", ["cat", "owl"]),
        "list": ([["a b"], ["c"]], List(Value("string")), "row 0 is ['a b'], several labels", ["a b", "c"]),
        "one-hot": ([[0, 1], [1, 0]], List(Value("int8")), "row 0 is [0, 1]", ["1", "0"]),
        "one-hot floats": ([[0.0, 1.0], [1.0, 0.0]], List(Value("float32")), "row 0 is [0.0, 1", ["1", "0"]),
        "fractions": ([1.0, 0.5], Value("float32"), "row 1 is 0.5", ["1.0", "0.5"]),
        "struct": ([{"a": 1}, {"a": 2}], {"a": Value("int8")}, "row 0 is {'a': 1}", ["{'a': 1}", "{'a': 2}"]),
        "dates": (dates, Value("date32"), "row 0 is datetime.date(2020, 1, 2)", days),
        "times": (times, Value("timestamp[s]"), "row 0 is datetime.datetime", [f"{d} 00:00:00" for d in days]),
    }  # fmt: skip


@pytest.mark.parametrize("case", kinds_that_cannot_serve())
def test_huggingface_labels_that_cannot_serve_have_a_way_out_that_works(case: str, tmp_path: Path) -> None:
    labels, kind, what, names = kinds_that_cannot_serve()[case]
    for source in (labeled(labels, kind), labeled(labels, kind).with_format("numpy")):
        message = one_line(from_huggingface, source, PREPROCESSOR)
        assert (
            f"huggingface 'all': column 'label': {what}" in message and "columns that may fit" not in message
        )
        mended = run_printed(message, source)
        data = from_huggingface(mended, PREPROCESSOR, label="label_class")
        assert [name for _, name in shown(data)] == names
    # The same through a name, where the columns are found by their types.
    source.save_to_disk(tmp_path / "before")
    assert what in one_line(load_data, f"hf:{tmp_path / 'before'}", None, PREPROCESSOR)
    mended.save_to_disk(tmp_path / "after")
    data = load_data(
        f"hf:{tmp_path / 'after'}", None, PREPROCESSOR, label_column="label_class", test_fraction=0
    )
    assert [name for _, name in shown(data)] == names


def run_printed(message: str, dataset: Any) -> Any:
    """The data set that the code in a message makes of one."""
    found = re.search(r"dataset = (.*?)(?:; then dataset.save_to_disk.*)?\)$", message)
    assert found is not None, message
    return eval(found[1], {"dataset": dataset})


def test_huggingface_other_columns_are_named_where_they_can_serve() -> None:
    source = labeled([0.5, 1.5], None).add_column("breed", ["a b", "c d"]).add_column("score", [0.1, 0.2])
    message = one_line(from_huggingface, source, PREPROCESSOR)
    assert "; columns that may fit: breed (" in message and "score" not in message
    message = one_line(from_huggingface, source, PREPROCESSOR, label="image")
    assert "contains images, not labels; columns that may fit: breed (" in message


def test_huggingface_missing_labels_have_a_way_out_that_works() -> None:
    from datasets import ClassLabel, DatasetDict, Value

    nan = float("nan")
    animals = ClassLabel(names=["cat", "owl"])
    for labels, kind, what, left in (
        ([0, 1, -1, 1, None], animals, "2 of 5 rows have no label (first: row 2)", 3),
        (["a", "b", None, "b"], Value("string"), "1 of 4 rows has no label (first: row 2)", 3),
        (["a", " ", "", "b"], Value("string"), "2 of 4 rows have no label (first: row 1)", 2),
        ([nan, 1.0, None, 2.0], Value("float64"), "2 of 4 rows have no label (first: row 0)", 2),
        ([3, None, 4], Value("int64"), "1 of 3 rows has no label (first: row 1)", 2),
        ([True, None, False], Value("bool"), "1 of 3 rows has no label (first: row 1)", 2),
        ([[1], None, [0]], [Value("int64")], "1 of 3 rows has no label (first: row 1)", None),
    ):
        source = labeled(labels, kind)
        message = one_line(from_huggingface, source, PREPROCESSOR)
        assert f"huggingface 'all': column 'label': {what}" in message
        if left is not None:
            assert len(from_huggingface(run_printed(message, source), PREPROCESSOR).labels) == left
    parts = DatasetDict(train=labeled([0, 1], animals), test=labeled([-1, -1], animals))
    message = one_line(from_huggingface, parts, PREPROCESSOR)
    assert (
        "huggingface 'test': column 'label': 2 of 2 rows have no label (first: row 0); leave the part out"
        in message
    )
    del parts["test"]
    assert from_huggingface(parts, PREPROCESSOR).class_names == ("cat", "owl")
    assert "add a column of labels" in one_line(from_huggingface, labeled([nan, nan]), PREPROCESSOR)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("form", [None, "torch"])
def test_streams_are_refused_with_a_way_out_that_works(known: bool, form: str | None) -> None:
    import datasets

    stored = huggingface(range(6))
    stream = datasets.IterableDataset.from_generator(
        lambda: iter(stored), features=stored.features if known else None
    ).with_format(form)
    for source in (stream, datasets.IterableDatasetDict(train=stream)):
        message = one_line(from_huggingface, source, PREPROCESSOR)
        found = re.search(r"keep the first rows: (.*), or load it", message)
        assert found is not None and type(source).__name__ in message
        kept = eval(found[1], {"dataset": source, "datasets": datasets})
        data = from_huggingface(kept, PREPROCESSOR)
        assert [red for red, _ in shown(data)] == [*range(6)]
        assert data.class_names[0] == ("tench" if known else "0")


@pytest.mark.parametrize(
    "source", [None, 3, "someone/pets", [], {}, {"train": 3}, [1, 2], object, np.zeros(3)]
)
def test_what_is_no_data_set_of_huggingface_is_refused_in_one_line(source: Any) -> None:
    assert "huggingface: " in one_line(from_huggingface, source, PREPROCESSOR)


def test_odd_columns_and_preprocessors_are_refused_in_one_line() -> None:
    source = huggingface(range(4))
    for options in ({"image": None}, {"label": 3}, {"label": ["label"]}):
        assert "no column" in one_line(from_huggingface, source, PREPROCESSOR, **options)
    for convert in (from_huggingface, from_torchvision):
        assert "vlfew.ImagePreprocessor" in one_line(convert, source, None)
    assert "there are no rows" in one_line(from_huggingface, source.select([]), PREPROCESSOR)


def numbers_of(data: LabeledImages) -> list[tuple[int, str]]:
    """The class and number that the pixels of the folder's images have, with the name of the class."""
    pixels = data.images.batch(torch.arange(len(data.labels)))[:, :2, 0, 0].tolist()
    assert [red for red, _ in pixels] == [
        ["hot dog", "mug", "red fox"].index(name) for _, name in shown(data)
    ]
    return [(4 * red + green, name) for (red, green), (_, name) in zip(pixels, shown(data), strict=True)]


def test_subsets_and_concatenations_keep_labels_and_names(folder: Path) -> None:
    source = ImageFolder(folder)
    expected = numbers_of(from_torchvision(source, PREPROCESSOR))
    subset = Subset(source, [9, 0, 5, 5])
    nested = Subset(ConcatDataset([subset, Subset(source, range(8, 12))]), torch.tensor([0, 7, 1]))
    for part, numbers in (
        (subset, [9, 0, 5, 5]),
        (nested, [9, 11, 0]),
        (Subset(source, np.arange(3)), [0, 1, 2]),
    ):
        data = from_torchvision(part, PREPROCESSOR)
        assert numbers_of(data) == [expected[n] for n in numbers] and all(data.class_texts)
        assert len(data.class_names) == 3
    one, other = random_split(source, [8, 4])
    assert numbers_of(from_torchvision(one, PREPROCESSOR)) == [expected[n] for n in one.indices]
    splits = {"train": one, "test": other}
    data = from_torchvision(source, PREPROCESSOR, splits=splits)
    assert data.indices("test").tolist() == sorted(other.indices)
    named: Any = Subset(source, [0, 4])
    named.classes = ["frankfurter", "cup", "fox"]
    assert [name for _, name in shown(from_torchvision(named, PREPROCESSOR))] == ["frankfurter", "cup"]


def test_joined_data_sets_with_other_classes_are_matched_by_name(folder: Path, tmp_path: Path) -> None:
    for name, red in (("mug", 1), ("owl", 9)):
        (tmp_path / "more" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (red, 0, 0)).save(tmp_path / "more" / name / "0.png")
    more = ImageFolder(tmp_path / "more")
    joined = ConcatDataset([Subset(ImageFolder(folder), [0, 4, 8]), more])
    data = from_torchvision(joined, PREPROCESSOR)
    assert shown(data) == [(0, "hot dog"), (1, "mug"), (2, "red fox"), (1, "mug"), (9, "owl")]
    unnamed: Any = ConcatDataset([more, Minimal()])
    assert "some of the joined data sets have class names" in one_line(
        from_torchvision, unnamed, PREPROCESSOR
    )
    more.classes = ["mug", "mug"]
    assert "'mug' is the name of two" in one_line(from_torchvision, joined, PREPROCESSOR)


def items(labels: list[Any]) -> list[tuple[Image.Image, Any]]:
    return [(Image.new("RGB", (8, 8), (n, 0, 0)), label) for n, label in enumerate(labels)]


def test_labels_of_items() -> None:
    for labels, names in (
        ([np.float64(1), 0.0, torch.tensor(1)], ("0", "1")),
        ([np.array([4]), torch.tensor([2]), 4], ("2", "4")),
        ([True, np.bool_(False)], ("False", "True")),
    ):
        data = from_torchvision(items(labels), PREPROCESSOR)
        assert data.class_names == names and not any(data.class_texts)
    for labels, what in (
        ([0, None, float("nan")], r"2 of 3 items have no label \(first: item 1\); leave such items out"),
        ([0, "a"], "of several kinds: item 0 is 0, a number and item 1 is 'a', a text"),
        ([torch.tensor([0, 1])], r"item 0 is \[0, 1\], several labels, or none"),
        ([0, 0.5], "item 1 is 0.5, a float, not the label of one class"),
        ([{"a": 1}], "item 0 is {'a': 1}, a dict"),
    ):
        assert re.search(what, one_line(from_torchvision, items(labels), PREPROCESSOR))


def test_labels_that_are_no_class_of_the_list(folder: Path) -> None:
    source = ImageFolder(folder)
    source.targets[3] = -1
    message = one_line(from_torchvision, source, PREPROCESSOR)
    assert "1 of 12 items has no label (first: item 3)" in message and "Subset(dataset, " in message
    assert len(from_torchvision(Subset(source, [n for n in range(12) if n != 3]), PREPROCESSOR).labels) == 11
    source.targets[3] = 7
    assert r"torchvision[3]: 7 is none of the 3 classes" in one_line(from_torchvision, source, PREPROCESSOR)
    source.targets = ["mug", "red fox"] * 6
    assert from_torchvision(source, PREPROCESSOR).labels.tolist() == [1, 2] * 6
    source.classes = "mug"  # type: ignore[assignment]
    assert "classes must be a list of names" in one_line(from_torchvision, source, PREPROCESSOR)


def odd_data_sets(folder: Path) -> dict[str, tuple[Any, str]]:
    source = ImageFolder(folder)

    class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return iter(items([0, 1]))

    tensors = torch.utils.data.TensorDataset(torch.zeros(4, 3, 8, 8), torch.zeros(4))
    return {
        "generator": ((item for item in items([0, 1])), r"pass a list of them: \[\*dataset\]"),
        "stream": (Stream(), r"a Stream does not give items by number; pass a list of them: \[\*dataset\]"),
        "loader": (DataLoader(source), "got a DataLoader; pass its .dataset"),
        "class": (ImageFolder, "got the class ImageFolder; build one of it first"),
        "empty": ([], "there are no images in this list"),
        "empty subset": (Subset(source, []), "there are no images in this Subset"),
        "outside": (Subset(source, [0, 50]), "indices of a Subset do not fit its data set"),
        "floats": (Subset(source, [0.5, 1]), "indices of a Subset do not fit its data set"),  # type: ignore[list-item]
        "number": (Subset(source, 5), "without a length"),  # type: ignore[arg-type]
        "tensors": (tensors, r"torchvision\[0\]: expected a Pillow image, got Tensor; .*Image.fromarray"),
        "dict": ({"a": 1}, "expected a data set of"),
        "None": (None, "expected a data set of"),
        "text": ("pets", "expected a data set of"),
        "numbers": ([1, 2], r"torchvision\[0\]: expected \(Pillow image, label\), got 1"),
        "huggingface": (huggingface(range(2)), "vlfew.from_huggingface takes"),
    }


def test_what_is_no_data_set_of_images_is_refused_in_one_line(folder: Path) -> None:
    for source, what in odd_data_sets(folder).values():
        assert re.search(what, one_line(from_torchvision, source, PREPROCESSOR)), what
    generator = (item for item in items([0, 1]))
    assert len(from_torchvision([*generator], PREPROCESSOR).labels) == 2


def test_splits_of_every_kind_of_numbers(folder: Path) -> None:
    source = ImageFolder(folder)
    for train in ([0, 2], range(0, 3, 2), np.array([0, 2]), torch.tensor([2, 0]), (n for n in (0, 2))):
        data = from_torchvision(source, PREPROCESSOR, splits={"train": train, "test": []})
        assert data.indices("train").tolist() == [0, 2] and data.indices("test").tolist() == []
    for splits, what in (
        ({"train": [0, 12]}, "split 'train': there is no item 12; they are numbered from 0 to 11"),
        ({"train": [-1]}, "there is no item -1"),
        ({"train": [1, 1, 2]}, "item 1 is listed more than once"),
        ({"train": [0, 1], "test": np.array([1])}, r"item 1 is in 'train' and in 'test' \(1 in all\)"),
        ({"train": [0.5]}, "expected a list of item numbers"),
        ({"train": torch.tensor([0.0])}, "expected a list of item numbers"),
        *(
            ({"train": bad}, "expected a list of item numbers")
            for bad in (None, 3, "abc", {"a": 1}, [[0], [1, 2]])
        ),
        *((bad, "splits must map names to item numbers") for bad in ({}, [[0]], {0: [1]}, "abc", 3)),
    ):
        assert re.search(what, one_line(from_torchvision, source, PREPROCESSOR, splits=splits)), what


@pytest.mark.parametrize("option", ["transform", "target_transform"])
def test_transforms_are_refused(option: str, tmp_path: Path) -> None:
    from torch.utils.data import Subset
    from torchvision.datasets import ImageFolder

    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    changed = ImageFolder(tmp_path, **{option: lambda x: x})
    for dataset in (changed, Subset(changed, [0])):
        with pytest.raises(DataError, match=f"{option} would change what is compared"):
            from_torchvision(dataset, PREPROCESSOR)
    with pytest.raises(DataError, match="a mask of truth values in place of item numbers"):
        from_torchvision(Subset(ImageFolder(tmp_path), [True, False]), PREPROCESSOR)
