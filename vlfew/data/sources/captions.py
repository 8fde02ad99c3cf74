"""captions: your own images with captions, one or several an image, for alignment and retrieval.

Beside the images lies `captions.csv`, or `captions.jsonl`, with `file` and `caption`, a row for each
caption, and, where the splits are given, `split`. Every image is a class of its own, whose texts are
its captions.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vlfew.core.errors import DataError, did_you_mean
from vlfew.data.class_names import unique_names
from vlfew.data.data_root import find_data
from vlfew.data.decode import is_image
from vlfew.data.image_files import DataFile, digest, list_files
from vlfew.data.image_stores import hold
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import SPLIT_NAMES, split_by_class
from vlfew.data.table_files import rows_csv, rows_jsonl

NAMES = ("captions.csv", "captions.jsonl")


def load(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """Images under `root`, at any depth, and their captions; `file` is a path below `root`.

    Without a column `split`, images are drawn into train, val and test from `preprocessor.seed`. A class is
    called by its first caption. Images without a caption are left aside and counted. The fingerprint
    covers names and sizes of the image files, the captions and the splits.

    Args:
        root: the folder; None looks where data lie.
        preprocessor: how to read the images.
        val_fraction: of the images, where no splits are given.
        test_fraction: of the images, where no splits are given.
        memory_limit_mb: larger sets (decoded, in MiB) are decoded as they are asked for.

    Raises:
        DataError: no caption file, or two; a row without `file` or `caption`, with an image that is not
            there, an empty caption, or what an earlier row has said; splits that are unknown, given for
            some images only or two for one; an image that cannot be read.
    """
    root = find_data("captions", root)
    told, aside = check(root)
    images, kept, skipped = hold([one.file for one in told], preprocessor, "reading images", memory_limit_mb)
    told = [told[number] for number in kept.tolist()]
    files = [one.file.name for one in told]
    labels = torch.arange(len(told))
    if told and told[0].split:
        named = [one.split for one in told]
        splits = {
            split: torch.tensor([n for n, own in enumerate(named) if own == split])
            for split in dict.fromkeys(SPLIT_NAMES.values())
            if split in named
        }
    else:
        splits = split_by_class(
            labels, files, val_fraction=val_fraction, test_fraction=test_fraction, seed=preprocessor.seed
        )
    texts = tuple(tuple(one.captions) for one in told)
    return LabeledImages(
        name="captions",
        images=images,
        labels=labels,
        class_names=unique_names([own[0] for own in texts], files),
        names_are_text=True,
        splits=splits,
        fingerprint=digest(
            [(one.file.name, one.file.size) for one in told],
            skipped,
            texts,
            {split: index.tolist() for split, index in splits.items()},
        ),
        class_texts=texts,
        image_names=tuple(files),
        skipped=skipped,
        note=f"images without a caption that are left aside: {aside}" if aside else "",
    )


@dataclass
class Told:
    """An image and what is said of it; `split` is "" where no splits are given."""

    file: DataFile
    split: str
    captions: list[str] = field(default_factory=list)


def check(root: Path) -> tuple[list[Told], int]:
    """Looks through a folder without decoding an image.

    Returns:
        The images that have captions, in the order of their names; how many have none.

    Raises:
        DataError: see `load`.
    """
    found = [root / name for name in NAMES if (root / name).is_file()]
    if len(found) != 1:
        what = f"both {' and '.join(NAMES)}; keep one" if found else f"neither {' nor '.join(NAMES)}"
        raise DataError(f"{root}: there is {what} (columns file and caption, a row for each caption)")
    path = found[0]
    images = {file.name: file for file in list_files(root) if is_image(file.name)}
    told: dict[str, Told] = {}
    for line, row in _rows(path):
        where = f"{path}:{line}"
        for column in ("file", "caption"):
            if column not in row:
                raise DataError(f"{where}: no {column!r}: file and caption are needed, got {', '.join(row)}")
            if not isinstance(row[column], str):
                way_out = "; give each its own row" if isinstance(row[column], list) else ""
                raise DataError(
                    f"{where}: {column!r} is {row[column]!r:.60}, and one text is wanted{way_out}"
                )
        name = posixpath.normpath(row["file"].strip())
        if name not in images:
            near = did_you_mean(name, images) if images else ""
            raise DataError(f"{where}: there is no image {row['file']!r} in {root}{near}")
        caption = row["caption"].strip()
        if not caption:
            raise DataError(f"{where}: the caption of {name} is empty; write one or remove the row")
        split = _split(row, where)
        one = told.setdefault(name, Told(images[name], split))
        if one.split != split:
            raise DataError(f"{where}: {name} is in split {split!r} here and in {one.split!r} above")
        if caption in one.captions:
            raise DataError(f"{where}: {name} has this caption already; remove one of the rows")
        one.captions.append(caption)
    if not told:
        raise DataError(f"{path}: no captions in it")
    given = {bool(one.split) for one in told.values()}
    if len(given) > 1:
        missing = next(name for name, one in told.items() if not one.split)
        raise DataError(
            f"{path}: {missing} has no split, and others have; give one to every image or to none"
        )
    return [told[name] for name in sorted(told)], len(images) - len(told)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    return rows_csv(path) if path.suffix == ".csv" else rows_jsonl(path)


def _split(row: dict[str, str], where: str) -> str:
    """The split that a row names, or ""."""
    said = row.get("split", "")
    if said == "":
        return ""
    if said not in SPLIT_NAMES:
        raise DataError(f"{where}: unknown split {said!r}{did_you_mean(str(said), SPLIT_NAMES)}")
    return SPLIT_NAMES[said]
