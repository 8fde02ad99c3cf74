"""captions: your own images, each with one or more captions, for alignment and retrieval.

The folder contains `captions.csv` or `captions.jsonl` with the columns `file`, `caption` and optionally `split`, one
row per caption. Each image is a class of its own, and its captions are the texts of the class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from vlfew.core.errors import DataError, did_you_mean
from vlfew.data.class_names import unique_names
from vlfew.data.data_root import find_data
from vlfew.data.image_files import DataFile, digest, is_image_file, list_files
from vlfew.data.image_stores import load_images
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import SPLITS, named_splits, split_by_class, split_named
from vlfew.data.table_files import FileLookup, is_missing, read_rows

NAMES = ("captions.csv", "captions.jsonl")


def load(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """Images with captions, at any depth below `root`; the column `file` is a path relative to `root`.

    Without a column `split`, images are drawn into train, val and test from `preprocessor.seed`. The first caption is
    the class name. Other files, such as images without a caption, are set aside and named.
    The fingerprint covers names and sizes of the image files, the captions and the splits.

    Args:
        root: the folder; None searches the usual places.
        preprocessor: size, channels and how to resize.
        val_fraction: fraction of the images for validation, where no splits are given.
        test_fraction: fraction of the images for testing, where no splits are given.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: no caption file, or two; a row without `file` or `caption`, with a missing image, an empty caption or
            a repeated one; splits that are unknown, incomplete or contradictory; an unreadable image.
    """
    root = find_data("captions", root)
    captioned, set_aside = check(root)
    if not captioned[0].split:
        files = [one.file.name for one in captioned]
        drawn = split_by_class(
            torch.arange(len(files)),
            files,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            seed=preprocessor.seed,
        )
        for split, index in drawn.items():
            for number in index.tolist():
                captioned[number].split = split
    return captioned_images("captions", captioned, preprocessor, memory_limit_mb, set_aside=tuple(set_aside))


@dataclass
class CaptionedImage:
    """An image and its captions; `split` is empty where no splits are given."""

    file: DataFile
    split: str
    captions: list[str] = field(default_factory=list)


def captioned_images(
    name: str,
    captioned: list[CaptionedImage],
    preprocessor: ImagePreprocessor,
    memory_limit_mb: int,
    *,
    set_aside: tuple[str, ...] = (),
    note: str = "",
) -> LabeledImages:
    """A data set of captioned images, each a class of its own with its captions as texts.

    Raises:
        DataError: an unreadable image.
    """
    images, numbers, skipped, hashes = load_images(
        [one.file for one in captioned], preprocessor, "reading images", memory_limit_mb
    )
    captioned = [captioned[number] for number in numbers.tolist()]
    files = [one.file.name for one in captioned]
    splits = named_splits([one.split for one in captioned])
    texts = tuple(tuple(one.captions) for one in captioned)
    return LabeledImages(
        name=name,
        images=images,
        labels=torch.arange(len(captioned)),
        class_names=unique_names([own[0] for own in texts], files),
        splits=splits,
        fingerprint=digest(
            files,
            hashes,
            skipped,
            texts,
            {split: index.tolist() for split, index in splits.items()},
        ),
        class_texts=texts,
        image_names=tuple(files),
        skipped=skipped,
        set_aside=set_aside,
        note=note,
    )


def check(root: Path) -> tuple[list[CaptionedImage], list[str]]:
    """List the images and captions of a folder without decoding images.

    Returns:
        The images with captions, by name, and the names of all other files.

    Raises:
        DataError: see `load`.
    """
    tables = [root / name for name in NAMES if (root / name).is_file()]
    if len(tables) != 1:
        what = f"both {' and '.join(NAMES)}; keep one" if tables else f"neither {' nor '.join(NAMES)}"
        raise DataError(f"{root}: there is {what} (columns file and caption, one row per caption)")
    path = tables[0]
    hidden_files: list[str] = []
    files = list_files(root, hidden_files)
    images = {file.name: file for file in files if is_image_file(file)}
    lookup = FileLookup(images, root)
    captioned: dict[str, CaptionedImage] = {}
    for where, row in read_rows(path, ("file", "caption")):
        name = lookup.find(row["file"])
        if name is None:
            near = did_you_mean(row["file"].strip(), images) if images else ""
            raise DataError(f"{where}: no image {row['file']!r} in {root}{near}")
        caption = row["caption"].strip()
        if is_missing(caption):
            what = f"{caption!r}, a missing value" if caption else "empty"
            raise DataError(f"{where}: the caption of {name} is {what}; write one or remove the row")
        given = "" if row.get("split") is None else str(row["split"])
        split = split_named(given)
        if given and not split:
            raise DataError(f"{where}: unknown split {given!r}{did_you_mean(given, SPLITS)}")
        one = captioned.setdefault(name, CaptionedImage(images[name], split))
        if one.split != split:
            raise DataError(f"{where}: {name} is in split {split!r} here and in {one.split!r} above")
        if caption in one.captions:
            raise DataError(f"{where}: {name} already has this caption; remove one of the rows")
        one.captions.append(caption)
    if not captioned:
        raise DataError(f"{path}: contains no captions")
    without = [name for name, one in captioned.items() if not one.split]
    if 0 < len(without) < len(captioned):
        raise DataError(
            f"{path}: {without[0]} has no split, but others have one; give a split to every image or to none"
        )
    rest = [f.name for f in files if f.name not in captioned and root / f.name != path]
    return [captioned[name] for name in sorted(captioned)], sorted(rest + hidden_files)
