"""Images with boxes as people have them: COCO's JSON, YOLO's text files, VOC's XML, and what can be wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor, LabeledImages, load_data
from vlfew.data.annotations.coco_json import split_of
from vlfew.data.annotations.yolo import label_files

WIDE = (60, 40)
"""Width and height of the images."""


def image(path: Path, size: tuple[int, int] = WIDE, shade: int = 200, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 100, len(path.name))).save(path, **options)


def annotation(image_id: int, category: int, bbox: Any, **more: Any) -> dict[str, Any]:
    return {"id": 7, "image_id": image_id, "category_id": category, "bbox": bbox, **more}


def write(root: Path, annotations: list[dict[str, Any]], name: str = "boxes.json", images: int = 3) -> Path:
    """Images 0.png to 2.png, of 60x40 pixels, with boxes of cats (5) and dogs (9)."""
    for n in range(images):
        image(root / f"{n}.png", shade=10 * n)
    listed = [{"id": 10 + n, "file_name": f"{n}.png", "width": 60, "height": 40} for n in range(images)]
    categories = [{"id": 5, "name": "cat"}, {"id": 9, "name": "guide_dog"}]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))
    return root


GOOD = [
    annotation(10, 5, [6, 4, 12, 8]),
    annotation(10, 9, [30, 20, 30, 20]),
    annotation(12, 9, [0, 0, 3, 4]),
]


def load(root: Path, size: int = 32, **options: Any) -> LabeledImages:
    framing = {key: options.pop(key) for key in ("resize", "on_bad_image", "seed") if key in options}
    options = {"val_fraction": 0, "test_fraction": 0} | options
    return load_data("coco", root, ImagePreprocessor(size, 3, **framing), **options)


def pixels(data: LabeledImages, image: int = 0) -> list[list[float]]:
    """The boxes of an image in pixels of a 60x40 image."""
    assert data.boxes is not None
    rows = data.boxes.rows(image)
    return (data.boxes.xyxy[rows] * torch.tensor([60, 40, 60, 40])).tolist()


def test_coco_boxes_become_fractions_with_their_classes(tmp_path: Path) -> None:
    data = load(write(tmp_path, GOOD))
    assert data.boxes is not None
    assert pixels(data) == [pytest.approx([6, 4, 18, 12]), pytest.approx([30, 20, 60, 40])]
    assert data.boxes.labels.tolist() == [0, 1, 1] and data.boxes.per_image.tolist() == [2, 0, 1]
    assert data.class_names == ("cat", "guide dog") and data.image_names == ("0.png", "1.png", "2.png")
    assert data.split_by == "class" and data.class_texts == (("cat",), ("guide dog",))


def test_padding_moves_boxes_with_the_image(tmp_path: Path) -> None:
    data = load(write(tmp_path, GOOD), size=60, resize="pad")
    assert data.boxes is not None
    # The image of 60x40 pixels stands between borders of 10 pixels.
    assert (data.boxes.xyxy[0] * 60).tolist() == pytest.approx([6, 14, 18, 22])


def test_what_is_cropped_away_is_counted(tmp_path: Path) -> None:
    data = load(write(tmp_path, GOOD), size=40, resize="crop")
    assert data.boxes is not None
    # Ten pixels are cropped on the left and on the right; the third box is in them.
    assert (data.boxes.xyxy * 40).tolist() == [pytest.approx([0, 4, 8, 12]), pytest.approx([20, 20, 40, 40])]
    assert "1 object cropped away" in data.note and "resize=pad" in data.note


def test_boxes_of_a_scaled_copy_fit_and_a_turned_image_is_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    image(tmp_path / "0.png", (120, 80))
    assert pixels(load(tmp_path))[0] == pytest.approx([6, 4, 18, 12])
    image(tmp_path / "0.png", (40, 60))
    with pytest.raises(DataError, match=r"60x40 pixels, and 0\.png has 40x60; it seems to be turned"):
        load(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    image(tmp_path / "0.png", (40, 60), exif=exif)  # shown as 60x40
    assert pixels(load(tmp_path))[0] == pytest.approx([6, 4, 18, 12])


def test_crowds_are_ignored_whatever_their_segmentation(tmp_path: Path) -> None:
    crowd = annotation(12, 5, [0, 0, 30, 30], iscrowd=1, segmentation={"counts": [0, 9], "size": [40, 60]})
    data = load(write(tmp_path, [*GOOD, crowd]))
    assert data.boxes is not None and data.boxes.ignored is not None
    assert data.boxes.ignored.tolist() == [False, False, False, True]
    assert len(load(tmp_path, crops=True).images) == 3


def test_a_box_is_made_from_polygons_and_from_run_lengths(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval")
    polygon = annotation(10, 5, None, segmentation=[[6, 4, 18, 4, 12, 12], [7, 5, 8, 5, 8, 6]])
    counts = [4 * 40 + 10, 5, 35, 5, 40 * 60 - 4 * 40 - 55]  # columns 4 and 5, rows 10 to 14
    lengths = annotation(11, 5, [], segmentation={"counts": counts, "size": [40, 60]})
    data = load(write(tmp_path, [polygon, lengths]))
    assert pixels(data) == [pytest.approx([6, 4, 18, 12])]
    assert pixels(data, 1) == [pytest.approx([4, 10, 6, 15])]
    assert "boxes of 2 annotations made from the segmentation" in data.note


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (annotation(99, 5, [1, 1, 2, 2]), r"annotations\[3\] is of image_id 99, and no image has that id"),
        (
            annotation(10, 6, [1, 1, 2, 2]),
            r"unknown category_id 6; there are 5 \(cat\), 9 \(guide_dog\)$",
        ),
        (annotation(10, 5, [1, 1, 0, 2]), r"a box without area \(data\.on_bad_box=skip"),
        (annotation(10, 5, [70, 1, 5, 2]), r"outside 0\.png of 60x40 pixels \(data\.on_bad_box=skip"),
        (annotation(10, 5, [1, 1, 2]), r"bbox \[1, 1, 2\], and four numbers are needed"),
        (annotation(10, 5, [1, "2", 3, 4]), "four numbers are needed"),
        (annotation(10, 5, None), r"neither a bbox nor a segmentation \(data\.on_bad_box=skip"),
        ({"image_id": 10, "bbox": [1, 1, 2, 2]}, r"annotations\[3\] has no 'category_id'"),
        (annotation([1], 5, [1, 1, 2, 2]), r"'image_id' \[1\], and a number is needed"),  # type: ignore[arg-type]
    ],
)
def test_bad_annotations_are_named_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(write(tmp_path, [*GOOD, change]))
    assert "boxes.json" in str(caught.value) and "\n" not in str(caught.value)


def test_bad_boxes_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    bad = [annotation(10, 5, box) for box in ([1, 1, 0, 2], [70, 1, 5, 2], None)]
    data = load(write(tmp_path, [*GOOD, *bad]), on_bad_box="skip")
    assert data.boxes is not None and len(data.boxes) == 3
    assert "2 boxes left out" in data.note and "1 annotation without a box left out" in data.note


def test_a_box_that_reaches_beyond_its_image_is_clipped_and_named(tmp_path: Path) -> None:
    data = load(write(tmp_path, [*GOOD, annotation(11, 5, [50, -3, 30, 20])]))
    assert pixels(data, 1) == [pytest.approx([50, 0, 60, 17])]
    assert data.note == "1 box clipped to the image: 1.png"
    rounded = load(write(tmp_path, [*GOOD, annotation(11, 5, [50, -0.4, 10.6, 20])]))
    assert rounded.note == ""


def test_corners_in_place_of_width_and_height_are_recognized(tmp_path: Path) -> None:
    corners = [annotation(10, 5, [6, 4, 18, 12]), annotation(11, 9, [30, 20, 60, 40])]
    write(tmp_path, corners)
    with pytest.raises(DataError, match=r"1 of 2 do.*set data\.box_format=xyxy"):
        load(tmp_path)
    data = load(tmp_path, box_format="xyxy")
    assert pixels(data) == [pytest.approx([6, 4, 18, 12])]
    assert load(tmp_path, box_format="xywh").note == "1 box clipped to the image: 1.png"
    with pytest.raises(DataError, match=r"cannot be corners.*leave out data\.box_format=xyxy"):
        load(write(tmp_path, [*GOOD, annotation(11, 5, [30, 20, 20, 10])]), box_format="xyxy")


def test_a_missing_image_is_an_error_or_left_out(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    (tmp_path / "0.png").unlink()
    with pytest.raises(DataError, match=r"1 annotated image not there: 0\.png; .*data\.on_bad_image=skip"):
        load(tmp_path)
    data = load(tmp_path, on_bad_image="skip")
    assert data.image_names == ("1.png", "2.png") and "1 annotated image missing: 0.png" in data.note


def test_an_unreadable_image_is_skipped_with_its_boxes(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0\.png: cannot be read"):
        load(tmp_path)
    data = load(tmp_path, on_bad_image="skip")
    assert data.skipped == ("0.png",) and pixels(data, 1) == [pytest.approx([0, 0, 3, 4])]
    assert data.indices("train").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": []}', "no list of annotations and categories"),
        ("[1, 2]", "expected a JSON object"),
        ("{", "not JSON"),
        (json.dumps({"images": [{"id": 1}], "annotations": [], "categories": []}), "no 'file_name'"),
    ],
)
def test_what_is_no_coco_json_is_named(tmp_path: Path, content: str, message: str) -> None:
    write(tmp_path, GOOD)
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert "boxes.json" in str(caught.value)


def test_no_annotations_and_no_boxes_are_errors(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"no annotations: .*read by the source folder"):
        load(tmp_path)
    with pytest.raises(DataError, match="3 images, but not one box"):
        load(write(tmp_path, []))
    with pytest.raises(DataError, match=r"other\.json: there is no such file \(data\.annotations\)"):
        load(tmp_path, annotations="other.json")


@pytest.mark.parametrize(
    ("table", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("annotations/instances_val2017.json", "val"),
        ("valid/_annotations.coco.json", "val"),
        ("test.json", "test"),
        ("boxes.json", ""),
        ("contest.json", ""),
    ],
)
def test_splits_by_the_names_of_the_files(table: str, split: str) -> None:
    assert split_of(table) == split


def test_splits_are_those_of_the_files_where_images_have_the_same_names(tmp_path: Path) -> None:
    for split, category in (("train", 5), ("valid", 9), ("test", 9)):
        write(tmp_path / split, [annotation(10, category, [1, 1, 9, 9])], "_annotations.coco.json", images=1)
    data = load(tmp_path)
    assert {split: len(index) for split, index in data.splits.items()} == {"train": 1, "val": 1, "test": 1}
    assert data.split_by == "image" and data.classes("val").tolist() == [1]
    assert data.image_names == ("test/0.png", "train/0.png", "valid/0.png")


def test_images_of_the_same_name_are_told_apart_by_the_folder_of_their_split(tmp_path: Path) -> None:
    for split, folder in (("train", "train2017"), ("val", "images/valid")):
        write(tmp_path / "x", [annotation(10, 5, [1, 1, 9, 9])], images=1)
        image(tmp_path / folder / "0.png", shade=len(folder))
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "x" / "boxes.json").rename(tmp_path / "annotations" / f"instances_{split}2017.json")
    (tmp_path / "x" / "0.png").unlink()
    data = load(tmp_path)
    assert data.image_names == ("images/valid/0.png", "train2017/0.png")
    assert {split: index.tolist() for split, index in data.splits.items()} == {"train": [1], "val": [0]}
    image(tmp_path / "other" / "train" / "0.png")
    with pytest.raises(
        DataError, match=r"'0\.png' may be other/train/0\.png, train2017/0\.png; write the path"
    ):
        load(tmp_path)


def test_images_are_drawn_into_splits_where_none_are_given(tmp_path: Path) -> None:
    write(tmp_path, [annotation(10 + n, 5, [1, 1, 9, 9]) for n in range(20)], images=20)
    sizes = {s: len(i) for s, i in load(tmp_path, val_fraction=0.1, test_fraction=0.2).splits.items()}
    assert sizes == {"train": 14, "val": 2, "test": 4}
    one, other = (load(tmp_path, test_fraction=0.2, seed=seed) for seed in (0, 1))
    assert one.indices("test").tolist() != other.indices("test").tolist()


def test_crops_are_squares_with_labels(tmp_path: Path) -> None:
    data = load(write(tmp_path, GOOD), crops=True, crop_margin=0)
    assert data.boxes is None and data.labels.tolist() == [0, 1, 1]
    assert data.images.shape == (3, 32, 32) and data.image_names == ("0.png 0", "0.png 1", "2.png 0")


def yolo(root: Path, lines: str = "0 0.2 0.2 0.2 0.2\n1 0.75 0.75 0.5 0.5\n") -> Path:
    for split in ("train", "valid"):
        for name in ("a", "b"):
            image(root / "images" / split / f"{name}.jpg")
        (root / "labels" / split).mkdir(parents=True)
        (root / "labels" / split / "a.txt").write_text(lines)
    (root / "data.yaml").write_text("names: {0: cat, 1: guide_dog}\ntrain: images/train\n")
    return root


def test_yolo_folders(tmp_path: Path) -> None:
    data = load(yolo(tmp_path))
    assert pixels(data) == [pytest.approx([6, 4, 18, 12]), pytest.approx([30, 20, 60, 40])]
    assert data.class_names == ("cat", "guide dog") and "2 images without objects" in data.note
    assert {split: len(index) for split, index in data.splits.items()} == {"train": 2, "val": 2}
    assert data.set_aside == ()


def test_where_yolo_has_the_boxes_of_an_image() -> None:
    assert label_files("train/images/a.b.jpg") == ["train/labels/a.b.txt", "train/images/a.b.txt"]
    assert label_files("a.jpg") == ["a.txt"]


def test_a_polygon_of_yolo_becomes_a_box(tmp_path: Path) -> None:
    data = load(yolo(tmp_path, "0 0.1 0.1 0.3 0.1 0.2 0.3\n"))
    assert pixels(data) == [pytest.approx([6, 4, 18, 12])] and "2 polygons" in data.note


def without_names(root: Path) -> None:
    (root / "data.yaml").unlink()


def without_image(root: Path) -> None:
    (root / "images" / "train" / "a.jpg").unlink()


@pytest.mark.parametrize(
    ("lines", "change", "message"),
    [
        ("2 0.2 0.2 0.2 0.2", None, r"a\.txt:1: unknown class 2; there are 2"),
        ("0 20 20 12 8", None, r"a\.txt:1: 20 is no fraction"),
        ("0 0.2 0.2 0.2", None, r"a\.txt:1: 4 values"),
        ("0 a b c d", None, r"a\.txt:1: not numbers"),
        ("inf 0.2 0.2 0.2 0.2", None, r"a\.txt:1: not numbers"),
        ("0 nan 0.2 0.2 0.2", None, r"a\.txt:1: .* not a number"),
        ("0 0.2 0.2 0 0.2", None, r"a\.txt:1: .* a box without area"),
        ("0 0.2 0.2 0.2 0.2", without_names, "no names of the classes"),
        ("0 0.2 0.2 0.2 0.2", without_image, r"labels/train/a\.txt: boxes of an image that is not there"),
    ],
)
def test_what_is_wrong_with_files_of_yolo(
    tmp_path: Path, lines: str, change: Callable[[Path], None] | None, message: str
) -> None:
    yolo(tmp_path, f"{lines}\n")
    if change is not None:
        change(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


VOC = (
    "<annotation><filename>{name}</filename><size><width>60</width><height>40</height></size>"
    "<object><name>cat</name><difficult>{difficult}</difficult><bndbox>"
    "<xmin>7</xmin><ymin>5</ymin><xmax>{right}</xmax><ymax>12</ymax></bndbox></object></annotation>"
)


def voc(root: Path, name: str = "{stem}.jpg", right: str = "18") -> Path:
    for stem in ("a", "b", "c"):
        image(root / "JPEGImages" / f"{stem}.jpg")
        (root / "Annotations").mkdir(exist_ok=True)
        text = VOC.format(name=name.format(stem=stem), difficult=int(stem == "b"), right=right)
        (root / "Annotations" / f"{stem}.xml").write_text(text)
    return root


def test_voc_folders(tmp_path: Path) -> None:
    data = load(voc(tmp_path))
    assert data.boxes is not None and data.boxes.ignored is not None
    assert pixels(data) == [pytest.approx([6, 4, 18, 12])]  # pixels count from 1, and the last one is inside
    assert data.boxes.ignored.tolist() == [False, True, False] and data.class_names == ("cat",)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\nb 1\n")
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("c\n")
    assert {s: i.tolist() for s, i in load(tmp_path).splits.items()} == {"train": [0, 1], "test": [2]}


def test_a_renamed_image_of_voc_is_found_by_the_name_of_its_file(tmp_path: Path) -> None:
    assert len(load(voc(tmp_path, name="old-{stem}.jpg")).images) == 3


@pytest.mark.parametrize(
    ("right", "message"),
    [("x", r"a\.xml: object 1 \(cat\) has no <bndbox> with numbers"), ("7", "a box without area")],
)
def test_what_is_wrong_with_files_of_voc(tmp_path: Path, right: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(voc(tmp_path, right=right))
    (tmp_path / "Annotations" / "a.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"a\.xml: not XML"):
        load(tmp_path)


def test_a_format_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no annotations of the format coco \(data\.format\)"):
        load(voc(tmp_path), format="coco")
    with pytest.raises(DataError, match=r"data\.box_format is of COCO's JSON"):
        load(tmp_path, box_format="xyxy")
