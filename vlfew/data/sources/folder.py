"""folder: your own images, one folder per class, optionally inside `train`, `val` and `test`.

The texts of a class are its folder name and its entry in `classes.yaml` (folder name: text, or a list of texts).
Captions (`metadata.csv` or `metadata.jsonl` with `file_name` and `text`, as in a Hugging Face image folder) are further
texts of training classes. Captions of other classes are ignored: otherwise zero-shot would use descriptions of the test
images themselves.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from vlfew.core.errors import DataError, did_you_mean
from vlfew.core.yaml_loader import TextLoader, yaml_problem
from vlfew.data.class_names import display_name, is_code, number_classes, same_key, unique_names
from vlfew.data.data_root import find_data
from vlfew.data.decode import IMAGE_SUFFIXES, is_image
from vlfew.data.image_files import DataFile, digest, hidden, list_files
from vlfew.data.image_stores import load_images
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import SPLIT_NAMES, named_splits, split_by_class, too_few_note
from vlfew.data.table_files import read_rows, read_text

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

    Without split folders, classes are drawn into train, val and test from `preprocessor.seed`; with `train` but no
    `val`, some of the training classes become val. Drawn splits have at least two classes, and leave two for training.
    If there are too few classes, there is no val, then no test, and `note` says so. Class names are text unless one
    looks like a code (`vlfew.data.class_names`) without an entry in `classes.yaml`; captions do not replace it. The
    fingerprint covers names and sizes of the image files, the texts and the splits, but not the location of the folder
    or the image size.

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
    class_texts = [_texts(folder, content.named) for folder in folders]
    names = unique_names([(content.named.get(f) or [display_name(f)])[0] for f in folders], folders)

    files = [p.file for p in content.images]
    images, numbers, skipped = load_images(files, preprocessor, "reading images", memory_limit_mb)
    labels = label_of[numbers]
    counts = labels.bincount(minlength=len(folders)).tolist()
    if 0 in counts:
        raise DataError(f"{root}: no image of class {folders[counts.index(0)]!r} can be read")

    notes = [content.note] if content.note else []
    if any(p.split for p in content.images):
        given = [p.split for p in content.images]
        if "train" in given and "val" not in given:
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
    if ignored := len(content.captions) - len(captions):
        notes.append(f"classes outside training whose captions are ignored: {ignored}")
    texts = [
        list(dict.fromkeys([*own, *captions.get(f, [])])) for f, own in zip(folders, class_texts, strict=True)
    ]
    return LabeledImages(
        name="folder",
        images=images,
        labels=labels,
        class_names=names,
        names_are_text=all(class_texts),
        splits=splits,
        fingerprint=digest(
            [(f.name, f.size) for f in files], skipped, texts, {s: i.tolist() for s, i in splits.items()}
        ),
        class_texts=tuple(tuple(own) or (name,) for own, name in zip(texts, names, strict=True)),
        skipped=skipped,
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
        note: number of ignored files, if any.
    """

    images: list[ClassImage]
    named: dict[str, list[str]]
    captions: dict[str, list[str]]
    note: str


def check(root: Path) -> FolderContent:
    """List the images and texts of a folder without decoding images.

    Raises:
        DataError: no images; an empty class folder; two folders for the same class; a class in two splits;
            `classes.yaml` or metadata with unknown names.
    """
    tops = _folders(root)
    files = list_files(root)
    split_folders = _split_folders(root, tops)
    images: list[ClassImage] = []
    ignored = 0
    for file in files:
        steps = file.name.split("/")
        depth = 2 if split_folders else 1
        if not is_image(file.name) or len(steps) <= depth:
            ignored += steps[-1] not in (*METADATA, "classes.yaml")
            continue
        images.append(ClassImage(file, steps[depth - 1], split_folders.get(steps[0], "")))
    if not images:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{root}: no images in folders named after their classes (looked for {kinds})")

    class_folders = [c for t in tops for c in (_folders(t) if split_folders else [t])]
    full = {(p.split, p.folder) for p in images}
    for place in class_folders:
        if (split_folders.get(place.parent.name, ""), place.name) not in full:
            raise DataError(f"{place}: no images of class {place.name!r}")
    _check_distinct(root, full)
    named = _read_classes_yaml(root / "classes.yaml", {p.folder for p in images})
    note = f"files ignored because they are not images of a class: {ignored}" if ignored else ""
    return FolderContent(images, named, _read_captions(root, files, images), note)


def _folders(place: Path) -> list[Path]:
    return sorted(p for p in place.iterdir() if p.is_dir() and not hidden(p.name))


def _split_folders(root: Path, tops: list[Path]) -> dict[str, str]:
    """Split folder to split, if there are split folders.

    A folder of images named `train` may be a class (the vehicle); a folder of folders is a split.
    """
    splits = [p for p in tops if p.name in SPLIT_NAMES and _folders(p)]
    if not splits:
        return {}
    others = [p.name for p in tops if p not in splits]
    if others and others[0] in SPLIT_NAMES:
        raise DataError(f"{root / others[0]}: contains no class folders; fill it or remove it")
    if others:
        raise DataError(
            f"{root}: split folder {splits[0].name!r} is next to {others[0]!r}; "
            "put every class inside train, val or test, or none"
        )
    found = {p.name: SPLIT_NAMES[p.name] for p in splits}
    if len(set(found.values())) < len(found):
        raise DataError(f"{root}: more than one folder for the validation split: {', '.join(sorted(found))}")
    return found


def _check_distinct(root: Path, full: set[tuple[str, str]]) -> None:
    """No class may be in two splits, or under two names."""
    first: dict[str, tuple[str, str]] = {}
    for split, folder in sorted(full):
        other_split, other = first.setdefault(same_key(folder), (split, folder))
        if other_split != split:
            raise DataError(
                f"{root}: class {folder!r} is in both {other_split!r} and {split!r}; "
                "few-shot splits must not share classes: keep it in one"
            )
        if other != folder:
            raise DataError(
                f"{root}: folders {other!r} and {folder!r} are the same class; merge or rename them"
            )


def _texts(folder: str, named: dict[str, list[str]]) -> list[str]:
    """The texts of a class; empty if its name is a code."""
    return named.get(folder) or ([] if is_code(folder) else [display_name(folder)])


def _read_classes_yaml(path: Path, folders: set[str]) -> dict[str, list[str]]:
    """Class folder to its texts."""
    if not path.exists():
        return {}
    try:
        content = yaml.load(read_text(path), Loader=TextLoader)
    except yaml.YAMLError as error:
        raise DataError(yaml_problem(path, error)) from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected lines like 'n02099601: golden retriever'")
    named = {}
    for folder, texts in content.items():
        if folder not in folders:
            raise DataError(f"{path}: no class folder {folder!r}{did_you_mean(folder, folders)}")
        listed = texts if isinstance(texts, list) else [texts]
        if not listed or not all(isinstance(w, str) and w.strip() for w in listed):
            raise DataError(f"{path}: {folder!r} needs a text or a list of texts")
        named[folder] = [w.strip() for w in listed]
    return named


def _read_captions(root: Path, files: list[DataFile], images: list[ClassImage]) -> dict[str, list[str]]:
    """Class folder to the captions of its images; metadata may be in the root or in a split folder."""
    folder_of = {p.file.name: p.folder for p in images}
    captions: dict[str, list[str]] = defaultdict(list)
    for file in files:
        base, _, name = file.name.rpartition("/")
        if name not in METADATA or (base and base not in SPLIT_NAMES):
            continue
        for where, row in read_rows(root / file.name, ("file_name", "text")):
            image = f"{base}/{row['file_name']}" if base else row["file_name"]
            if image not in folder_of:
                raise DataError(f"{where}: no image {row['file_name']!r}")
            if row["text"].strip():
                captions[folder_of[image]].append(row["text"].strip())
    return captions
