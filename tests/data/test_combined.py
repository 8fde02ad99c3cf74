"""Several data sets as one: the images, classes, texts and splits of all parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vlfew.core.errors import ConfigError, DataError
from vlfew.data import ImagePreprocessor, LabeledImages, load_data

PREPROCESSOR = ImagePreprocessor(image_size=8, channels=3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve captioned images, and three classes of two images for each split."""
    captioned = tmp_path / "captions"
    captioned.mkdir()
    for number in range(12):
        Image.new("RGB", (9, 9), (10 * number, 0, 0)).save(captioned / f"{number}.png")
    rows = [f"{number}.png,a thing of kind {number}" for number in range(12)]
    (captioned / "captions.csv").write_text("\n".join(["file,caption", *rows]) + "\n")
    for number, name in enumerate(["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibex"]):
        split = ("train", "val", "test")[number // 3]
        folder = tmp_path / "folder" / split / name
        folder.mkdir(parents=True)
        for image in range(2):
            Image.new("RGB", (9, 9), (0, 10 * number, 100 * image)).save(folder / f"{image}.png")
    return tmp_path


def load(root: Path | None, *sources: dict[str, Any]) -> LabeledImages:
    return load_data("combined", root, PREPROCESSOR, sources=list(sources))


def test_the_whole_has_what_its_parts_have(root: Path) -> None:
    whole = load(root, {"name": "captions"}, {"name": "folder"})
    parts = [load_data(name, root / name, PREPROCESSOR) for name in ("captions", "folder")]
    assert len(whole.images) == 12 + 18 and len(whole.class_names) == 12 + 9
    for split in ("train", "val", "test"):
        expected = []
        for part in parts:
            for number in part.indices(split).tolist():
                label = int(part.labels[number])
                image = part.images.batch(torch.tensor([number]))[0]
                expected.append((part.class_names[label], part.class_texts[label], image))
        index = whole.indices(split)
        images, labels = whole.images.batch(index), whole.labels[index].tolist()
        for row, (name, texts, image) in enumerate(expected):
            assert (whole.class_names[labels[row]], whole.class_texts[labels[row]]) == (name, texts)
            assert torch.equal(images[row], image)
        assert len(index) == len(expected)
    mixed = torch.tensor([29, 0, 13, 11, 12])
    assert torch.equal(whole.images.batch(mixed), torch.cat([whole.images.batch(n[None]) for n in mixed]))
    assert {name.partition("/")[0] for name in whole.image_names[12:]} == {"folder"}
    assert whole.images.hashes is not None and len(whole.images.hashes) == 30


def test_the_fingerprint_is_that_of_all_parts(root: Path) -> None:
    first = load(root, {"name": "captions"}, {"name": "folder"}).fingerprint
    assert load(root, {"name": "captions"}, {"name": "folder"}).fingerprint == first
    assert load(root, {"name": "folder"}, {"name": "captions"}).fingerprint != first
    Image.new("RGB", (9, 9), (1, 2, 3)).save(root / "folder" / "test" / "hen" / "more.png")
    assert load(root, {"name": "captions"}, {"name": "folder"}).fingerprint != first


def test_parts_may_lie_elsewhere_and_have_options(root: Path) -> None:
    (root / "folder").rename(root / "mine")
    given = {"name": "captions", "root": str(root / "captions"), "test_fraction": 0.25}
    data = load(None, given, {"name": "folder", "root": str(root / "mine")})
    assert len(data.indices("test")) == 3 + 6


def test_a_class_that_another_part_trains_on_is_named(root: Path) -> None:
    copy = root / "copy"
    for split, name in (("train", "gnu"), ("train", "owl"), ("val", "pig"), ("val", "rat"), ("test", "Ant")):
        (copy / split / name).mkdir(parents=True)
        Image.new("RGB", (9, 9), (7, 7, 7)).save(copy / split / name / "0.png")
    (copy / "test" / "yak").mkdir()
    Image.new("RGB", (9, 9), (9, 9, 9)).save(copy / "test" / "yak" / "0.png")
    data = load(root, {"name": "folder"}, {"name": "folder", "root": str(copy)})
    assert "another part trains on by the same name: Ant, gnu" in data.note
    assert {"ant (folder 1)", "Ant (folder 2)", "gnu (folder 1)", "gnu (folder 2)"} <= set(data.class_names)


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ([], "lists two data sets or more"),
        ([{"name": "captions"}], "lists two data sets or more"),
        ([{"name": "captions"}, {"root": "x"}], "part 2 of sources needs the name of a data source"),
        ([{"name": "captions"}, {"name": "combined"}], "part 2 of sources needs the name of a data source"),
        ([{"name": "captions"}, {"name": "folders"}], r"part 2 \(folders\): .*did you mean 'folder'"),
        (
            [{"name": "captions"}, {"name": "folder", "text": 1}],
            r"part 2 \(folder\): folder has no option 'text'",
        ),
        ([{"name": "captions"}, {"name": "folder", "root": "/none"}], r"part 2 \(folder\): .*not a folder"),
    ],
)
def test_mistakes_name_the_part(root: Path, sources: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load(root, *sources)
    assert "\n" not in str(caught.value)


def test_every_part_needs_training_images(root: Path) -> None:
    for name in ("ant", "bee", "cat"):
        for file in (root / "folder" / "train" / name).iterdir():
            file.unlink()
        (root / "folder" / "train" / name).rmdir()
    with pytest.raises((ConfigError, DataError), match="train"):
        load(root, {"name": "captions"}, {"name": "folder"})
