"""AT&T (Olivetti) faces: ten images each of forty people, 92x112, gray (Samaria and Harter 1994).

Reads a folder of `s1/1.pgm` to `s40/10.pgm`, or the archive.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from vlfew.core.errors import DataError
from vlfew.core.random import seed_at
from vlfew.data.cache import read_cached
from vlfew.data.class_names import number_classes
from vlfew.data.data_root import find_data
from vlfew.data.file_hashes import hash_files
from vlfew.data.image_files import DataFile, digest, list_files
from vlfew.data.labeled_images import LabeledImages, missing_note
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.splits import draw_names, named_splits

FOLDERS, ARCHIVES = ("orl_faces", "att_faces"), ("orl_faces.zip", "att_faces.zip")
ALSO = ("orl_faces", *ARCHIVES)
PEOPLE, IMAGES = 40, 10
FOLDS, TEST_IMAGES = 4, 2
_IMAGE = re.compile(r"(?:.*/)?s(\d+)/(\d+)\.pgm")


def load(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    split: Literal["people", "images"] = "people",
    fold: Annotated[int, Field(ge=1, le=FOLDS)] = 1,
    validation_people: Annotated[int, Field(ge=0)] = 0,
) -> LabeledImages:
    """AT&T faces, person by person; `source_id` is the number of the image (1 to 10).

    Split by people, the forty are drawn from `preprocessor.seed` into four folds of ten, whichever are available; test
    is one fold, validation a part of the others, training the rest. Split by images, two images of every person are
    for testing and the others for training: the same people in both. The fingerprint covers the content of the images
    and the split; it is the same for folders and archives.

    Args:
        root: folder with the people's folders or the archive; None searches the usual places.
        preprocessor: size, channels and how to resize; the images are not square.
        split: what is new in the test split: `people` or `images`.
        fold: test fold of `split: people`, 1 to 4.
        validation_people: number of the other people for validation; 0 for none.

    Raises:
        DataError: no images, a file that does not belong to the data set, or too few people or images.
    """
    if split == "images" and (fold > 1 or validation_people):
        raise DataError("att_faces: fold and validation_people are for split=people; leave them out")
    files = check(find_data("att_faces", root, ALSO))
    hashes = hash_files([f.file for f in files])
    images, numbers, skipped = read_cached([f.file for f in files], preprocessor, "reading att_faces", hashes)
    faces = [files[n] for n in numbers.tolist()]
    if split == "people":
        split_of = _by_people(faces, fold, validation_people, preprocessor.seed)
    else:
        split_of = _by_images(faces, preprocessor.seed)
    people, labels = number_classes([f.person for f in faces])
    return LabeledImages(
        name="att_faces",
        images=images,
        labels=labels,
        class_names=tuple(f"s{person}" for person in people),
        splits=named_splits(split_of),
        fingerprint=digest([f.name for f in faces], [hashes[n] for n in numbers.tolist()], split_of),
        split_by="class" if split == "people" else "image",
        source_id=torch.tensor([f.number for f in faces]),
        image_names=tuple(f.name for f in faces),
        skipped=skipped,
        note=missing_note(people=(len(people), PEOPLE), images=(len(faces), PEOPLE * IMAGES)),
    )


@dataclass(frozen=True)
class Face:
    """An image of a person (1 to 40) by its number (1 to 10)."""

    person: int
    number: int
    file: DataFile

    @property
    def name(self) -> str:
        return f"s{self.person}/{self.number}.pgm"


def check(place: Path) -> list[Face]:
    """List the images of a folder or archive, by person and number, without decoding them.

    Raises:
        DataError: see `load`.
    """
    place = _inside(place)
    faces: dict[tuple[int, int], Face] = {}
    for file in list_files(place):
        if not file.name.endswith(".pgm"):
            continue
        match = _IMAGE.fullmatch(file.name)
        person, number = (int(match[1]), int(match[2])) if match else (0, 0)
        if not (1 <= person <= PEOPLE and 1 <= number <= IMAGES):
            raise DataError(f"att_faces: {file.name} in {place} is not like s1/1.pgm (to s40/10.pgm)")
        first = faces.setdefault((person, number), Face(person, number, file))
        if first.file is not file:
            raise DataError(f"att_faces: {first.file.name} and {file.name} in {place} are the same image")
    if not faces:
        raise DataError(f"att_faces: no images like s1/1.pgm (to s40/10.pgm) in {place}")
    return [face for _, face in sorted(faces.items())]


def _inside(place: Path) -> Path:
    """The archive, or the folder of the people's folders, at or in `place`."""
    if place.is_file():
        return place
    for folder in (place, *(place / name for name in FOLDERS)):
        if any(folder.glob("s*/*.pgm")):
            return folder
    for name in ARCHIVES:
        if (place / name).is_file():
            return place / name
    raise DataError(f"att_faces: neither s1/1.pgm (to s40/10.pgm) nor {' nor '.join(ARCHIVES)} in {place}")


def _by_people(faces: Sequence[Face], fold: int, validation_people: int, seed: int) -> list[str]:
    """The split of each image, by person."""
    order = sorted(range(1, PEOPLE + 1), key=lambda person: seed_at(seed, "fold", person))
    test = set(order[(fold - 1) * PEOPLE // FOLDS : fold * PEOPLE // FOLDS])
    available = {f.person for f in faces}
    others = sorted(available - test)
    if not available & test:
        raise DataError(f"att_faces: none of the {len(test)} people of fold {fold} is available")
    if validation_people >= len(others):
        raise DataError(
            f"att_faces: validation_people={validation_people} of the {len(others)} people outside fold "
            f"{fold} must leave at least one for training"
        )
    val = draw_names([f"s{person}" for person in others], validation_people, seed, "validation")
    return ["test" if f.person in test else "val" if f"s{f.person}" in val else "train" for f in faces]


def _by_images(faces: Sequence[Face], seed: int) -> list[str]:
    """The split of each image, drawn for each person."""
    count = Counter(f.person for f in faces)
    few = next((person for person in sorted(count) if count[person] <= TEST_IMAGES), None)
    if few is not None:
        raise DataError(
            f"att_faces: person s{few} has {count[few]} of {IMAGES} images available; split=images needs "
            f"{TEST_IMAGES} for testing and at least one for training"
        )
    test: set[str] = set()
    for person in count:
        own = [f.name for f in faces if f.person == person]
        test |= draw_names(own, TEST_IMAGES, seed, "pictures")
    return ["test" if f.name in test else "train" for f in faces]
