"""LFW, Labeled Faces in the Wild (Huang et al. 2007): 13,233 images of 5,749 people, 250x250.

Reads the deep-funneled images (Huang et al. 2012) or any other alignment, as a folder of
`First_Last/First_Last_0001.jpg` or an uncompressed tar of it, with the official lists next to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from vlfew.core.config import AugmentConfig
from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.augmentation import BatchAugment
from vlfew.data.class_names import number_classes
from vlfew.data.data_root import find_data
from vlfew.data.image_files import DataFile, digest
from vlfew.data.image_stores import load_images
from vlfew.data.labeled_images import InMemory, LabeledImages, missing_note
from vlfew.data.lfw_files import LFWFiles, check, read_pairs, read_people
from vlfew.data.pairs import Pairs
from vlfew.data.preprocess import ImagePreprocessor, center_range
from vlfew.data.splits import draw_names, named_splits

PEOPLE, IMAGES, SIDE = 5749, 13233, 250
FOLDS = 10
ONE_IMAGE_TEST = 1150
"""Test people in the protocol with one image per person; the other 4,599 are for training."""


def load(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    protocol: Literal["view-1", "view-2", "one-image"] = "view-2",
    fold: Annotated[int, Field(ge=1, le=FOLDS)] | Literal["all"] = 1,
    training_labels: Literal["unrestricted", "image-restricted"] = "unrestricted",
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """LFW, Labeled Faces in the Wild: the splits of a protocol, which share no people.

    `view-2` is for reporting: the test split has the people and the 600 pairs of the fold, validation those of the
    next fold, training the other eight folds. With `fold: all` there is no training, and test is all 6,000 pairs in
    their ten folds, for a model trained elsewhere. `view-1` is for model selection: test is `peopleDevTest` and its
    pairs, validation a part of `peopleDevTrain`. `one-image` uses one image of each person and makes a partner for it
    by an affine map or a rotation; test has 1,150 people, each with one same and one different pair, and part of the
    other 4,599 are for validation.

    Args:
        root: folder with images and lists; None searches the usual places.
        preprocessor: size, channels and how to resize; its seed draws what the lists do not define.
        protocol: `view-2` for results, `view-1` for model selection, `one-image` for one image per person.
        fold: test fold of View 2, 1 to 10, or `all` without training.
        training_labels: labels used for training in View 2: identities, or only same/different labels of the pairs.
        validation_fraction: fraction of the training people, where the protocol has no validation people.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: images or lists are missing, a list names a missing image, or `image-restricted` without View 2.
    """
    restricted = training_labels == "image-restricted"
    if restricted and (protocol != "view-2" or fold == "all"):
        raise DataError(
            "lfw: training_labels=image-restricted means training on the pairs of View 2; "
            f"set protocol=view-2 and a fold from 1 to {FOLDS}"
        )
    lfw = check(find_data("lfw", root))
    if protocol == "one-image":
        return _one_image(lfw, preprocessor, validation_fraction, memory_limit_mb)
    keys, files = list(lfw.images), list(lfw.images.values())
    images, numbers, skipped, hashes = load_images(files, preprocessor, "reading lfw", memory_limit_mb)
    at = {keys[n]: position for position, n in enumerate(numbers.tolist())}
    people, label_of = number_classes([person for person, _ in keys])
    labels, names = label_of[numbers], _names(people)
    if protocol == "view-1":
        splits, pairs = _view_1(lfw, at, preprocessor.seed, validation_fraction)
    else:
        splits, pairs = _view_2(lfw, at, fold, restricted)
    if restricted:
        labels, names = _without_identities(labels, names, splits, list(at))
    view = "View 1" if protocol == "view-1" else "View 2" + ", image-restricted" * restricted
    return LabeledImages(
        name="lfw",
        images=images,
        labels=labels,
        class_names=names,
        splits=splits,
        fingerprint=digest(
            _file_names(files),
            hashes,
            skipped,
            protocol,
            *[training_labels] * restricted,
            {s: i.tolist() for s, i in splits.items()},
            {s: (p.i.tolist(), p.j.tolist()) for s, p in pairs.items()},
        ),
        image_names=tuple(files[n].name for n in numbers.tolist()),
        pairs=pairs,
        training_labels=training_labels,
        skipped=skipped,
        note=_note(view, preprocessor, people, lfw),
    )


def _names(people: list[str]) -> tuple[str, ...]:
    return tuple(person.replace("_", " ") for person in people)


def _file_names(files: list[DataFile]) -> list[str]:
    return [file.name.rpartition("/")[2] for file in files]


def _note(protocol: str, preprocessor: ImagePreprocessor, people: list[str], lfw: LFWFiles) -> str:
    """The protocol, the center crop in pixels of the original image, and what is missing."""
    crop = ""
    if preprocessor.center_crop < 1:
        first, last = center_range(SIDE, preprocessor.center_crop)
        crop = f"center crop, box {first}..{last} of {SIDE} pixels both ways"
    missing = missing_note(people=(len(people), PEOPLE), images=(len(lfw.images), IMAGES))
    return "; ".join(filter(None, [protocol, crop, missing]))


def _view_2(
    lfw: LFWFiles, at: dict[tuple[str, int], int], fold: int | Literal["all"], restricted: bool
) -> tuple[dict[str, Tensor], dict[str, Pairs]]:
    """Splits and pairs; image-restricted, images outside the test split are those of the pairs."""
    folds = read_people(lfw, "people.txt")
    if len(folds) != FOLDS:
        raise DataError(f"{lfw.root / 'people.txt'}: {FOLDS} sets of people expected, got {len(folds)}")
    pairs = read_pairs(lfw, "pairs.txt", at, folds)
    if fold == "all":
        return {"test": _images_of(set().union(*folds), at)}, {"test": pairs}
    held_out = {"val": fold % FOLDS, "test": fold - 1}
    rest = set().union(*(people for n, people in enumerate(folds) if n not in held_out.values()))
    splits, chosen = {"train": _images_of(rest, at)}, {}
    for split, n in held_out.items():
        splits[split] = _images_of(folds[n], at)
        chosen[split] = pairs.select(pairs.fold[:, 0] == n)
    if restricted:
        outside = ~torch.isin(pairs.fold[:, 0], torch.tensor(list(held_out.values())))
        chosen["train"] = pairs.select(outside)
        for split in ("train", "val"):
            splits[split] = torch.cat([chosen[split].i, chosen[split].j]).unique()
    return splits, chosen


def _without_identities(
    labels: Tensor, names: tuple[str, ...], splits: dict[str, Tensor], images: list[tuple[str, int]]
) -> tuple[Tensor, tuple[str, ...]]:
    """Labels and class names where each image outside the test split is a class of its own."""
    is_test = torch.isin(torch.arange(len(labels)), splits["test"])
    own = torch.arange(len(labels)) + len(names)
    used, dense = torch.where(is_test, labels, own).unique(return_inverse=True)
    every = (*names, *(f"{person}_{number:04}" for person, number in images))
    return dense, tuple(every[n] for n in used.tolist())


def _view_1(
    lfw: LFWFiles, at: dict[tuple[str, int], int], seed: int, fraction: float
) -> tuple[dict[str, Tensor], dict[str, Pairs]]:
    sets = [read_people(lfw, name) for name in ("peopleDevTrain.txt", "peopleDevTest.txt")]
    if any(len(own) != 1 for own in sets):
        raise DataError(f"lfw: the lists of View 1 in {lfw.root} must contain one set of people each")
    (train,), (test,) = sets
    if both := sorted(train & test):
        raise DataError(f"lfw: {both[0]} is in both lists of people of View 1 in {lfw.root}")
    held_out = draw_names(sorted(train), max(2, round(fraction * len(train))), seed, "validation")
    splits = {
        "train": _images_of(train - held_out, at),
        "val": _images_of(held_out, at),
        "test": _images_of(test, at),
    }
    return splits, {"test": read_pairs(lfw, "pairsDevTest.txt", at, [test])}


def _one_image(
    lfw: LFWFiles, preprocessor: ImagePreprocessor, fraction: float, memory_limit_mb: int
) -> LabeledImages:
    """One image of each person, and a partner made from it."""
    # Of several images of a person, the one with the smallest number remains.
    first = {person: file for (person, _), file in sorted(lfw.images.items(), reverse=True)}
    people = lfw.people
    files = [first[person] for person in people]
    test = draw_names(people, round(len(people) * ONE_IMAGE_TEST / PEOPLE), preprocessor.seed, "test")
    rest = [person for person in people if person not in test]
    val = draw_names(rest, max(2, round(fraction * len(rest))), preprocessor.seed, "validation")
    images, numbers, skipped, hashes = load_images(files, preprocessor, "reading lfw", memory_limit_mb)
    originals = images.batch(torch.arange(len(images)))
    partners = _partners(originals, preprocessor.seed)
    people = [people[n] for n in numbers.tolist()]
    count = len(people)
    splits = named_splits(2 * ["test" if p in test else "val" if p in val else "train" for p in people])
    pairs = {}
    for split in [split for split in splits if split != "train"]:
        own = splits[split][splits[split] < count]
        order = torch.from_numpy(generator_at(preprocessor.seed, "one-picture", split).permutation(len(own)))
        # A cycle through all people: each is paired with exactly one other.
        other = torch.empty_like(own)
        other[order] = own[order.roll(1)]
        same = torch.arange(2 * len(own)) < len(own)
        fold = torch.zeros(len(same), 2, dtype=torch.int64)
        pairs[split] = Pairs(own.repeat(2), torch.cat([own, other]) + count, same, fold)
    names = [files[n].name for n in numbers.tolist()]
    protocol = "one image per person, its partner made by an affine map or a rotation"
    return LabeledImages(
        name="lfw",
        images=InMemory(torch.cat([originals, partners])),
        labels=torch.arange(count).repeat(2),
        class_names=_names(people),
        splits=splits,
        fingerprint=digest(
            _file_names(files), hashes, skipped, "one-image", {s: i.tolist() for s, i in splits.items()}
        ),
        image_names=tuple(names + [f"{name} (partner)" for name in names]),
        pairs=pairs,
        training_labels="unrestricted",
        skipped=skipped,
        note=_note(protocol, preprocessor, people, lfw),
    )


def _partners(images: Tensor, seed: int) -> Tensor:
    """A distortion of each image, `[S, C, H, W]` uint8: an affine map for even, a rotation for odd numbers."""
    affine = BatchAugment(AugmentConfig(rotate=10, shear=10, scale=0.15, translate=0.08), seed)
    turn = BatchAugment(AugmentConfig(rotate=20), seed)
    maps = [change(images, 0, len(images), 0).round().to(torch.uint8) for change in (affine, turn)]
    odd = torch.arange(len(images)) % 2 == 1
    return torch.where(odd[:, None, None, None], maps[1], maps[0])


def _images_of(people: set[str], at: dict[tuple[str, int], int]) -> Tensor:
    return torch.tensor([n for (person, _), n in at.items() if person in people], dtype=torch.int64)
