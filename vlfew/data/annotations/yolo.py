"""YOLO's text files: one beside each image or in `labels/`, a line for each object, as fractions of the image.

A line is `class center_x center_y width height`, or `class x1 y1 x2 y2 x3 y3 ...` for a polygon. An image without a
file is an empty page, as in YOLO.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vlfew.core.errors import DataError
from vlfew.core.plurals import counted
from vlfew.core.yaml_loader import TextLoader, yaml_problem
from vlfew.data.annotations.base import AnnotatedFile, Annotation, Annotations
from vlfew.data.image_files import DataFile
from vlfew.data.splits import split_named
from vlfew.data.table_files import read_text

CLASS_LISTS = ("classes.txt", "obj.names", "names.txt", "_darknet.labels")


def read(root: Path, files: Sequence[DataFile], images: Sequence[DataFile]) -> Annotations:
    """Reads a data set of YOLO.

    Raises:
        DataError: no names of classes; a line that is none, an unknown class, values that are no fractions; a file of
            boxes without its image.
    """
    names, table = class_names(root, files)
    texts = {file.name for file in files if file.name.lower().endswith(".txt")} - {table}
    found, used, polygons = list[AnnotatedFile](), set[str](), 0
    for image in images:
        split = next((s for step in image.name.split("/")[:-1] if (s := split_named(step))), "")
        one = AnnotatedFile(image, (1.0, 1.0), split, fractions=True)
        label_file = next((name for name in label_files(image.name) if name in texts), None)
        if label_file is not None:
            used.add(label_file)
            polygons += _read_lines(root / label_file, names, one)
        found.append(one)
    if not used:
        raise DataError(
            f"{root}: none of the {counted(len(images), 'image')} has a file of boxes, such as "
            f"{label_files(images[0].name)[0]}"
        )
    for name in sorted(texts - used):
        if "labels" in name.split("/")[:-1]:
            raise DataError(
                f"{root / name}: boxes of an image that is not there (images/ beside labels/, or in the same folder); "
                "add the image or remove the file"
            )
    without = sum(not one.objects for one in found)
    notes = [f"{counted(without, 'image')} without objects"] * bool(without)
    notes += [f"boxes of {counted(polygons, 'polygon')} made from its corners"] * bool(polygons)
    return Annotations(found, names, [], notes, used | {table})


def label_files(image: str) -> list[str]:
    """Where the boxes of an image may be: in `labels/` in place of the last `images/`, or beside it."""
    beside = f"{image.rpartition('.')[0]}.txt"
    steps = beside.split("/")
    places = [n for n, step in enumerate(steps[:-1]) if step == "images"]
    if not places:
        return [beside]
    steps[places[-1]] = "labels"
    return ["/".join(steps), beside]


def find_yaml(root: Path, files: Sequence[DataFile]) -> str:
    """Name of the YAML file that names the classes; empty if there is none."""
    tables = [f.name for f in files if "/" not in f.name and f.name.lower().endswith((".yaml", ".yml"))]
    for name in sorted(tables, key=lambda name: not name.startswith(("data.", "dataset."))):
        if isinstance(_yaml(root / name), Mapping) and "names" in _yaml(root / name):
            return name
    return ""


def class_names(root: Path, files: Sequence[DataFile]) -> tuple[list[str], str]:
    """The names of the classes by number, and the file that they are from.

    Raises:
        DataError: no such file, or no names in it.
    """
    table = find_yaml(root, files)
    if table:
        names = _yaml(root / table)["names"]
        if isinstance(names, Mapping):
            try:
                by_number = {int(key): value for key, value in names.items()}
            except (TypeError, ValueError):
                by_number = {}
            names = [by_number.get(n) for n in range(len(by_number))]
    else:
        table = next((f.name for f in files if f.name.rpartition("/")[2] in CLASS_LISTS), "")
        if not table:
            raise DataError(
                f"{root}: no names of the classes; add data.yaml with 'names: [...]', or classes.txt with one a line"
            )
        names = [line.strip() for line in read_text(root / table).splitlines() if line.strip()]
    texts = [str(name).strip() for name in names or [] if isinstance(name, str | int | float)]
    if not names or len(texts) != len(names) or not all(texts):
        raise DataError(
            f"{root / table}: names must be a list of the names of the classes, or number to name"
        )
    return texts, table


def _yaml(path: Path) -> Any:
    try:
        return yaml.load(read_text(path), Loader=TextLoader)
    except yaml.YAMLError as error:
        raise DataError(yaml_problem(path, error)) from None


def _read_lines(path: Path, names: Sequence[str], one: AnnotatedFile) -> int:
    """Reads the objects of an image; gives the number of polygons."""
    polygons = 0
    for number, line in enumerate(read_text(path).splitlines(), 1):
        where, words = f"{path}:{number}", line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words[1:]]
            label = int(float(words[0]))
        except (OverflowError, ValueError):
            raise DataError(f"{where}: not numbers: {line.strip()[:60]!r}") from None
        if not 0 <= label < len(names) or label != float(words[0]):
            raise DataError(f"{where}: unknown class {words[0]}; there are {len(names)}, numbered from 0")
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise DataError(
                f"{where}: {len(words)} values; a line is 'class center_x center_y width height', or class and the "
                "corners of a polygon"
            )
        if any(abs(value) > 2 for value in values):
            raise DataError(
                f"{where}: {max(values, key=abs):g} is no fraction of the image; YOLO's boxes are center_x, center_y, "
                "width and height from 0 to 1, not pixels"
            )
        if len(values) == 4:
            x, y, width, height = values
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        else:
            polygons += 1
            corners = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
        one.objects.append(Annotation(corners, names[label], where))
    return polygons
