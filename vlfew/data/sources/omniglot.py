"""Omniglot (Lake et al. 2015): 1,623 characters of 50 alphabets, each drawn by the same 20 people.

Reads `images_background` and `images_evaluation`, as folders or as the authors' zip archives, and the official one-shot
runs from `runNN` folders or their archive.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.data.cache import read_cached
from vlfew.data.data_root import find_data
from vlfew.data.decode import read_many
from vlfew.data.file_hashes import hash_files
from vlfew.data.image_files import DataFile, digest, list_files
from vlfew.data.labeled_images import InMemory, LabeledImages, missing_note
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import draw_names, named_splits

PARTS = ("images_background", "images_evaluation")
CHARACTERS, DRAWERS = 1623, 20
_DRAWING = re.compile(r"\d+_(\d+)\.png")


def load(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    split: Literal["lake", "own-40-10"] = "lake",
    rotations: bool = False,
    mirrors: bool = False,
    validation_alphabets: int = 5,
) -> LabeledImages:
    """Omniglot: handwritten characters; groups are the alphabets, `source_id` is the drawer (0 to 19).

    In the authors' split (`lake`), test is the evaluation alphabets; validation is drawn from the background alphabets
    with `preprocessor.seed`, and training is the rest of them. In `own-40-10`, used by some studies, 40 of all 50
    alphabets, drawn from the seed, are for development and 10 for testing (four fifths and one fifth of those
    available). It is not a standard split, and its results are not comparable with the authors' split.

    The fingerprint covers the available drawings and the split; it is the same for folders and
    archives.

    Args:
        root: folder with both parts; None searches the usual places.
        preprocessor: size, channels and how to resize.
        split: which alphabets are for testing: `lake` (the authors') or `own-40-10`.
        rotations: add quarter turns of training characters as further classes in further groups; `Greek@90/character01`
            is rotated counterclockwise (Santoro et al. 2016).
        mirrors: add mirror images of training characters (and of their quarter turns) likewise, such as
            `Greek@mirror/character01` and `Greek@mirror90/character01`.
        validation_alphabets: number of development alphabets for validation; 0 for none.

    Raises:
        DataError: a part is missing or empty, a file does not belong to Omniglot, or there are too few alphabets.
    """
    classes = check(find_data("omniglot", root))
    alphabets = sorted({c.alphabet for c in classes})
    test = {c.alphabet for c in classes if c.part == 1}
    if split == "own-40-10":
        test = draw_names(alphabets, max(1, round(len(alphabets) / 5)), preprocessor.seed, "test")
    background = [a for a in alphabets if a not in test]
    if not 0 <= validation_alphabets < len(background):
        raise DataError(
            f"omniglot: validation_alphabets={validation_alphabets} of {len(background)} development "
            "alphabets must leave at least one for training"
        )
    held_out = draw_names(background, validation_alphabets, preprocessor.seed, "validation")
    files = [file for c in classes for file in c.files]
    hashes = hash_files(files)
    store, numbers, skipped = read_cached(files, preprocessor, "reading omniglot", hashes)
    images = store.tensor

    labels = torch.tensor([n for n, c in enumerate(classes) for _ in c.files])[numbers]
    split_of = [
        "test" if c.alphabet in test else "val" if c.alphabet in held_out else "train" for c in classes
    ]
    drawn = [(c.part, c.alphabet, c.character, c.drawers, len(c.files)) for c in classes]
    own = split != "lake"
    note = f"{len(background)} development and {len(test)} test alphabets, not the authors' split" * own
    missing = missing_note(characters=(len(classes), CHARACTERS), drawings=(len(files), CHARACTERS * DRAWERS))
    data = LabeledImages(
        name="omniglot",
        images=store,
        labels=labels,
        class_names=tuple(f"{c.alphabet}/{c.character}" for c in classes),
        splits=named_splits([split_of[label] for label in labels.tolist()]),
        fingerprint=digest(
            drawn, hashes, skipped, sorted(held_out), rotations, *[sorted(test)] * own, *["mirrors"] * mirrors
        ),
        class_group=torch.tensor([alphabets.index(c.alphabet) for c in classes]),
        group_names=tuple(alphabets),
        source_id=torch.tensor([drawer for c in classes for drawer in c.drawers])[numbers],
        skipped=skipped,
        note="; ".join(filter(None, [note, missing])),
    )
    turns = (0, 1, 2, 3) if rotations else (0,)
    changes = [(mirror, turn) for mirror in (False, True)[: 1 + mirrors] for turn in turns]
    return _with_symmetries(data, images, changes[1:])


@dataclass(frozen=True)
class Character:
    """A character and its available drawings.

    Attributes:
        part: 0 for background, 1 for evaluation.
        files: in the order of `drawers`.
        drawers: 0 to 19.
    """

    part: int
    alphabet: str
    character: str
    files: tuple[DataFile, ...]
    drawers: tuple[int, ...]


def check(root: Path) -> list[Character]:
    """List the characters under `root`, background first, by name, without decoding images.

    Raises:
        DataError: see `load`.
    """
    drawings_of: dict[tuple[int, str, str], list[tuple[int, DataFile]]] = defaultdict(list)
    part_of: dict[str, int] = {}
    for part, name in enumerate(PARTS):
        place = next((p for p in (root / name, root / f"{name}.zip") if p.exists()), None)
        if place is None:
            raise DataError(f"omniglot: neither {name}/ nor {name}.zip in {root}")
        drawings = [file for file in list_files(place) if file.name.endswith(".png")]
        if not drawings:
            raise DataError(f"omniglot: no drawings (*.png) in {place}")
        for file in drawings:
            steps = file.name.split("/")
            match = _DRAWING.fullmatch(steps[-1])
            if len(steps) < 3 or not match or not 1 <= int(match[1]) <= DRAWERS:
                raise DataError(
                    f"omniglot: {file.name} in {place} is not like Alphabet/character01/0001_01.png (to _20)"
                )
            alphabet, character = steps[-3:-1]
            if part_of.setdefault(alphabet, part) != part:
                raise DataError(f"omniglot: alphabet {alphabet!r} is in both {PARTS[0]} and {PARTS[1]}")
            drawings_of[part, alphabet, character].append((int(match[1]) - 1, file))
    classes = []
    for (part, alphabet, character), drawn in sorted(drawings_of.items(), key=lambda item: item[0]):
        drawers, files = zip(*sorted(drawn, key=lambda pair: pair[0]), strict=True)
        classes.append(Character(part, alphabet, character, files, drawers))
    return classes


def _with_symmetries(data: LabeledImages, images: Tensor, changes: list[tuple[bool, int]]) -> LabeledImages:
    """`data` with mirrored and rotated training classes (mirror, quarter turns) as further training classes."""
    assert data.class_group is not None and data.source_id is not None
    train = data.splits["train"]
    classes, own_labels = data.labels[train].unique(return_inverse=True)
    groups, own_groups = data.class_group[classes].unique(return_inverse=True)
    names, group_names = list(data.class_names), list(data.group_names)
    stacked, labels, class_group = [images], [data.labels], [data.class_group]
    for mirror, turn in changes:
        changed = images[train].flip(3) if mirror else images[train]
        stacked.append(changed.rot90(turn, (2, 3)))
        labels.append(len(names) + own_labels)
        class_group.append(len(group_names) + own_groups)
        mark = "@" + "mirror" * mirror + (str(90 * turn) if turn else "")
        names += [data.class_names[c].replace("/", f"{mark}/") for c in classes.tolist()]
        group_names += [f"{data.group_names[g]}{mark}" for g in groups.tolist()]
    further = torch.arange(len(images), len(images) + len(changes) * len(train))
    return replace(
        data,
        images=InMemory(torch.cat(stacked)),
        labels=torch.cat(labels),
        class_names=tuple(names),
        class_texts=(),
        class_group=torch.cat(class_group),
        group_names=tuple(group_names),
        source_id=torch.cat([data.source_id, data.source_id[train].repeat(len(changes))]),
        splits={**data.splits, "train": torch.cat([train, further])},
    )


@dataclass(frozen=True)
class Run:
    """One run of the official one-shot benchmark: which training image has the class of each test image?

    Attributes:
        name: `run01`.
        train: uint8 `[N, C, H, W]`, one image of each of N characters (20) by one drawer.
        test: uint8 `[N, C, H, W]`, by another drawer.
        answer: `[N]` int64, the matching training image of each test image.
    """

    name: str
    train: Tensor
    test: Tensor
    answer: Tensor


def load_runs(folder: Path, preprocessor: ImagePreprocessor) -> list[Run]:
    """Load the official one-shot runs, by name.

    Args:
        folder: contains `runNN` folders or an archive of them (`one_shot_runs.zip`), or is the archive.
        preprocessor: size, channels and how to resize; an unreadable image is always an error here.

    Raises:
        DataError: no runs, or a missing image or line of `class_labels.txt`.
    """
    if not folder.exists():
        raise DataError(f"{folder}: no such folder of one-shot runs")
    location = folder
    if folder.is_dir() and not any(folder.glob("run*/")):
        location = next(iter(sorted(folder.glob("*runs*.zip"))), folder)
    runs: dict[str, dict[str, DataFile]] = defaultdict(dict)
    for file in list_files(location):
        match = re.search(r"(?:^|/)((run\d+)/.+)", file.name)
        if match:
            runs[match[2]][match[1]] = file
    if not runs:
        raise DataError(f"{location}: no runNN folders (run01/training/class01.png, run01/class_labels.txt)")
    preprocessor = replace(preprocessor, on_bad_image="error")
    return [_read_run(name, runs[name], location, preprocessor) for name in sorted(runs)]


def _read_run(name: str, files: dict[str, DataFile], location: Path, preprocessor: ImagePreprocessor) -> Run:
    def files_of(part: str) -> list[str]:
        return sorted(f for f in files if f.startswith(f"{name}/{part}/") and f.endswith(".png"))

    listing = f"{name}/class_labels.txt"
    if listing not in files:
        raise DataError(f"{location}: {listing} is missing")
    train, test = files_of("training"), files_of("test")
    answer: dict[str, int] = {}
    for number, line in enumerate(files[listing].read().decode(errors="replace").splitlines(), 1):
        pair = line.split()
        if not pair:
            continue
        missing = next((f for f in pair if f not in files), None)
        if len(pair) != 2 or missing or pair[0] not in test or pair[1] not in train:
            what = f"{missing} is missing" if missing else "expected a test and a training image"
            raise DataError(f"{location}: {listing}:{number}: {what}")
        answer[pair[0]] = train.index(pair[1])
    unnamed = next((f for f in test if f not in answer), None)
    if unnamed:
        raise DataError(f"{location}: {listing} has no line for {unnamed}")
    if not test or len(test) != len(train):
        raise DataError(
            f"{location}: {name} has {len(train)} training and {len(test)} test images; the numbers must be equal"
        )
    images, _, _ = read_many([files[f] for f in train + test], preprocessor, f"reading {name}")
    return Run(name, images[: len(train)], images[len(train) :], torch.tensor([answer[f] for f in test]))
