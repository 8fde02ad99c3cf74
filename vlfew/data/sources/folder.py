"""folder: your own images, one folder per class, optionally inside `train`, `val` and `test`.

The texts of a class are its folder name and its entry in `classes.yaml` (folder name: text, or a list of texts).
Captions (`metadata.csv` or `metadata.jsonl` with `file_name` and `text`, as in a Hugging Face image folder) are further
texts of training classes. Captions of other classes are ignored: otherwise zero-shot would use descriptions of the test
images themselves.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import torch
import yaml

from vlfew.core.errors import DataError, did_you_mean
from vlfew.core.plurals import counted, first_names
from vlfew.core.yaml_loader import TextLoader, yaml_problem
from vlfew.data.class_names import (
    NameLookup,
    check_distinct_names,
    display_name,
    is_code,
    number_classes,
    unique_names,
)
from vlfew.data.data_root import find_data
from vlfew.data.image_files import DataFile, digest, hidden, is_image_file, list_files
from vlfew.data.image_names import IMAGE_SUFFIXES, is_image
from vlfew.data.image_stores import load_images
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import SPLITS, named_splits, split_by_class, split_named, too_few_note
from vlfew.data.table_files import FileLookup, is_missing, read_rows, read_text

METADATA = ("metadata.csv", "metadata.jsonl")


def load(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    val_fraction: float = 0.15,
    test_fraction: float = 0.2,
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """Your own images, in `root/class/` or in `root/{train,val,test}/class/`, at any depth below the class.

    Split folders may be called as people call them (`Train`, `training_set`, `valid`, `dev` ...); a folder around all
    of it is looked through. Where the classes of all splits are those of the training split, the data are split by
    image: their support comes from the training split (`vlfew evaluate few-shot RUN --support-split train`).

    Without split folders, classes are drawn into train, val and test from `preprocessor.seed`; with `train` but no
    `val`, some of the training classes become val. Drawn splits have at least two classes, and leave two for training.
    If there are too few classes, there is no val, then no test, and `note` says so. A class name is text unless it
    looks like a code (`vlfew.data.class_names`); the class then has the texts of `classes.yaml` and captions alone. The
    fingerprint covers names and content of the image files, the texts and the splits, but not the location of the
    folder or the image size.

    Args:
        root: the folder; None searches the usual places.
        preprocessor: size, channels and how to resize; its seed draws the splits.
        val_fraction: fraction of the classes for validation, where there is no `val` folder; 0 for none.
        test_fraction: fraction of the classes for testing, where there are no split folders; 0 for none.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: anything that `check` raises, or an unreadable image.
    """
    root = find_data("folder", root)
    content = check(root)
    folders, label_of = number_classes([p.folder for p in content.images])
    class_texts = [
        content.named.get(folder) or ([] if is_code(folder) else [display_name(folder)]) for folder in folders
    ]
    names = unique_names([(content.named.get(f) or [display_name(f)])[0] for f in folders], folders)

    files = [p.file for p in content.images]
    images, numbers, skipped, hashes = load_images(files, preprocessor, "reading images", memory_limit_mb)
    labels = label_of[numbers]
    counts = labels.bincount(minlength=len(folders)).tolist()
    if 0 in counts:
        raise DataError(f"{root}: no image of class {folders[counts.index(0)]!r} can be read")

    notes = [content.note] if content.note else []
    split_by = _split_by({(one.split, one.folder) for one in content.images})
    if any(p.split for p in content.images):
        given = [p.split for p in content.images]
        if "train" in given and "val" not in given and split_by == "class":
            own = sorted({p.folder for p in content.images if p.split == "train"})
            numbered, seed = torch.arange(len(own)), preprocessor.seed
            try:
                drawn = split_by_class(numbered, own, val_fraction=val_fraction, test_fraction=0, seed=seed)
            except DataError as error:
                raise DataError(
                    f"{root}: there is no val folder, and of the classes in train: {error}"
                ) from None
            held_out = {own[n] for n in drawn.get("val", ())}
            given = ["val" if p.folder in held_out else p.split for p in content.images]
            if held_out:
                count = f"{len(held_out)} of {len(own)}"
                notes.append(f"no val folder: {count} training classes held out for validation")
            elif val_fraction:
                notes.append(f"no val folder: {len(own)} training classes are too few to hold some out")
        splits = named_splits([given[n] for n in numbers.tolist()])
    else:
        splits = split_by_class(
            labels, folders, val_fraction=val_fraction, test_fraction=test_fraction, seed=preprocessor.seed
        )
        notes += filter(None, [too_few_note(len(folders), splits)])
    trained = {folders[c] for c in labels[splits["train"]].unique().tolist()} if "train" in splits else set()
    captions = {folder: texts for folder, texts in content.captions.items() if folder in trained}
    if ignored := [folder for folder in content.captions if folder not in trained]:
        notes.append(
            f"captions of {counted(len(ignored), 'class')} outside training ignored: {first_names(sorted(ignored))}"
        )
    if content.without_caption:
        without = content.without_caption
        notes.append(
            f"{counted(len(without), 'row')} of the metadata without a caption: {first_names(without)}"
        )
    texts = [
        list(dict.fromkeys([*own, *captions.get(f, [])])) for f, own in zip(folders, class_texts, strict=True)
    ]
    return LabeledImages(
        name="folder",
        images=images,
        labels=labels,
        class_names=names,
        splits=splits,
        fingerprint=digest(
            [f.name for f in files], hashes, skipped, texts, {s: i.tolist() for s, i in splits.items()}
        ),
        class_texts=tuple(map(tuple, texts)),
        texts_file="classes.yaml",
        split_by=split_by,
        image_names=tuple(files[n].name for n in numbers.tolist()),
        skipped=skipped,
        set_aside=tuple(content.set_aside),
        note="; ".join(notes),
    )


@dataclass(frozen=True)
class ClassImage:
    """An image file, its class folder, and its split (empty without split folders)."""

    file: DataFile
    folder: str
    split: str


@dataclass(frozen=True)
class FolderContent:
    """The content of a folder.

    Attributes:
        images: by name.
        named: class folder to its texts, from `classes.yaml`.
        captions: class folder to the captions of its images, from the metadata.
        without_caption: names of the images whose caption in the metadata is missing.
        set_aside: names of the files that are not read.
        note: where the class folders are, if they are not where they are expected.
    """

    images: list[ClassImage]
    named: dict[str, list[str]]
    captions: dict[str, list[str]]
    without_caption: list[str]
    set_aside: list[str]
    note: str


def check(root: Path) -> FolderContent:
    """List the images and texts of a folder without decoding images.

    Raises:
        DataError: no images; an empty class folder; two folders for the same class; a class in some of the splits;
            `classes.yaml` or metadata with unknown names.
    """
    places, note = _class_places(root)
    class_folders = {
        f"{_below(root, place)}{folder.name}": split for split, place in places for folder in _folders(place)
    }
    hidden_files: list[str] = []
    files = list_files(root, hidden_files)
    images, rest = [], []
    for file in files:
        # The class folder is the first known beginning of the path: no class folder is inside another.
        steps = file.name.split("/")
        at = next((n for n in range(1, len(steps)) if "/".join(steps[:n]) in class_folders), 0)
        if at and is_image_file(file):
            images.append(ClassImage(file, steps[at - 1], class_folders["/".join(steps[:at])]))
        else:
            rest.append(file.name)
    if not images:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(
            f"{root}: no images in folders named after their classes ({_loose_images(root) or f'looked for {kinds}'})"
        )
    full = {(one.split, one.folder) for one in images}
    for path, split in class_folders.items():
        if (split, path.rpartition("/")[2]) not in full:
            raise DataError(f"{root / path}: no images of class {path.rpartition('/')[2]!r}")
    _check_distinct(root, full)
    if deeper := next(
        (p for p in class_folders if len(_folders(root / p)) > 1 and not _has_images(root / p)), ""
    ):
        inside = ", ".join(folder.name for folder in _folders(root / deeper)[:3])
        nested = f"images in subfolders, such as {inside} in {deeper}, are of the class {deeper.rpartition('/')[2]!r}"
        note = "; ".join(filter(None, [note, nested]))
    named: dict[str, list[str]] = {}
    beside = dict.fromkeys([root, *(place for _, place in places)])
    lists = [place / "classes.yaml" for place in beside if (place / "classes.yaml").is_file()]
    for table in lists:
        named |= _read_classes_yaml(table, {one.folder for one in images})
    captions, without_caption, tables = _read_captions(root, files, images)
    read = {*tables, *(table.relative_to(root).as_posix() for table in lists)}
    return FolderContent(
        images, named, captions, without_caption, sorted({*rest, *hidden_files} - read), note
    )


def _loose_images(root: Path) -> str:
    """What to do with images that are in no folder; empty if there are none."""
    loose = sorted(p.name for p in root.iterdir() if is_image(p.name) and not hidden(p.name))
    if not loose:
        return ""
    captions = "; where each has a caption of its own, use the source captions" * any(
        (root / m).is_file() for m in METADATA
    )
    return (
        f"{counted(len(loose), 'image')} in no folder, such as {loose[0]}: put the images of each class into its folder"
        f"{captions}"
    )


def _folders(place: Path) -> list[Path]:
    return sorted(p for p in place.iterdir() if p.is_dir() and not hidden(p.name))


def _has_images(place: Path) -> bool:
    """Whether there are images directly in a folder."""
    return any(is_image(p.name) for p in place.iterdir() if not hidden(p.name))


def _below(root: Path, place: Path) -> str:
    """The beginning of the names, relative to the root, of what is in a folder."""
    return "" if place == root else f"{place.relative_to(root).as_posix()}/"


def _class_places(root: Path) -> tuple[list[tuple[str, Path]], str]:
    """The folders that hold the class folders, each with its split (empty without splits), and a note on them.

    A folder that holds nothing but one folder of folders is looked through. A folder of images named `train` may be a
    class (the vehicle); a folder of folders is a split.
    """
    inner = root
    while (wrapped := _wrapped(inner)) is not None and not split_named(wrapped.name):
        inner = wrapped
    notes = [f"the class folders are those in {_below(root, inner)}"] if inner != root else []
    tops = _folders(inner)
    splits = [p for p in tops if split_named(p.name) and _folders(p)]
    if not splits:
        return [("", inner)], "; ".join(notes)
    for other in tops:
        if other in splits or not any(map(is_image_file, list_files(other))):
            if split_named(other.name) and other not in splits:
                raise DataError(f"{other}: contains no class folders; fill it or remove it")
            continue
        if split_named(other.name):
            raise DataError(
                f"{other}: contains no class folders; put its images into folders of their classes"
            )
        raise DataError(
            f"{inner}: split folder {splits[0].name!r} is next to {other.name!r}; "
            "put every class inside train, val or test, or none"
        )
    split_of = {p: split_named(p.name) for p in splits}
    for split in dict.fromkeys(split_of.values()):
        if len(same := [p.name for p in splits if split_of[p] == split]) > 1:
            raise DataError(f"{inner}: more than one folder for the {split} split: {', '.join(same)}")
    if any(p.name not in SPLITS for p in splits):
        notes.append(f"taken as splits: {', '.join(f'{p.name} ({split_of[p]})' for p in splits)}")
    places = dict(zip(splits, splits, strict=True))
    while all(_wrapped(place) is not None for place in places.values()):
        places = {p: wrapped for p, place in places.items() if (wrapped := _wrapped(place)) is not None}
    if places[splits[0]] != splits[0]:
        notes.append(
            f"the class folders are those in {', '.join(_below(root, place) for place in places.values())}"
        )
    return [(split_of[p], place) for p, place in places.items()], "; ".join(notes)


def _wrapped(place: Path) -> Path | None:
    """The only folder in a folder, if it is a folder of folders and neither has images of its own."""
    inside = _folders(place)
    if len(inside) != 1 or _has_images(place) or _has_images(inside[0]) or not _folders(inside[0]):
        return None
    return inside[0]


def _check_distinct(root: Path, full: set[tuple[str, str]]) -> None:
    """No class may have two names; splits share all their classes with the training split, or none."""
    check_distinct_names((folder for _, folder in full), str(root), "folders")
    of_split = {split: {folder for own, folder in full if own == split} for split, _ in full}
    if _split_by(full) == "image":
        return
    for one, other in combinations(sorted(of_split), 2):
        if both := sorted(of_split[one] & of_split[other]):
            raise DataError(
                f"{root}: class {both[0]!r} is in both {one!r} and {other!r} ({counted(len(both), 'class')} of "
                f"{len(of_split[one] | of_split[other])}); splits share all classes, or none: keep it in one"
            )


def _split_by(full: set[tuple[str, str]]) -> Literal["class", "image"]:
    """`image` if the classes of every split are among those of the training split."""
    train = {folder for split, folder in full if split == "train"}
    others = {folder for split, folder in full if split != "train"}
    return "image" if train and others and others <= train else "class"


def _read_classes_yaml(path: Path, folders: set[str]) -> dict[str, list[str]]:
    """Class folder to its texts."""
    try:
        content = yaml.load(read_text(path), Loader=TextLoader)
    except yaml.YAMLError as error:
        raise DataError(yaml_problem(path, error)) from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected lines like 'n02099601: golden retriever'")
    named: dict[str, list[str]] = {}
    lookup = NameLookup(folders)
    for key, texts in content.items():
        folder = lookup.find(key)
        if folder is None:
            raise DataError(f"{path}: no class folder {key!r}{did_you_mean(key, folders)}")
        if folder in named:
            raise DataError(f"{path}: class folder {folder!r} is listed twice; remove one")
        listed = texts if isinstance(texts, list) else [texts]
        if not listed or not all(isinstance(w, str) and not is_missing(w) for w in listed):
            raise DataError(f"{path}: {folder!r} needs a text or a list of texts")
        named[folder] = [w.strip() for w in listed]
    return named


def _read_captions(
    root: Path, files: list[DataFile], images: list[ClassImage]
) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Class folder to the captions of its images, the images whose caption is missing, and the metadata files.

    They may be in any folder: paths are relative to it, as in a Hugging Face image folder.
    """
    folder_of = {one.file.name: one.folder for one in images}
    captions: dict[str, list[str]] = defaultdict(list)
    without: list[str] = []
    tables = [file.name for file in files if file.name.rpartition("/")[2] in METADATA]
    for table in tables:
        base = table.rpartition("/")[0]
        start = f"{base}/" if base else ""
        below = (name.removeprefix(start) for name in folder_of if name.startswith(start))
        lookup = FileLookup(below, root / base)
        for where, row in read_rows(root / table, ("file_name", "text")):
            image = lookup.find(row["file_name"])
            if image is None:
                raise DataError(f"{where}: no image {row['file_name']!r}")
            if is_missing(row["text"]):
                without.append(start + image)
            else:
                captions[folder_of[start + image]].append(row["text"].strip())
    return captions, without, tables
