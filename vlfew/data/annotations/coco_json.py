"""COCO's JSON: `images`, `annotations` with boxes `[x, y, width, height]`, and `categories`.

A crowd (`iscrowd: 1`, its segmentation in run lengths) is a region, no object: nothing is trained on it and detections
in it are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vlfew.core.errors import DataError
from vlfew.core.plurals import counted, first_names
from vlfew.data.annotations.base import (
    AnnotatedFile,
    Annotation,
    Annotations,
    BoxFormat,
    Corners,
    ImageFinder,
    raise_bad_box,
    split_in,
)
from vlfew.data.crops import image_size
from vlfew.data.image_files import DataFile
from vlfew.data.table_files import read_json_mapping

PARTS = ("images", "annotations", "categories")
OTHER_TASKS = ("captions_", "person_keypoints_", "stuff_", "panoptic_", "image_info_")
"""Beginnings of the names of COCO's own files of other tasks, which stand beside `instances_train2017.json`."""


def read(
    root: Path, images: Sequence[DataFile], tables: Sequence[str], box_format: BoxFormat, skip: bool
) -> Annotations:
    """Reads all JSON files of one data set.

    Args:
        root: folder of the data.
        images: its image files.
        tables: names of the JSON files, relative to the folder.
        box_format: how boxes are written; `auto` is COCO's, and raises where it cannot be.
        skip: annotations without a box, instead of raising them.

    Raises:
        DataError: not such a JSON; an unknown category or image, an annotation without a box, boxes of another format,
            an image in two splits.
    """
    finder, files, missing, notes = ImageFinder(images), dict[str, AnnotatedFile](), list[str](), list[str]()
    names: list[str] = []
    for table in tables:
        reader = _Reader(root / table, table.rpartition("/")[0], split_of(table), box_format, skip)
        for one in reader.files(finder, missing):
            other = files.setdefault(one.file.name, one)
            if other is not one:
                raise DataError(
                    f"{root / table}: {one.file.name} is listed twice, in split {other.split or 'none'!r} and in "
                    f"{one.split or 'none'!r}; an image is in one split"
                )
        names += [name for name in reader.categories.values() if name not in names]
        notes += reader.notes
    return Annotations(list(files.values()), names, missing, notes, set(tables))


def find_tables(files: Sequence[DataFile]) -> list[str]:
    """Names of the JSON files that may be annotations: in the folder, or one below."""
    tables = [f.name for f in files if f.name.lower().endswith(".json") and f.name.count("/") <= 1]
    instances = [name for name in tables if not name.rpartition("/")[2].startswith(OTHER_TASKS)]
    return instances or tables


def split_of(table: str) -> str:
    """The split that the name of an annotation file means, or of its folder; empty for none.

    `instances_train2017.json`, `valid.json`, `test/_annotations.coco.json`.
    """
    folder, _, name = table.rpartition("/")
    return split_in(name.rpartition(".")[0]) or split_in(folder.rpartition("/")[2])


class _Reader:
    def __init__(self, path: Path, folder: str, split: str, box_format: BoxFormat, skip: bool) -> None:
        self.folder = folder
        self.path, self.split, self.box_format, self.skip = path, split, box_format, skip
        content = read_json_mapping(path)
        if lacking := [part for part in PARTS if not isinstance(content.get(part), list)]:
            raise DataError(
                f"{path}: no list of {' and '.join(lacking)}, which COCO's JSON has; name the file of the "
                "annotations with data.annotations"
            )
        self.images, self.annotations = content["images"], content["annotations"]
        self.categories: dict[Any, str] = {}
        for number, category in enumerate(content["categories"]):
            name = self._field(category, "name", f"categories[{number}]")
            if not isinstance(name, str) or not name.strip():
                raise DataError(f"{path}: categories[{number}] needs a name, got {name!r}")
            self.categories[self._field(category, "id", f"categories[{number}]")] = name.strip()
        if len(self.categories) < len(content["categories"]):
            raise DataError(f"{path}: two categories have one id; give each its own")
        self.left_out: list[str] = []
        self.from_segmentation = 0

    def _field(self, entry: Any, name: str, what: str) -> Any:
        if not isinstance(entry, Mapping) or name not in entry:
            raise DataError(f"{self.path}: {what} has no {name!r}")
        value = entry[name]
        if name.endswith("id") and not isinstance(value, int | str):
            raise DataError(f"{self.path}: {what} has {name!r} {value!r:.40}, and a number is needed")
        return value

    @property
    def notes(self) -> list[str]:
        """What was done to annotations without a box."""
        notes = []
        if self.from_segmentation:
            notes.append(
                f"boxes of {counted(self.from_segmentation, 'annotation')} made from the segmentation"
            )
        if self.left_out:
            notes.append(
                f"{counted(len(self.left_out), 'annotation')} without a box left out: {first_names(self.left_out, 3)}"
            )
        return notes

    def files(self, finder: ImageFinder, missing: list[str]) -> Iterator[AnnotatedFile]:
        """The images with their objects; `missing` receives the names of those that are not there."""
        found: dict[Any, AnnotatedFile | None] = {}
        for number, image in enumerate(self.images):
            what = f"images[{number}]"
            key, written = self._field(image, "id", what), self._field(image, "file_name", what)
            if key in found:
                raise DataError(f"{self.path}: two images have the id {key!r}; give each its own")
            file = finder.find(str(written), self.folder, self.split, f"{self.path}: {what}")
            if file is None:
                missing.append(str(written))
            size = (image.get("width"), image.get("height"))
            known = all(isinstance(side, int | float) and side > 0 for side in size)
            found[key] = None if file is None else AnnotatedFile(file, size if known else None, self.split)
        written_boxes = [self._box(n, entry, found) for n, entry in enumerate(self.annotations)]
        as_corners = self._as_corners([box for box in written_boxes if box is not None])
        for box in filter(None, written_boxes):
            one, values, label, where, crowd, exact = box
            if one is None:
                continue
            x, y, third, fourth = values
            corners = (x, y, third, fourth) if exact or as_corners else (x, y, x + third, y + fourth)
            one.objects.append(Annotation(corners, label, where, crowd))
        yield from (one for one in found.values() if one is not None)

    def _box(
        self, number: int, entry: Any, found: Mapping[Any, AnnotatedFile | None]
    ) -> tuple[AnnotatedFile | None, Corners, str, str, bool, bool] | None:
        """An annotation: its image, four numbers as written, class, place, crowd, and whether they are corners."""
        what = f"annotations[{number}]"
        where = f"{self.path}: {what}"
        image, category = (self._field(entry, name, what) for name in ("image_id", "category_id"))
        if image not in found:
            raise DataError(f"{where} is of image_id {image!r}, and no image has that id")
        if category not in self.categories:
            known = first_names([f"{key} ({name})" for key, name in self.categories.items()], 4) or "none"
            raise DataError(f"{where} has the unknown category_id {category!r}; there are {known}")
        label, crowd = self.categories[category], bool(entry.get("iscrowd", 0))
        box = entry.get("bbox")
        if box in (None, []):
            corners = self._from_segmentation(entry.get("segmentation"), where)
            return None if corners is None else (found[image], corners, label, where, crowd, True)
        if not _is_box(box):
            raise DataError(f"{where} has the bbox {box!r:.60}, and four numbers are needed")
        return found[image], tuple(map(float, box)), label, where, crowd, False  # type: ignore[return-value]

    def _from_segmentation(self, segmentation: Any, where: str) -> Corners | None:
        """The box around polygons or run lengths; None where there is neither, and such annotations are skipped."""
        if isinstance(segmentation, list) and segmentation and all(map(_is_polygon, segmentation)):
            x = [float(value) for polygon in segmentation for value in polygon[::2]]
            y = [float(value) for polygon in segmentation for value in polygon[1::2]]
            self.from_segmentation += 1
            return min(x), min(y), max(x), max(y)
        if isinstance(segmentation, Mapping) and {"counts", "size"} <= set(segmentation):
            if find_spec("faster_coco_eval") is None:
                raise DataError(
                    f"{where} has a segmentation in run lengths and no bbox; reading it needs faster-coco-eval "
                    "(pip install 'vlfew[detection]')"
                )
            self.from_segmentation += 1
            return _run_length_box(segmentation, where)
        if not self.skip:
            raise_bad_box(f"{where} has neither a bbox nor a segmentation")
        self.left_out.append(where.rpartition(": ")[2])
        return None

    def _as_corners(
        self, boxes: Sequence[tuple[AnnotatedFile | None, Corners, str, str, bool, bool]]
    ) -> bool:
        """Whether boxes are written as corners.

        Raises:
            DataError: they are of the other format: values are impossible.
        """
        written = []
        for one, values, _, where, _, exact in boxes:
            if one is not None and not exact:
                size = one.size or image_size(one.file)
                if size is not None:
                    written.append((values, size, where, one.file.name))
        not_corners = [w for w in written if w[0][2] <= w[0][0] or w[0][3] <= w[0][1]]
        beyond = [w for w in written if w[0][0] + w[0][2] > w[1][0] + 1 or w[0][1] + w[0][3] > w[1][1] + 1]
        outside = [w for w in written if w[0][2] > w[1][0] + 1 or w[0][3] > w[1][1] + 1]
        if self.box_format == "xyxy":
            # A box without area is a bad box and no sign of a format.
            wrong = [w for w in not_corners if w[0][2] < w[0][0] or w[0][3] < w[0][1]]
            if wrong:
                raise DataError(
                    f"{wrong[0][2]}: bbox {list(wrong[0][0])} cannot be corners x1, y1, x2, y2 "
                    f"({len(wrong):,} of {len(written):,} cannot); leave out data.box_format=xyxy"
                )
            return True
        if self.box_format == "auto" and beyond and not not_corners and not outside:
            (values, size, where, name) = beyond[0]
            raise DataError(
                f"{where}: bbox {list(values)} as x, y, width, height reaches beyond {name} of "
                f"{size[0]:g}x{size[1]:g} pixels ({len(beyond):,} of {len(written):,} do), and all fit as corners x1, "
                "y1, x2, y2: set data.box_format=xyxy (or xywh, to clip them)"
            )
        return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_polygon(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 6 and len(value) % 2 == 0 and all(map(_is_number, value))


def _run_length_box(segmentation: Mapping[str, Any], where: str) -> Corners:
    """The box around a segmentation in run lengths, as lists or compressed."""
    from faster_coco_eval.core import mask

    try:
        height, width = map(int, segmentation["size"])
        counts = segmentation["counts"]
        rle = (
            mask.frPyObjects(dict(segmentation), height, width) if isinstance(counts, list) else segmentation
        )
        x, y, w, h = map(float, mask.toBbox(rle))
    except Exception as error:
        raise DataError(f"{where}: the segmentation cannot be read: {error}") from None
    return x, y, x + w, y + h
