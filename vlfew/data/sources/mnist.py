"""MNIST (LeCun et al. 1998): 70,000 handwritten digits, 28x28, gray, light on dark.

Reads the four IDX files, compressed (`.gz`) or not, as published or as stored by torchvision.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.core.random import generator_at
from vlfew.data.data_root import find_data
from vlfew.data.image_files import digest
from vlfew.data.image_stores import SquareImages
from vlfew.data.labeled_images import LabeledImages, missing_note
from vlfew.data.preprocess import ImagePreprocessor

ALSO = ("MNIST",)
FOLDERS = ("", "raw", "MNIST/raw")
SIZE = 28
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_MAGIC = {"images": 2051, "labels": 2049}
"""The first four bytes of an IDX file: unsigned bytes, in three dimensions or one."""


STEMS = {"train": "train", "test": "t10k"}
"""Of the file names of each split."""
IMAGES = {"train": 60_000, "test": 10_000}
Draw = Literal["all", "small", "thousand"]


def load(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    draw: Draw = "all",
    ink: Literal["light", "dark"] = "light",
) -> LabeledImages:
    """MNIST digits, training images first; images are resized on demand.

    Both splits have the same ten classes. The fingerprint covers pixels (before resizing), labels and
    splits; it is the same for compressed and uncompressed files.

    Args:
        root: folder of the IDX files; None searches the usual places.
        preprocessor: size and channels.
        draw: size of the subset: `all`, `small` (600 training and 100 test images of every digit, drawn from the seed)
            or `thousand` (100 and 100).
        ink: `dark` inverts the images, for a model that was trained on dark ink.

    Raises:
        DataError: a file is missing, truncated or of another kind, or there are too few images of a digit.
    """
    parts = check(find_data("mnist", root, ALSO))
    available = {split: len(labels) for split, (_, labels) in parts.items()}
    if draw != "all":
        for split, (images, labels) in parts.items():
            index = _draw(labels, split, draw, preprocessor.seed)
            parts[split] = images[index], labels[index]
    pixels = torch.cat([images for images, _ in parts.values()])
    if ink == "dark":
        pixels = 255 - pixels
    labels = torch.cat([of_split for _, of_split in parts.values()])
    sizes = [len(of_split) for _, of_split in parts.values()]
    content = hashlib.sha256(pixels.numpy().data).hexdigest()
    few = [missing_note(**{f"{split} images": (available[split], IMAGES[split])}) for split in IMAGES]
    return LabeledImages(
        name="mnist",
        images=SquareImages(pixels, preprocessor),
        labels=labels,
        class_names=NAMES,
        splits=dict(zip(parts, torch.arange(len(labels)).split(sizes), strict=True)),
        fingerprint=digest(content, labels.tolist(), sizes),
        split_by="image",
        class_texts=tuple((word, str(digit), f"digit {word}") for digit, word in enumerate(NAMES)),
        note="; ".join(filter(None, few)),
    )


def check(root: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Images, uint8 `[S, 28, 28]`, and labels, int64 `[S]`, of both splits.

    Raises:
        DataError: see `load`.
    """
    folders = [root / below for below in FOLDERS]
    folder = next((f for f in folders if any(any(f.glob(f"{stem}-*")) for stem in STEMS.values())), root)
    return {split: _read_part(folder, stem) for split, stem in STEMS.items()}


def _read_part(folder: Path, stem: str) -> tuple[Tensor, Tensor]:
    path, pixels = _read(folder, stem, "images")
    labels_path, labels = _read(folder, stem, "labels")
    if pixels.shape[1:] != (SIZE, SIZE):
        raise DataError(f"{path}: images of {pixels.shape[1]}x{pixels.shape[2]} pixels, not {SIZE}x{SIZE}")
    if len(pixels) != len(labels):
        raise DataError(f"{path} holds {len(pixels):,} images, but {labels_path.name} {len(labels):,} labels")
    if len(labels) == 0:
        raise DataError(f"{path} holds no images")
    if labels.max() >= len(NAMES):
        odd = int((labels >= len(NAMES)).argmax())
        raise DataError(f"{labels_path}: label {labels[odd]} of image {odd} is not a digit")
    return torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64))


def _read(folder: Path, stem: str, kind: Literal["images", "labels"]) -> tuple[Path, np.ndarray]:
    """An IDX file and its content, uint8 `[S, H, W]` or `[S]`."""
    dimensions = 3 if kind == "images" else 1
    name = f"{stem}-{kind}-idx{dimensions}-ubyte"
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise DataError(f"mnist: neither {name} nor {name}.gz in {folder}")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: truncated, damaged or not gzip: {error}; download it again") from None
    header = 4 * (1 + dimensions)
    magic, *shape = np.frombuffer(content[:header].ljust(header, b"\0"), ">u4").tolist()
    if magic != _MAGIC[kind]:
        raise DataError(
            f"{path}: starts with {magic} instead of {_MAGIC[kind]}, the magic number of IDX {kind}"
        )
    if len(content) - header != math.prod(shape):
        raise DataError(
            f"{path}: {len(content) - header:,} bytes after the header, which announces "
            f"{' x '.join(f'{n:,}' for n in shape)}; download it again"
        )
    return path, np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def _draw(labels: Tensor, split: str, draw: Draw, seed: int) -> Tensor:
    """Image numbers of a subset with equally many images of every digit, ascending."""
    count = IMAGES[split] // 100 if draw == "small" else 100
    drawn = []
    for digit, word in enumerate(NAMES):
        own = (labels == digit).nonzero().flatten()
        if len(own) < count:
            raise DataError(
                f"mnist: draw={draw} needs {count} {split} images of {word!r}, but there are {len(own)}"
            )
        order = generator_at(seed, "mnist", split, digit).permutation(len(own))
        drawn.append(own[torch.from_numpy(order[:count])])
    return torch.cat(drawn).sort().values
