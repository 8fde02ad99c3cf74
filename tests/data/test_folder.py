"""The `folder` source: layouts, class names that are text or codes, and every mistake reported in one line."""

import json
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, InMemory, LabeledImages, load_data
from vlfew.data.class_names import display_name, is_code
from vlfew.data.image_stores import DecodedOnDemand
from vlfew.data.prepare import prepare
from vlfew.data.splits import split_by_class

ORL = Path(os.environ.get("VLFEW_DATA", "")) / "orl_faces.zip"
PREPROCESSOR = ImagePreprocessor(image_size=8, channels=3)
CLASSES = ("cat", "hot_dog", "red-fox", "tench", "mug", "yak")


def fill(folder: Path, count: int = 3, shade: int = 0) -> None:
    folder.mkdir(parents=True)
    for n in range(count):
        color = (shade, n, crc32(folder.name.encode()) % 256)
        Image.new("RGB", (10, 10), color).save(folder / f"{n}.png")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    for n, name in enumerate(CLASSES):
        fill(tmp_path / "flat" / name, shade=n)
    return tmp_path / "flat"


@pytest.fixture
def split(tmp_path: Path) -> Path:
    for n, name in enumerate(
        ("train/a cat", "train/a dog", "train/a fox", "train/a yak", "val/a mug", "test/a pen", "test/a cup")
    ):
        fill(tmp_path / "split" / name, shade=n)
    return tmp_path / "split"


def load(root: Path, preprocessor: ImagePreprocessor = PREPROCESSOR, **options: Any) -> LabeledImages:
    return load_data("folder", root, preprocessor, **options)


def fails_with(root: Path, message: str, **options: Any) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(root, **options)
    assert "\n" not in str(caught.value)


def names(data: LabeledImages, part: str) -> set[str]:
    return {data.class_names[c] for c in data.classes(part).tolist()}


def test_class_folders_are_split_by_class(flat: Path) -> None:
    data = load(flat)
    assert data.class_names == ("cat", "hot dog", "mug", "red fox", "tench", "yak") and all(data.class_texts)
    assert set(data.splits) == {"train", "val", "test"} and len(data.images) == 18
    assert [len(names(data, s)) for s in ("train", "val", "test")] == [2, 2, 2]
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        data.check_disjoint_classes(a, b)
    for label in range(6):  # every image has the label of its folder
        folder = {"hot dog": "hot_dog", "red fox": "red-fox"}.get(
            data.class_names[label], data.class_names[label]
        )
        shades = data.images.batch((data.labels == label).nonzero().flatten())[:, 0, 0, 0]
        assert shades.tolist() == [CLASSES.index(folder)] * 3


def test_split_folders_are_used_as_given(split: Path) -> None:
    data = load(split)
    assert names(data, "train") == {"a cat", "a dog", "a fox", "a yak"}
    assert names(data, "val") == {"a mug"} and names(data, "test") == {"a cup", "a pen"}
    assert data.note == ""


def test_without_val_some_training_classes_are_held_out(split: Path, tmp_path: Path) -> None:
    (split / "val").rename(tmp_path / "removed")
    data = load(split)
    assert len(names(data, "val")) == 2 and len(names(data, "train")) == 2 and "held out" in data.note
    message = "there is no val folder, and of the classes in train: 0 of the 4 .* by val_fraction=0.99:"
    fails_with(split, message, val_fraction=0.99)
    assert set(load(split, val_fraction=0).splits) == {"train", "test"}
    (split / "train" / "a yak").rename(tmp_path / "a yak")
    data = load(split)
    assert set(data.splits) == {"train", "test"} and len(names(data, "train")) == 3
    assert "3 training classes are too few to hold some out" in data.note
    (split / "train" / "a fox").rename(tmp_path / "a fox")
    (split / "train" / "a dog").rename(tmp_path / "a dog")
    fails_with(split, r"1 class \(a cat\): nothing to distinguish it from")


def test_validation_has_alternative_names(split: Path) -> None:
    (split / "val").rename(split / "validation")
    assert names(load(split), "val") == {"a mug"}


def test_other_files_are_set_aside_and_named(flat: Path) -> None:
    (flat / "cat" / "notes.txt").write_text("x")
    (flat / "cat" / ".hidden.png").write_text("x")
    (flat / "__MACOSX").mkdir()
    (flat / "loose.png").write_bytes(b"")
    (flat / "cat" / "README").write_text("x")
    (flat / "cat" / "0.png").rename(flat / "cat" / "without_suffix")
    data = load(flat)
    assert len(data.images) == 18 and "cat/without_suffix" in data.image_names
    assert data.set_aside == ("cat/.hidden.png", "cat/README", "cat/notes.txt", "loose.png")
    assert list(data.notes) == ["4 files set aside: cat/.hidden.png, cat/README, cat/notes.txt, loose.png"]


def test_images_may_be_in_subfolders_with_uppercase_suffixes(flat: Path) -> None:
    fill(flat / "cat" / "kittens", 2)
    (flat / "cat" / "0.png").rename(flat / "cat" / "0.PNG")
    data = load(flat)
    assert (data.labels == 0).sum() == 5


def test_links_to_folders_are_followed_once(flat: Path, tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere" / "pen")
    (flat / "pen").symlink_to(tmp_path / "elsewhere" / "pen")
    (flat / "cat" / "loop").symlink_to(flat / "cat")
    data = load(flat)
    assert "pen" in data.class_names and len(data.images) == 21


def test_large_data_sets_are_decoded_on_demand(flat: Path) -> None:
    small, large = load(flat), load(flat, memory_limit_mb=0)
    assert isinstance(small.images, InMemory) and isinstance(large.images, DecodedOnDemand)
    assert torch.equal(large.images.batch(torch.arange(18)), small.images.tensor)
    assert small.fingerprint == large.fingerprint


def test_the_fingerprint_covers_the_content_not_the_location_or_preprocessing(
    flat: Path, tmp_path: Path
) -> None:
    first = load(flat).fingerprint
    moved = flat.rename(tmp_path / "moved")
    assert load(moved, ImagePreprocessor(image_size=9, channels=1)).fingerprint == first
    assert load(moved, ImagePreprocessor(image_size=8, channels=3, seed=1)).fingerprint != first
    (moved / "cat" / "2.png").unlink()
    assert load(moved).fingerprint != first


@pytest.mark.parametrize(
    "names", [("s1", "s2", "s17"), ("n01532829", "n01558993", "n02099601"), ("1", "2", "3")]
)
def test_codes_are_not_text(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        fill(tmp_path / "codes" / "test" / name)
    data = load(tmp_path / "codes")
    assert not any(data.class_texts) and set(data.class_names) == set(names)


def test_a_single_code_is_a_class_without_text(flat: Path) -> None:
    fill(flat / "class_7")
    data = load(flat)
    texts = dict(zip(data.class_names, data.class_texts, strict=True))
    assert texts.pop("class_7") == () and all(texts.values())
    assert list(data.notes) == [
        "1 of 7 classes without text, since the name looks like a code: class_7 (classes.yaml can give it one)"
    ]
    (flat / "classes.yaml").write_text("class_7: the seventh")
    described = load(flat)
    assert all(described.class_texts) and not described.notes


@pytest.mark.parametrize(
    "code", ["s17", "n01532829", "character03", "42", "class_7", "Person-3", "id9", "abc_12"]
)
def test_names_recognized_as_codes(code: str) -> None:
    assert is_code(code) and display_name(code) == code


@pytest.mark.parametrize(
    "name, displayed", [("hot_dog", "hot dog"), ("boeing-747", "boeing 747"), ("é", "é"), ("_", "_")]
)
def test_names_recognized_as_text(name: str, displayed: str) -> None:
    assert not is_code(name) and display_name(name) == displayed


def test_classes_yaml_gives_texts(tmp_path: Path) -> None:
    root = tmp_path / "wordnet"
    for name in ("n01532829", "n01558993", "n02099601"):
        fill(root / "test" / name)
    (root / "classes.yaml").write_text(
        "n01532829: house finch\nn01558993: [robin, redbreast]\nn02099601: no\n", encoding="utf-8"
    )
    data = load(root)
    assert all(data.class_texts) and data.class_names == ("house finch", "robin", "no")
    assert data.class_texts == (("house finch",), ("robin", "redbreast"), ("no",))
    assert data.note == ""


def test_classes_with_the_same_text_have_distinct_names(flat: Path) -> None:
    (flat / "classes.yaml").write_text("cat: crane\nmug: crane\n")
    data = load(flat)
    assert {"crane (cat)", "crane (mug)"} < set(data.class_names)
    assert data.class_texts[0] == ("crane",)


@pytest.mark.parametrize(
    "content, message",
    [
        ("catt: a cat", r"classes\.yaml: no class folder 'catt'; did you mean 'cat'\?"),
        ("cat: []", "'cat' needs a text or a list of texts"),
        ("cat: {a: b}", "'cat' needs a text or a list of texts"),
        ("cat: ' '", "'cat' needs a text or a list of texts"),
        ("- cat", "expected lines like"),
        ('cat: "a\0b"', r"classes\.yaml: not YAML"),
        ("../cat: a cat", r"no class folder '\.\./cat'; did you mean 'cat'"),
        ("cat: a\ncat: b", r"classes\.yaml:2: the key 'cat' is repeated"),
        ("cat: a\nmug: [", r"classes\.yaml:2: not YAML|classes\.yaml:3: not YAML"),
        (b"cat: \xff\xfe", "UTF-8"),
    ],
)
def test_mistakes_in_classes_yaml_are_reported(flat: Path, content: str | bytes, message: str) -> None:
    (flat / "classes.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    fails_with(flat, message)


def test_captions_are_texts_of_the_class(split: Path) -> None:
    (split / "metadata.csv").write_text(
        "\ufefffile_name,text\ntrain/a cat/0.png,a tabby on a sofa\n"
        'train/a cat/1.png,"a cat, asleep"\ntrain/a dog/0.png,\n',
        encoding="utf-8",
    )
    data = load(split)
    texts = dict(zip(data.class_names, data.class_texts, strict=True))
    assert texts["a cat"] == ("a cat", "a tabby on a sofa", "a cat, asleep")
    assert texts["a dog"] == ("a dog",)
    assert data.note == "1 row of the metadata without a caption: train/a dog/0.png"


@pytest.mark.parametrize("layout", ["flat", "split", "no val"])
def test_captions_of_held_out_classes_are_ignored(
    flat: Path, split: Path, tmp_path: Path, layout: str
) -> None:
    root = flat if layout == "flat" else split
    if layout == "no val":
        (split / "val").rename(tmp_path / "removed")
    images = sorted(p.relative_to(root) for p in root.rglob("0.png"))
    lines = [json.dumps({"file_name": p.as_posix(), "text": f"caption: {p.parent.name}"}) for p in images]
    (root / "metadata.jsonl").write_text("\n".join(lines))
    data = load(root)
    trained = set(data.classes("train").tolist())
    for number, texts in enumerate(data.class_texts):
        assert any(t.startswith("caption: ") for t in texts) is (number in trained)
    held_out = [name for number, name in enumerate(data.class_names) if number not in trained]
    ignored = re.search(r"captions of (\d+) class(es)? outside training ignored: (.*)", data.note)
    assert ignored and int(ignored[1]) == len(held_out)
    assert {re.sub("[_-]", " ", name) for name in ignored[3].split(", ")} == set(held_out)


def test_captions_do_not_turn_codes_into_text(tmp_path: Path) -> None:
    root = tmp_path / "codes"
    places = ("train/s1", "train/s2", "val/s3", "test/s4")
    for place in places:
        fill(root / place)
    lines = [json.dumps({"file_name": f"{p}/0.png", "text": f"a drawing of {p[-2:]}"}) for p in places]
    (root / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    assert load(root).class_texts == (("a drawing of s1",), ("a drawing of s2",), (), ())
    (root / "classes.yaml").write_text("".join(f"{p[-2:]}: face {p[-2:]}\n" for p in places))
    data = load(root)
    assert all(data.class_texts)
    assert data.class_texts == (
        ("face s1", "a drawing of s1"), ("face s2", "a drawing of s2"), ("face s3",), ("face s4",)
    )  # fmt: skip


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("metadata.csv", "file_name,text\ncat/0.png,a\ncat/9.png,b\n", r"metadata\.csv:3: .*'cat/9\.png'"),
        (
            "metadata.csv",
            "file_name,text\n../flat/cat/0.png,a\n",
            r"metadata\.csv:2: no image '\.\./",
        ),
        ("metadata.csv", "file_name,text\n/etc/passwd,a\n", r"metadata\.csv:2: no image '/etc"),
        ("metadata.csv", "file,text\ncat/0.png,a\n", r"metadata\.csv:2: no 'file_name'.*file, text"),
        ("metadata.csv", "file_name,caption\ncat/0.png,a\n", r"no 'text'.*caption"),
        ("metadata.csv", "file_name,text\ncat/0.png\n", r"metadata\.csv:2: no 'text'"),
        (
            "metadata.jsonl",
            '{"file_name": "cat/0.png", "text": "a"}\n{oops\n',
            r"metadata\.jsonl:2: not JSON",
        ),
        ("metadata.jsonl", "[1]\n", r"metadata\.jsonl:1: expected an object"),
        ("metadata.jsonl", '{"file_name": "dog.png", "text": "a"}\n', r"metadata\.jsonl:1: .*'dog\.png'"),
    ],
)
def test_mistakes_in_metadata_are_reported(flat: Path, name: str, content: str, message: str) -> None:
    (flat / name).write_text(content)
    fails_with(flat, message)


def test_a_folder_without_images_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fails_with(tmp_path / "empty", "no images in folders named after their classes")
    Image.new("L", (8, 8)).save(tmp_path / "empty" / "loose.png")
    fails_with(tmp_path / "empty", "no images in folders")


def test_an_empty_class_is_named(flat: Path, split: Path) -> None:
    (flat / "zebra").mkdir()
    fails_with(flat, "no images of class 'zebra'")
    (split / "val" / "zebra").mkdir()
    fails_with(split, "no images of class 'zebra'")


@pytest.mark.parametrize(
    ("classes", "sizes", "missing"),
    [
        (2, {"train": 2}, "val and test"),
        (3, {"train": 3}, "val and test"),
        (4, {"train": 2, "test": 2}, "val"),
        (5, {"train": 3, "test": 2}, "val"),
        (6, {"train": 2, "val": 2, "test": 2}, ""),
    ],
)
def test_few_classes_are_split_as_far_as_possible(
    tmp_path: Path, classes: int, sizes: dict[str, int], missing: str
) -> None:
    for name in ("cat", "dog", "owl", "pen", "yak", "zebra")[:classes]:
        fill(tmp_path / "few" / name)
    data = load(tmp_path / "few")
    assert {split: len(names(data, split)) for split in data.splits} == sizes
    assert bool(data.note) == bool(missing)
    assert not missing or f"{classes} classes are too few to hold some out for {missing} (6 are" in data.note


def test_a_single_class_is_rejected(tmp_path: Path) -> None:
    fill(tmp_path / "one" / "cat")
    fails_with(tmp_path / "one", r"1 class \(cat\): nothing to distinguish it from; add another")


@pytest.mark.parametrize("twin", ["a cat", "A_Cat", "Ａ cat"])
def test_a_class_in_two_splits_is_named(split: Path, twin: str) -> None:
    fill(split / "test" / twin)
    fails_with(split, r"is in both '(train|test)' and '(train|test)'|are the same class; .* one name")


@pytest.mark.parametrize(
    "one, other",
    [("Hot-Dog", "hot_dog"), ("caf\u00e9", "cafe\u0301"), ("ﬁsh", "fish"), ("Straße", "STRASSE"), ("①", "1")],
)
def test_two_folders_of_the_same_class_are_rejected(flat: Path, one: str, other: str) -> None:
    for name in (one, other):
        if not (flat / name).exists():
            fill(flat / name)
    fails_with(flat, f"folders '({one}|{other})' and '({one}|{other})' are the same class")


def test_texts_that_differ_in_case_only_have_distinct_names(flat: Path) -> None:
    (flat / "classes.yaml").write_text("cat: Crane\nmug: crane\n")
    assert {"Crane (cat)", "crane (mug)"} < set(load(flat).class_names)


def test_split_folders_next_to_classes_are_rejected(split: Path) -> None:
    fill(split / "zebra")
    fails_with(split, "split folder 'test' is next to 'zebra'")


@pytest.mark.skipif(not ORL.is_file(), reason="no orl_faces.zip under VLFEW_DATA")
def test_the_names_of_att_faces_are_codes(tmp_path: Path) -> None:
    data = load(prepare("folder", ORL, tmp_path / "faces"))
    assert len(data.class_names) == 40 and len(data.images) == 400 and not any(data.class_texts)
    assert data.images.batch(torch.arange(400)).float().std() > 20


def test_an_empty_split_folder_is_rejected(split: Path) -> None:
    (split / "valid").mkdir()
    fails_with(split, "valid: contains no class folders")


def test_a_class_may_be_named_train(flat: Path) -> None:
    fill(flat / "train")
    assert "train" in load(flat).class_names


def test_unreadable_images_are_named_or_skipped(flat: Path) -> None:
    (flat / "cat" / "1.png").write_bytes((flat / "cat" / "1.png").read_bytes()[:40])
    fails_with(flat, r"cat/1\.png: cannot be read")
    skip = ImagePreprocessor(image_size=8, channels=3, on_bad_image="skip")
    for limit in (100, 0):
        data = load(flat, skip, memory_limit_mb=limit)
        assert data.skipped == ("cat/1.png",) and len(data.images) == len(data.labels) == 17
        assert data.images.batch((data.labels == 0).nonzero().flatten())[:, 1, 0, 0].tolist() == [0, 2]
    for n in (0, 2):
        (flat / "cat" / f"{n}.png").write_bytes(b"")
    with pytest.raises(DataError, match="no image of class 'cat'"):
        load(flat, skip)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_an_image_without_read_permission_is_named_or_skipped(flat: Path) -> None:
    (flat / "cat" / "1.png").chmod(0o000)
    fails_with(flat, r"cat/1\.png: cannot be read: Permission denied")
    data = load(flat, ImagePreprocessor(image_size=8, channels=3, on_bad_image="skip"))
    assert data.skipped == ("cat/1.png",) and len(data.images) == 17


@pytest.mark.parametrize(
    "content", [b"", b"just text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\0\x10JFIF\0", b"<svg/>"]
)
def test_a_file_without_an_image_is_named_or_skipped(flat: Path, content: bytes) -> None:
    (flat / "cat" / "x.jpg").write_bytes(content)
    fails_with(flat, r"cat/x\.jpg: cannot be read: \S+.*on_bad_image=skip, or vlfew data show --skip-bad")
    data = load(flat, ImagePreprocessor(image_size=8, channels=3, on_bad_image="skip"))
    assert data.skipped == ("cat/x.jpg",) and len(data.images) == 18


@pytest.mark.parametrize("fractions", [(-0.1, 0.2), (0.5, 0.5), (-1, 0.5), (0.7, 0.05)])
def test_invalid_fractions_are_rejected(flat: Path, fractions: tuple[float, float]) -> None:
    fails_with(flat, "val_fraction=", val_fraction=fractions[0], test_fraction=fractions[1])


def test_a_fraction_of_zero_omits_the_split(flat: Path) -> None:
    assert set(load(flat, val_fraction=0).splits) == {"train", "test"}
    data = load(flat, val_fraction=0, test_fraction=0)
    assert set(data.splits) == {"train"} and len(names(data, "train")) == 6 and data.note == ""


@given(
    labels=st.lists(st.integers(0, 11), max_size=40),
    val=st.floats(0.01, 0.4),
    test=st.floats(0.01, 0.4),
    seed=st.integers(0, 5),
)
def test_splits_by_class_are_disjoint_complete_and_depend_on_the_seed(
    labels: list[int], val: float, test: float, seed: int
) -> None:
    names, labels = [f"class {n}" for n in range(12)], [*range(12), *labels]
    tensor = torch.tensor(labels)
    splits = split_by_class(tensor, names, val_fraction=val, test_fraction=test, seed=seed)
    splits_of_class = defaultdict(set)
    for split_name, index in splits.items():
        for n in index.tolist():
            splits_of_class[labels[n]].add(split_name)
    assert all(len(s) == 1 for s in splits_of_class.values())
    assert sorted(n for index in splits.values() for n in index.tolist()) == list(range(len(labels)))
    assert all(len({labels[n] for n in index.tolist()}) >= 2 for index in splits.values())
    again = split_by_class(tensor, names, val_fraction=val, test_fraction=test, seed=seed)
    assert all(torch.equal(splits[s], again[s]) for s in splits)
