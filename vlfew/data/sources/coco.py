"""coco: your own images with boxes, as COCO's JSON, YOLO's text files or VOC's XML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from vlfew.core.errors import DataError
from vlfew.core.plurals import counted, first_names
from vlfew.data.annotated import AnnotatedImages, object_images, whole_images
from vlfew.data.annotations import coco_json, voc, yolo
from vlfew.data.annotations.base import AnnotatedFile, Annotations, BoxCheck, BoxFormat, check_size
from vlfew.data.boxes import Boxes
from vlfew.data.class_names import check_distinct_names, display_name, is_code, unique_names
from vlfew.data.crops import image_size
from vlfew.data.data_root import find_data
from vlfew.data.file_hashes import hash_files
from vlfew.data.image_files import DataFile, is_image_file, list_files
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import draw_names, named_splits
from vlfew.data.threads import map_in_threads

Format = Literal["auto", "coco", "yolo", "voc"]


def load(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    format: Format = "auto",
    annotations: str | None = None,
    box_format: BoxFormat = "auto",
    on_bad_box: Literal["error", "skip"] = "error",
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2,
    crops: bool = False,
    crop_margin: Annotated[float, Field(ge=0)] = 0.1,
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """Images with boxes, in any folders below `root`.

    Splits are those of the annotations: `instances_train2017.json`, `valid/_annotations.coco.json`, YOLO's folders,
    VOC's `ImageSets/Main`; with `train` but no `val`, and without any, images are drawn from `preprocessor.seed`. A box
    that reaches beyond its image is clipped, and `note` names the image. An annotated image that is missing is an
    error; with `preprocessor.on_bad_image: skip` it is left out and named.

    Args:
        root: the folder; None searches the usual places.
        preprocessor: size, channels and how to resize; boxes follow.
        format: of the annotations; `auto` takes the one that there is.
        annotations: name of the one JSON file to read, relative to the folder.
        box_format: how COCO's boxes are written; `auto` is x, y, width, height, and stops where corners are meant.
        on_bad_box: `skip` leaves out, and counts, boxes without area, outside their image, or missing; `error` stops.
        val_fraction: fraction of the images for validation, where it is not given.
        test_fraction: fraction of the images for testing, where no splits are given.
        crops: an image of each object, with a label, in place of the images with boxes.
        crop_margin: around the box of a crop on each side, as a fraction of its longer side.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: no annotations; an annotation of a missing image or an unknown class; a box in the wrong format,
            without area or outside its image; sizes that do not fit the image; an unreadable image.
    """
    root = find_data("coco", root, prepared=False)
    hidden_files: list[str] = []
    files = list_files(root, hidden_files)
    images = [file for file in files if is_image_file(file)]
    if not images:
        raise DataError(f"{root}: no images")
    found = _read(root, files, images, format, annotations, box_format, on_bad_box == "skip")
    missing, notes = found.missing, [*found.notes]
    if missing and preprocessor.on_bad_image == "error":
        raise DataError(
            f"{root}: {counted(len(missing), 'annotated image')} not there: {first_names(missing)}; add them, or "
            "leave them out with data.on_bad_image=skip (vlfew data show --skip-bad)"
        )
    if missing:
        notes.append(f"{counted(len(missing), 'annotated image')} missing: {first_names(missing)}")
    annotated = sorted(found.files, key=lambda one: one.file.name)
    if not annotated:
        raise DataError(f"{root}: no annotated images")
    sizes = list(map_in_threads(lambda one: image_size(one.file), annotated))
    check = BoxCheck(skip=on_bad_box == "skip")
    boxes = _boxes(annotated, sizes, found.class_names, check, root)
    if not len(boxes.objects):
        raise DataError(f"{root}: {counted(len(annotated), 'image')}, but not one box")
    check_distinct_names(found.class_names, str(root))
    texts = [() if is_code(name) else (display_name(name),) for name in found.class_names]
    data_files = [one.file for one in annotated]
    read = {file.name for file in data_files} | found.read
    splits = _splits(annotated, val_fraction, test_fraction, preprocessor.seed, notes)
    annotated_images = AnnotatedImages(
        name="coco",
        images=data_files,
        image_names=[file.name for file in data_files],
        sizes=sizes,
        boxes=boxes,
        class_names=unique_names([*map(display_name, found.class_names)], found.class_names),
        class_texts=tuple(texts),
        splits=named_splits(splits),
        hashes=hash_files(data_files),
        notes=[*notes, *check.notes],
        set_aside=sorted({*(file.name for file in files), *hidden_files} - read),
    )
    if crops:
        return object_images(annotated_images, preprocessor, memory_limit_mb, crop_margin)
    return whole_images(annotated_images, preprocessor, memory_limit_mb)


def _read(
    root: Path,
    files: Sequence[DataFile],
    images: Sequence[DataFile],
    format: Format,
    annotations: str | None,
    box_format: BoxFormat,
    skip: bool,
) -> Annotations:
    """The annotations of a folder, of the format that is given or found."""
    tables = coco_json.find_tables(files) if annotations is None else [annotations]
    if annotations is not None and annotations not in {file.name for file in files}:
        raise DataError(f"{root / annotations}: there is no such file (data.annotations)")
    has = {
        "coco": bool(tables),
        "voc": any(file.name.lower().endswith(".xml") for file in files),
        "yolo": any(file.name.lower().endswith(".txt") for file in files),
    }
    if format == "auto":
        formats = [name for name, there in has.items() if there]
        if not formats:
            raise DataError(
                f"{root}: no annotations: neither a JSON as COCO's, nor XML files as VOC's, nor text files as YOLO's; "
                "images of one class each are read by the source folder"
            )
        format = formats[0]  # type: ignore[assignment]
    elif not has[format]:
        raise DataError(f"{root}: no annotations of the format {format} (data.format)")
    if box_format != "auto" and format != "coco":
        raise DataError(f"data.box_format is of COCO's JSON, and {root} has annotations of {format.upper()}")
    if format == "coco":
        return coco_json.read(root, images, tables, box_format, skip)
    return voc.read(root, files, images) if format == "voc" else yolo.read(root, files, images)


def _boxes(
    annotated: Sequence[AnnotatedFile],
    sizes: Sequence[tuple[int, int] | None],
    class_names: Sequence[str],
    check: BoxCheck,
    root: Path,
) -> Boxes:
    """The boxes of all images, as fractions of them."""
    number = {name: n for n, name in enumerate(class_names)}
    corners, labels, image, ignored = [], [], [], []
    for n, (one, actual) in enumerate(zip(annotated, sizes, strict=True)):
        if actual is not None and one.objects:
            check_size(one, actual, str(root))
        size = one.size or actual
        if size is None:  # an unreadable image, which is named when it is read
            continue
        for annotation in one.objects:
            box = check.fractions(annotation, one.file.name, *size)
            if box is not None:
                corners.append(box)
                labels.append(number[annotation.label])
                image.append(n)
                ignored.append(annotation.ignored)
    return Boxes(
        torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(image, dtype=torch.int64),
        len(annotated),
        torch.tensor(ignored, dtype=torch.bool),
    )


def _splits(
    annotated: Sequence[AnnotatedFile], val_fraction: float, test_fraction: float, seed: int, notes: list[str]
) -> list[str]:
    """The split of each image: as given, or drawn by a hash of its name."""
    given = [one.split for one in annotated]
    if len(set(given)) > 1 and "" in given:
        lost = [one.file.name for one in annotated if not one.split]
        raise DataError(
            f"{counted(len(lost), 'image')} in no split, while others are in one: {first_names(lost)}; name the "
            "annotation files after their splits, or name one file with data.annotations"
        )
    names = [one.file.name for one in annotated]
    wanted = {"test": test_fraction, "val": val_fraction}
    if "train" in given:
        wanted = {} if "val" in given or len(names) < 10 else {"val": val_fraction}
    elif given[0]:
        return given
    split_of = {name: split or "train" for name, split in zip(names, given, strict=True)}
    for split, fraction in wanted.items():
        rest = [name for name in names if split_of[name] == "train"]
        drawn = draw_names(rest, round(fraction * len(names)), seed, split)
        split_of |= dict.fromkeys(drawn, split)
        if drawn and given[0]:
            notes.append(f"no val split: {counted(len(drawn), 'training image')} held out for validation")
    return [split_of[name] for name in names]
