"""LFW from a folder and a tar archive: views, folds, lists and mistakes in them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import real_data
from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, LabeledImages, load_data

PREPROCESSOR = ImagePreprocessor(image_size=8, channels=3)
PEOPLE = {f"Ann_{chr(65 + n // 2)}{chr(97 + n)}": 1 + n % 3 for n in range(20)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty people, two in each of ten folds; a third each have one, two and three images."""
    root = tmp_path / "lfw"
    for seed, (person, count) in enumerate(PEOPLE.items()):
        folder = root / "lfw-deepfunneled" / person
        folder.mkdir(parents=True)
        for n in range(1, count + 1):
            pixels = np.random.default_rng(100 * seed + n).integers(0, 256, (10, 10, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{person}_{n:04}.jpg")
    names = list(PEOPLE)
    lines, pairs = ["10"], ["10\t1"]
    for fold in range(10):
        in_fold = names[2 * fold : 2 * fold + 2]
        lines += ["2", *(f"{p}\t{PEOPLE[p]}" for p in in_fold)]
        one, other = sorted(in_fold, key=lambda p: -PEOPLE[p])
        pairs += [f"{one}\t1\t2" if PEOPLE[one] > 1 else f"{one}\t1\t1", f"{one}\t1\t{other}\t1"]
    (root / "people.txt").write_text("\n".join(lines) + "\n")
    (root / "pairs.txt").write_text("\n".join(pairs) + "\n")
    (root / "peopleDevTrain.txt").write_text("12\n" + "".join(f"{p}\t{PEOPLE[p]}\n" for p in names[:12]))
    (root / "peopleDevTest.txt").write_text("8\n" + "".join(f"{p}\t{PEOPLE[p]}\n" for p in names[12:]))
    (root / "pairsDevTest.txt").write_text(f"1\n{names[13]}\t1\t2\n{names[14]}\t1\t{names[15]}\t1\n")
    return root


def people(data: LabeledImages, split: str) -> set[str]:
    return {data.class_names[c].replace(" ", "_") for c in data.classes(split).tolist()}


def test_a_fold_of_view_2(root: Path) -> None:
    data = load_data("lfw", root, PREPROCESSOR, fold=10)
    names = list(PEOPLE)
    assert people(data, "test") == set(names[18:]) and people(data, "val") == set(names[:2])
    assert people(data, "train") == set(names[2:18])
    for split in ("val", "test"):
        pairs = data.pairs[split]
        assert len(pairs) == 2 and pairs.same.tolist() == [True, False]
        assert (data.labels[pairs.i] == data.labels[pairs.j]).equal(pairs.same)
        assert set(data.indices(split).tolist()) >= set(pairs.i.tolist()) | set(pairs.j.tolist())
    assert "View 2" in data.note and "20 of 5,749 people" in data.note
    assert not any(data.class_texts)


def test_all_folds_for_a_model_trained_elsewhere(root: Path) -> None:
    data = load_data("lfw", root, PREPROCESSOR, fold="all")
    assert list(data.splits) == ["test"] and len(data.indices("test")) == len(data.images)
    assert data.pairs["test"].fold.tolist() == [[n, n] for n in range(10) for _ in range(2)]


def test_the_images_of_a_pair_are_those_of_its_line(root: Path) -> None:
    data = load_data("lfw", root, PREPROCESSOR, fold="all")
    pairs = data.pairs["test"]
    lines = (root / "pairs.txt").read_text().splitlines()[1:]
    for line, i, j in zip(lines, pairs.i.tolist(), pairs.j.tolist(), strict=True):
        fields = line.split("\t")
        other = fields[0] if len(fields) == 3 else fields[2]
        assert data.image_names[i].endswith(f"/{fields[0]}_{int(fields[1]):04}.jpg")
        assert data.image_names[j].endswith(f"/{other}_{int(fields[-1]):04}.jpg")


def test_view_1_holds_out_a_fraction_of_the_training_people(root: Path) -> None:
    data = load_data("lfw", root, PREPROCESSOR, protocol="view-1", validation_fraction=0.25)
    names = list(PEOPLE)
    assert people(data, "test") == set(names[12:])
    assert people(data, "train") | people(data, "val") == set(names[:12])
    assert len(people(data, "val")) == 3 and not people(data, "val") & people(data, "train")
    assert len(data.pairs["test"]) == 2 and "val" not in data.pairs


def test_one_image_per_person_and_a_partner_image(root: Path) -> None:
    data = load_data("lfw", root, PREPROCESSOR, protocol="one-image")
    assert len(data.images) == 2 * len(PEOPLE)
    assert data.labels.bincount().tolist() == [2] * len(PEOPLE)
    parts = [people(data, s) for s in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(PEOPLE) and len(set.union(*parts)) == len(PEOPLE)
    pairs = data.pairs["test"]
    assert (data.labels[pairs.i] == data.labels[pairs.j]).equal(pairs.same)
    assert int(pairs.same.sum()) == len(parts[2]) == len(pairs) // 2
    images = data.images.batch(torch.arange(len(data.images)))
    assert all(not images[n].equal(images[n + len(PEOPLE)]) for n in range(len(PEOPLE)))
    again = load_data("lfw", root, PREPROCESSOR, protocol="one-image")
    assert again.images.batch(torch.arange(40)).equal(images) and again.fingerprint == data.fingerprint


def test_a_tar_archive_equals_the_folder(root: Path, tmp_path: Path) -> None:
    folder = load_data("lfw", root, PREPROCESSOR)
    packed = tmp_path / "packed"
    packed.mkdir()
    for path in root.glob("*.txt"):
        (packed / path.name).write_bytes(path.read_bytes())
    with tarfile.open(packed / "lfw-deepfunneled.tar", "w") as archive:
        archive.add(root / "lfw-deepfunneled", "lfw-deepfunneled")
    tar = load_data("lfw", packed, PREPROCESSOR)
    every = torch.arange(len(folder.images))
    assert tar.images.batch(every).equal(folder.images.batch(every))
    assert tar.fingerprint == folder.fingerprint


def test_the_center_crop_is_in_the_note(root: Path) -> None:
    assert "box 62..188 of 250" in load_data("lfw", root, ImagePreprocessor(8, 3, center_crop=0.504)).note


@pytest.mark.parametrize(
    "file, old, new, message",
    [
        ("pairs.txt", "\t1\t2", "\t1\t9", r"pairs\.txt:\d+: the image Ann_\w+_0009\.jpg is missing"),
        ("pairs.txt", "10\t1\n", "10\t2\n", r"pairs\.txt: 20 pairs, but the first line announces 40"),
        ("pairs.txt", "10\t1\n", "ten\n", r"pairs\.txt:1: expected the number of pairs"),
        ("pairs.txt", "\t1\t2", "\t1\t²", r"the image Ann_\w+_000²\.jpg is missing"),
        ("pairs.txt", "\t1\t2", "\t1", r"pairs\.txt:\d+: expected a person and two numbers"),
        ("pairs.txt", "\t1\t2", "\tone\t2", r"the image Ann_\w+_0one\.jpg is missing"),
        ("people.txt", "Ann_Aa\t1", "Nobody\t1", r"people\.txt:3: no image of Nobody"),
        ("people.txt", "Ann_Ab\t2", "Ann_Ab", r"people\.txt:4: expected a person and a number"),
        ("people.txt", "Ann_Bc\t3", "Ann_Aa\t1", r"people\.txt:6: Ann_Aa is in set 1 as well as in set 2"),
    ],
)
def test_mistakes_in_lists_are_reported_with_their_line(
    root: Path, file: str, old: str, new: str, message: str
) -> None:
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        load_data("lfw", root, PREPROCESSOR)


def test_missing_and_unexpected_files_are_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"neither lfw-deepfunneled/ nor lfw-deepfunneled\.tar"):
        load_data("lfw", tmp_path / "empty", PREPROCESSOR)
    (root / "pairs.txt").unlink()
    with pytest.raises(DataError, match=r"the list pairs\.txt is missing"):
        load_data("lfw", root, PREPROCESSOR)
    (root / "lfw-deepfunneled" / "Ann_Aa" / "portrait.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"Ann_Aa/portrait\.jpg .* is not like First_Last"):
        load_data("lfw", root, PREPROCESSOR)


def test_the_fingerprint_covers_the_pairs(root: Path) -> None:
    before = load_data("lfw", root, PREPROCESSOR).fingerprint
    text = (root / "pairs.txt").read_text().replace("\t1\t2\n", "\t2\t1\n")
    (root / "pairs.txt").write_text(text)
    assert load_data("lfw", root, PREPROCESSOR).fingerprint != before


def test_a_list_that_is_not_text_is_named(root: Path) -> None:
    (root / "pairs.txt").write_bytes(b"10\t1\n\xff\xfe")
    with pytest.raises(DataError, match=r"pairs\.txt:2: not UTF-8; save the file as UTF-8"):
        load_data("lfw", root, PREPROCESSOR)


def test_pairs_with_unreadable_images_are_never_skipped(root: Path) -> None:
    person = (root / "pairs.txt").read_text().splitlines()[1].split("\t")[0]
    (root / "lfw-deepfunneled" / person / f"{person}_0001.jpg").write_text("not an image")
    with pytest.raises(DataError, match=rf"pairs\.txt:2: the image {person}_0001\.jpg cannot be read"):
        load_data("lfw", root, ImagePreprocessor(8, 3, on_bad_image="skip"))


def test_the_real_lists() -> None:
    root = real_data("lfw")
    from vlfew.data.lfw_files import check, read_pairs, read_people

    lfw = check(root)
    at = {key: n for n, key in enumerate(lfw.images)}
    folds = read_people(lfw, "people.txt")
    assert len(lfw.images) == 13233 and len(lfw.people) == 5749
    assert len(folds) == 10 and sum(map(len, folds)) == 5749
    pairs = read_pairs(lfw, "pairs.txt", at, folds)
    assert len(pairs) == 6000 and pairs.fold[:, 0].equal(pairs.fold[:, 1])
    for fold in range(10):
        in_fold = pairs.fold[:, 0] == fold
        assert int(in_fold.sum()) == 600 and int(pairs.same[in_fold].sum()) == 300
    (train,), (test,) = read_people(lfw, "peopleDevTrain.txt"), read_people(lfw, "peopleDevTest.txt")
    assert (len(train), len(test)) == (4038, 1711) and not train & test
    assert len(read_pairs(lfw, "pairsDevTest.txt", at, [test])) == 1000


def test_image_restricted_has_pairs_but_no_identities(root: Path) -> None:
    unrestricted, data = (
        load_data("lfw", root, PREPROCESSOR, fold=10, training_labels=labels)
        for labels in ("unrestricted", "image-restricted")
    )
    assert data.training_labels == "image-restricted" and "View 2, image-restricted" in data.note
    assert data.fingerprint != unrestricted.fingerprint and "train" not in unrestricted.pairs
    lines = (root / "pairs.txt").read_text().splitlines()[1:]
    for split, folds in (("val", range(1)), ("train", range(1, 9))):
        pairs = data.pairs[split]
        expected = [line for fold in folds for line in lines[2 * fold : 2 * fold + 2]]
        assert len(pairs) == len(expected)
        for line, i, j, same in zip(expected, pairs.i, pairs.j, pairs.same, strict=True):
            fields = line.split("\t")
            other = fields[0] if len(fields) == 3 else fields[2]
            assert data.image_names[i].endswith(f"/{fields[0]}_{int(fields[1]):04}.jpg")
            assert data.image_names[j].endswith(f"/{other}_{int(fields[-1]):04}.jpg")
            assert same.item() == (len(fields) == 3)
        used = data.indices(split)
        assert set(used.tolist()) == {*pairs.i.tolist(), *pairs.j.tolist()}
        # Every image is its own class: no loss and no protocol can use identities.
        assert len(data.labels[used].unique()) == len(used) < len(data.labels)
    test = data.indices("test")
    assert test.equal(unrestricted.indices("test")) and data.pairs["test"].i.equal(
        unrestricted.pairs["test"].i
    )
    names = [[d.class_names[c] for c in d.labels[test].tolist()] for d in (data, unrestricted)]
    assert names[0] == names[1]
    assert len(set(data.class_names)) == len(data.class_names) == int(data.labels.max()) + 1


@pytest.mark.parametrize("options", [{"fold": "all"}, {"protocol": "view-1"}, {"protocol": "one-image"}])
def test_image_restricted_needs_view_2_and_a_fold(root: Path, options: dict) -> None:
    with pytest.raises(DataError, match="set protocol=view-2 and a fold from 1 to 10"):
        load_data("lfw", root, PREPROCESSOR, training_labels="image-restricted", **options)
