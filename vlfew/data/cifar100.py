"""CIFAR-100 (Krizhevsky 2009): 100 classes of 600 images, 32x32, in several common formats."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vlfew.core.errors import DataError
from vlfew.data.cifar_pickles import read_meta, read_part
from vlfew.data.class_names import display_name
from vlfew.data.decode import is_image
from vlfew.data.image_files import DataFile, digest, list_files
from vlfew.data.image_stores import load_images
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor

NAME = "cifar100"
IMAGES = 60_000
PICKLES = "cifar-100-python"


def read_cifar100(root: Path, preprocessor: ImagePreprocessor, memory_limit_mb: int) -> LabeledImages:
    """Read all images, of the authors' training and test parts together, into one split `all`.

    Three formats are supported: the authors' pickles `train`, `test` and `meta`, in `root` or in
    `root/cifar-100-python`, as stored by torchvision; folders named after the classes, at any depth
    (`train/apple/x.png`, `apple/x.png`); a Hugging Face data set with a column `fine_label`, in parquet or arrow files.
    The fingerprint covers pixels and labels of the pickles, otherwise classes and sizes of the encoded images.

    Args:
        root: the folder.
        preprocessor: size, channels and how to resize.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: another format, damaged files, or an unreadable image.
    """
    for place in (root, root / PICKLES):
        if (place / "meta").is_file():
            return _with_note(_from_pickles(place, preprocessor, memory_limit_mb))
    files = list_files(root)
    if images := [file for file in files if is_image(file.name) and "/" in file.name]:
        return _with_note(_from_folders(images, preprocessor, memory_limit_mb))
    if any(file.name.endswith((".parquet", ".arrow")) for file in files):
        return _with_note(_from_huggingface(root, preprocessor, memory_limit_mb))
    raise DataError(
        f"{root}: contains no CIFAR-100: neither train, test and meta of {PICKLES}, nor folders of images "
        "named after the classes, nor parquet or arrow files"
    )


def _with_note(data: LabeledImages) -> LabeledImages:
    count = len(data.images)
    return data if count == IMAGES else replace(data, note=f"{count:,} of {IMAGES:,} images available")


class _Rows:
    """The images of the authors' array: uint8 `[S, 3072]`, three planes each."""

    def __init__(self, rows: NDArray[np.uint8]) -> None:
        self.planes = rows.reshape(-1, 3, 32, 32)

    def __len__(self) -> int:
        return len(self.planes)

    def __getitem__(self, number: int) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(self.planes[number].transpose(1, 2, 0)))


def _from_pickles(place: Path, preprocessor: ImagePreprocessor, memory_limit_mb: int) -> LabeledImages:
    names = read_meta(place / "meta")
    parts = [read_part(place / part) for part in ("train", "test")]
    rows = np.concatenate([rows for rows, _, _ in parts])
    labels = [label for _, own, _ in parts for label in own]
    content = (zlib.crc32(rows.data), len(rows))
    # Arrays are always readable: none is skipped.
    images, _, _ = load_images(_Rows(rows), preprocessor, NAME, memory_limit_mb, (NAME, content))
    return LabeledImages(
        name=NAME,
        images=images,
        labels=torch.tensor(labels),
        class_names=tuple(display_name(name) for name in names),
        names_are_text=True,
        splits={"all": torch.arange(len(labels))},
        fingerprint=digest(content, labels, names),
        image_names=tuple(name for _, _, own in parts for name in own),
    )


def _from_folders(
    files: list[DataFile], preprocessor: ImagePreprocessor, memory_limit_mb: int
) -> LabeledImages:
    files = sorted(files, key=lambda file: (file.name.split("/")[-2:], file.name))
    folders, names = zip(*(file.name.split("/")[-2:] for file in files), strict=True)
    classes = sorted(set(folders))
    images, numbers, skipped = load_images(files, preprocessor, f"reading {NAME}", memory_limit_mb)
    number = {folder: n for n, folder in enumerate(classes)}
    return LabeledImages(
        name=NAME,
        images=images,
        labels=torch.tensor([number[folder] for folder in folders])[numbers],
        class_names=tuple(display_name(folder) for folder in classes),
        names_are_text=True,
        splits={"all": torch.arange(len(numbers))},
        fingerprint=digest(folders, names, [file.size for file in files], skipped),
        image_names=tuple(names[n] for n in numbers.tolist()),
        skipped=skipped,
    )


def _from_huggingface(root: Path, preprocessor: ImagePreprocessor, memory_limit_mb: int) -> LabeledImages:
    from vlfew.data.huggingface import image_column, open_local
    from vlfew.data.interop import from_huggingface

    parts = open_local(root)
    image = image_column(next(iter(parts.values())).features, None, str(root))
    data = from_huggingface(
        parts, preprocessor, image=image, label="fine_label", name=NAME, memory_limit_mb=memory_limit_mb
    )
    return replace(data, splits={"all": torch.arange(len(data.labels))})
