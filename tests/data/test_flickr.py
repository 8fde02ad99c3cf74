"""Flickr8k and Flickr30k in the forms in which they are handed out, and every mistake reported in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, LabeledImages, load_data
from vlfew.data.prepare import prepare

PREPROCESSOR = ImagePreprocessor(image_size=8, channels=3)
IMAGES = [f"{number}_ab.jpg" for number in range(7)]
SPLITS = {"train": IMAGES[:3], "dev": IMAGES[3:5], "test": IMAGES[5:]}


def captions(image: str) -> list[str]:
    return [f"A dog of image {image[0]} .", f"An animal, number {image[0]}"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "flickr8k" / "Flicker8k_Dataset"
    folder.mkdir(parents=True)
    for number, name in enumerate([*IMAGES, "8_in_no_split.jpg"]):
        Image.new("RGB", (10, 9), (20 * number, 0, 0)).save(folder / name)
    return folder.parent


def write_lists(root: Path) -> Path:
    folder = root / "Flickr8k_text"
    folder.mkdir()
    for split, names in SPLITS.items():
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names) + "\n")
    return folder


def write_tokens(root: Path) -> Path:
    folder = write_lists(root)
    lines = [f"{image}#{n}\t{text}" for image in IMAGES for n, text in enumerate(captions(image))]
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_karpathy(root: Path, name: str = "flickr8k") -> Path:
    split_of = {image: split for split, names in SPLITS.items() for image in names}
    listed = [
        {
            "filename": image,
            "split": {"dev": "val"}.get(split_of[image], split_of[image]),
            "sentences": [{"raw": text, "tokens": []} for text in captions(image)],
        }
        for image in IMAGES
    ]
    path = root / f"dataset_{name}.json"
    path.write_text(json.dumps({"images": listed, "dataset": name}))
    return path


def load(root: Path, name: str = "flickr8k") -> LabeledImages:
    return load_data(name, root, PREPROCESSOR)


def check_content(data: LabeledImages) -> None:
    assert {split: len(index) for split, index in data.splits.items()} == {"train": 3, "val": 2, "test": 2}
    by_file = {Path(name).name: number for number, name in enumerate(data.image_names)}
    assert sorted(by_file) == IMAGES
    for number, image in enumerate(IMAGES):
        row = by_file[image]
        assert data.class_texts[row] == tuple(captions(image))
        assert abs(int(data.images.batch(data.labels == row)[0, 0, 0, 0]) - 20 * number) <= 2  # JPEG
    assert sorted(by_file[image] for image in SPLITS["test"]) == data.splits["test"].tolist()


def test_the_authors_files_are_read_in_place(images: Path) -> None:
    write_tokens(images)
    data = load(images)
    assert data.name == "flickr8k" and data.note == ""
    check_content(data)


def test_captions_as_a_table_with_the_authors_lists(images: Path) -> None:
    folder = write_lists(images)
    rows = [f'{image},"{text}"' for image in IMAGES for text in captions(image)]
    (folder / "captions.txt").write_text("\n".join(["image,caption", *rows]) + "\n")
    check_content(load(images))


@pytest.mark.parametrize("name", ["flickr8k", "flickr30k"])
def test_the_split_of_karpathy_and_fei_fei(images: Path, name: str) -> None:
    write_karpathy(images, name)
    check_content(load(images, name))


def test_both_forms_are_the_same_data(images: Path) -> None:
    folder = write_tokens(images)
    from_lists = load(images).fingerprint
    for file in folder.iterdir():
        file.unlink()
    write_karpathy(images)
    assert load(images).fingerprint == from_lists


def test_missing_images_are_counted(images: Path) -> None:
    write_tokens(images)
    (images / "Flicker8k_Dataset" / IMAGES[0]).unlink()
    assert load(images).note == "6 of 7 images available"


def test_a_copy_is_put_in_place(images: Path, tmp_path: Path) -> None:
    write_tokens(images)
    check_content(load(prepare("flickr8k", images, tmp_path / "target")))


def test_mistakes_are_told_in_one_line(images: Path) -> None:
    def told(text: str) -> None:
        with pytest.raises(DataError) as caught:
            load(images)
        assert text in str(caught.value) and "\n" not in str(caught.value)

    told("contains neither dataset_flickr8k.json nor Flickr8k.token.txt with Flickr_8k.trainImages.txt")
    folder = write_tokens(images)
    tokens, test = folder / "Flickr8k.token.txt", folder / "Flickr_8k.testImages.txt"
    content = tokens.read_text()

    tokens.write_text(content.replace(f"{IMAGES[1]}#0\t", f"{IMAGES[1]}#0 "))
    told("Flickr8k.token.txt:3: expected image#number, a tab and a caption")
    tokens.write_text(content.replace(f"{IMAGES[6]}#", "other.jpg#"))
    told(f"{IMAGES[6]} has no caption in Flickr8k.token.txt")
    tokens.write_text(content)

    test.write_text(IMAGES[0])
    told(f"{IMAGES[0]} is already in Flickr_8k.trainImages.txt")
    test.unlink()
    told("contains Flickr8k.token.txt, but not Flickr_8k.testImages.txt, which gives the split")
    test.write_text("\n".join(SPLITS["test"]))

    (images / "copy").mkdir()
    Image.new("RGB", (4, 4)).save(images / "copy" / IMAGES[2])
    told(f"{IMAGES[2]} is there twice")
    for file in [*images.rglob("*.jpg")]:
        file.unlink()
    told("contains none of the 7 images of flickr8k")
    (images / "dataset_flickr8k.json").write_text('{"images": [{"filename": "x.jpg"}]}')
    told("not a list of images as by Karpathy and Fei-Fei")


def test_flickr30k_names_its_one_file(images: Path) -> None:
    with pytest.raises(DataError, match=r"lacks dataset_flickr30k\.json"):
        load(images, "flickr30k")
