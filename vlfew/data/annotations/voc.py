"""Pascal VOC's XML: one file for each image, with corners in pixels that count from 1.

Objects marked `difficult` count neither for nor against a detector, as in VOC.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from vlfew.core.errors import DataError
from vlfew.data.annotations.base import AnnotatedFile, Annotation, Annotations, ImageFinder
from vlfew.data.image_files import DataFile
from vlfew.data.splits import SPLITS, split_named
from vlfew.data.table_files import read_text


def read(root: Path, files: Sequence[DataFile], images: Sequence[DataFile]) -> Annotations:
    """Reads a data set of VOC; splits are those of `ImageSets/Main`, or folders named after them.

    Raises:
        DataError: not such an XML, an object without a name or a box.
    """
    finder, missing, found = ImageFinder(images), list[str](), dict[str, AnnotatedFile]()
    split_of, lists = _image_sets(root, files)
    tables = [file.name for file in files if file.name.lower().endswith(".xml")]
    names: set[str] = set()
    for table in tables:
        folder, _, name = table.rpartition("/")
        stem = name.rpartition(".")[0]
        split = split_of.get(stem) or next((s for step in folder.split("/") if (s := split_named(step))), "")
        if split_of and stem not in split_of:
            continue
        tree = _parse(root / table)
        written = (tree.findtext("filename") or "").strip()
        file = (
            finder.find(f"{folder}/{written}" if folder else written, folder, split, str(root / table))
            if written
            else None
        )
        if file is None:  # the name inside is often that of the file before it was renamed
            file = next((f for f in images if _stem(f.name) == stem), None)
        if file is None:
            missing.append(written or stem)
            continue
        sides = [tree.findtext(f"size/{side}") for side in ("width", "height")]
        size = tuple(float(side) for side in sides if side and _is_number(side) and float(side) > 0)
        one = AnnotatedFile(file, size if len(size) == 2 else None, split)
        if file.name in found:
            raise DataError(f"{root / table}: {file.name} has another file of boxes; keep one")
        found[file.name] = one
        for number, entry in enumerate(tree.iter("object")):
            one.objects.append(_object(entry, f"{root / table}: object {number + 1}"))
            names.add(one.objects[-1].label)
    return Annotations(list(found.values()), sorted(names), missing, [], {*tables, *lists})


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(path: Path) -> ElementTree.Element:
    try:
        tree = ElementTree.fromstring(read_text(path))
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: not XML: {error}") from None
    if tree.tag != "annotation":
        raise DataError(f"{path}: expected an <annotation>, as VOC has it, got <{tree.tag}>")
    return tree


def _object(entry: ElementTree.Element, where: str) -> Annotation:
    label = (entry.findtext("name") or "").strip()
    if not label:
        raise DataError(f"{where} has no <name>")
    corners = [entry.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    if not all(text and _is_number(text) for text in corners):
        raise DataError(f"{where} ({label}) has no <bndbox> with numbers xmin, ymin, xmax and ymax")
    left, top, right, bottom = (float(text) for text in corners if text)
    # Pixels count from 1, and the last one is inside.
    box = (left - 1, top - 1, right, bottom) if right > left and bottom > top else (left, top, right, bottom)
    return Annotation(box, label, where, (entry.findtext("difficult") or "0").strip() == "1")


def _image_sets(root: Path, files: Sequence[DataFile]) -> tuple[dict[str, str], list[str]]:
    """Name of an image without its suffix to its split, and the names of the lists."""
    split_of: dict[str, str] = {}
    lists = [
        f.name for f in files if f.name.endswith(tuple(f"ImageSets/Main/{split}.txt" for split in SPLITS))
    ]
    for name in lists:
        for line in read_text(root / name).splitlines():
            if words := line.split():
                split_of[words[0]] = _stem(name)
    return split_of, lists
