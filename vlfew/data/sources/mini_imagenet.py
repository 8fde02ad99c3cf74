"""mini_imagenet: 100 classes of ImageNet with 600 images each (Vinyals et al. 2016), in the split of Ravi and
Larochelle (2017): 64 classes for training, 16 for validation, 20 for test.

The official `train.csv`, `val.csv` and `test.csv` (`filename,label`) define class and split of each image, whatever
folder it is in. An image is identified by its file name, as in the files made with these lists
(`n0153282900000005.jpg`). ImageNet's own names (`n01532829_38.JPEG`) do not identify the listed images: a data set with
such names needs lists of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vlfew.core.errors import DataError
from vlfew.data.class_names import number_classes, unique_names
from vlfew.data.data_root import find_data
from vlfew.data.image_files import DataFile, digest, list_files
from vlfew.data.image_names import is_image
from vlfew.data.image_stores import load_images
from vlfew.data.labeled_images import LabeledImages, missing_note
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import SPLITS, named_splits
from vlfew.data.table_files import read_json_mapping, read_rows
from vlfew.data.wordnet import TextSource, choose_texts, wordnet_definitions

NAMES = "class_names.json"


def load(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    texts: TextSource = "names",
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """mini-ImageNet, in the order of the CSVs; `note` says how many of its images are available.

    Images may be anywhere below the root: in `images/`, in class folders, in split folders with class folders; or, if
    there are none in folders, in zip archives with any of these layouts. `class_names.json` (WordNet number to names,
    separated by commas) gives the class names. Classes without images are omitted. The fingerprint covers names and
    sizes of the images, labels, class names and split; it is the same for folders and archives.

    Args:
        root: folder with the CSVs and the images; None searches the usual places.
        preprocessor: size, channels and how to resize.
        texts: texts of a class: its `names`, WordNet's `definitions` (names and definition in one, such as `house
            finch, linnet: small finch originally of the western United States and Mexico`), or `both`.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: anything that `check` raises, an unreadable image, or definitions of classes that WordNet does not
            have.
    """
    content = check(find_data("mini_imagenet", root))
    listed = [row for row in content.rows if row.filename in content.files]
    files = [content.files[row.filename] for row in listed]
    images, numbers, skipped, hashes = load_images(
        files, preprocessor, "reading mini_imagenet", memory_limit_mb
    )
    available = [listed[n] for n in numbers.tolist()]
    wnids, labels = number_classes([row.label for row in available])
    given = [content.names.get(wnid, (wnid,)) for wnid in wnids]
    definitions = [] if texts == "names" else wordnet_definitions(wnids, "mini_imagenet")
    names = given
    if definitions and not content.names:
        names = [tuple(text.partition(":")[0].split(", ")) for text in definitions]
    return LabeledImages(
        name="mini_imagenet",
        images=images,
        labels=labels,
        class_names=unique_names([own[0] for own in names], wnids),
        splits=named_splits([row.split for row in available]),
        # Definitions do not change the fingerprint: the images are the same data.
        fingerprint=digest(listed, hashes, skipped, given),
        class_texts=choose_texts(texts, names, definitions) if content.names or definitions else (),
        image_names=tuple(row.filename for row in available),
        images_from="ImageNet-1k",
        skipped=skipped,
        note=content.note,
    )


class Row(NamedTuple):
    """A line of a CSV."""

    filename: str
    label: str
    split: str


@dataclass(frozen=True)
class MiniImageNetFiles:
    """What the CSVs list, and which of it is available.

    Attributes:
        rows: of all three CSVs.
        files: file name to the image, for listed images only.
        names: class to its names; empty without `class_names.json`.
        note: numbers of missing and of unlisted images, if any.
    """

    rows: list[Row]
    files: dict[str, DataFile]
    names: dict[str, tuple[str, ...]]
    note: str


def check(root: Path) -> MiniImageNetFiles:
    """Read the lists and find the images, without decoding them.

    Raises:
        DataError: a CSV is missing, lacks a column, or lists an image twice or a class in two splits;
            no listed image exists, or one exists twice; `class_names.json` lacks a class.
    """
    rows = _read_lists(root)
    listed = {row.filename for row in rows}
    existing = list_files(root)
    files, others = _find_listed(root, existing, listed)
    if not files:
        archives = [root / file.name for file in existing if file.name.lower().endswith(".zip")]
        files, more = _find_listed(root, [file for a in archives for file in list_files(a)], listed)
        others += more
    if not files:
        other = f"; {others[0]}, for example, is not listed" if others else ""
        raise DataError(
            f"{root}: none of the {len(rows):,} images in the CSVs exists, in folders or zip archives{other}"
        )
    ignored = f"images ignored because no CSV lists them: {len(others):,}" if others else ""
    note = "; ".join(filter(None, [missing_note(images=(len(files), len(rows))), ignored]))
    return MiniImageNetFiles(rows, files, _read_names(root / NAMES, {row.label for row in rows}), note)


def _find_listed(
    root: Path, existing: list[DataFile], listed: set[str]
) -> tuple[dict[str, DataFile], list[str]]:
    """The listed images by file name, and the paths of unlisted ones."""
    files: dict[str, DataFile] = {}
    others: list[str] = []
    for file in existing:
        name = file.name.rpartition("/")[2]
        if name in listed:
            if files.setdefault(name, file) is not file:
                raise DataError(f"{root}: image {name} exists twice: {files[name].name} and {file.name}")
        elif is_image(name):
            others.append(file.name)
    return files, others


def _read_lists(root: Path) -> list[Row]:
    """The rows of all three CSVs."""
    rows: list[Row] = []
    first_at: dict[str, str] = {}
    split_of: dict[str, str] = {}
    for split in SPLITS:
        path = root / f"{split}.csv"
        if not path.is_file():
            raise DataError(
                f"{root}: no {path.name}; the official train.csv, val.csv and test.csv are needed"
            )
        before = len(rows)
        for at, row in read_rows(path, ("filename", "label")):
            name, label = row["filename"], row["label"]
            if not (name and label) or set(name) & {"/", "\\", "\0"}:
                raise DataError(f"{at}: {name!r} is not a plain file name with a label")
            if first_at.setdefault(name, at) != at:
                raise DataError(f"{at}: image {name} is listed twice: first at {first_at[name]}")
            if split_of.setdefault(label, split) != split:
                raise DataError(
                    f"{at}: class {label!r} is also in {split_of[label]}.csv; few-shot splits must not share "
                    "classes: use the official CSVs"
                )
            rows.append(Row(name, label, split))
        if len(rows) == before:
            raise DataError(f"{path}: lists no images")
    return rows


def _read_names(path: Path, wnids: set[str]) -> dict[str, tuple[str, ...]]:
    """Class to its names; empty if there is no such file."""
    if not path.is_file():
        return {}
    content = read_json_mapping(path)
    names = {}
    for wnid in sorted(wnids):
        given = content.get(wnid)
        if given is None:
            raise DataError(f"{path}: no names for class {wnid!r}")
        own = [" ".join(w.split()) for w in given.split(",")] if isinstance(given, str) else []
        if not all(own) or not own:
            raise DataError(f"{path}: class {wnid!r} needs names, such as 'Walker hound, Walker foxhound'")
        names[wnid] = tuple(dict.fromkeys(own))
    return names
