"""flickr8k and flickr30k: photographs with five captions each, as their authors or others hand them out, read in place.

Captions and splits are in either of two forms, at any depth, and the images anywhere beside them:

- `dataset_flickr8k.json` or `dataset_flickr30k.json` of Karpathy and Fei-Fei (2015), captions and splits in one file;
- for Flickr8k, captions in `Flickr8k.token.txt` (or `captions.txt` with the columns `image` and `caption`), and splits
  in `Flickr_8k.trainImages.txt`, `Flickr_8k.devImages.txt` and `Flickr_8k.testImages.txt`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vlfew.core.errors import DataError
from vlfew.core.plurals import first_names
from vlfew.data.data_root import find_data
from vlfew.data.image_files import DataFile, list_files
from vlfew.data.image_names import is_image
from vlfew.data.labeled_images import LabeledImages, missing_note
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.sources.captions import CaptionedImage, captioned_images
from vlfew.data.table_files import read_rows, read_text

LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
TOKENS, TABLE = "Flickr8k.token.txt", "captions.txt"


def load_flickr8k(
    root: Path | None, preprocessor: ImagePreprocessor, *, memory_limit_mb: int = 2048
) -> LabeledImages:
    """Flickr8k (Hodosh et al. 2013): 6,000 images for training, 1,000 for validation, 1,000 for test.

    Every image is a class, and its captions are the texts of the class. Images that are in no split are left out.

    Args:
        root: folder with images, captions and splits; None searches the usual places.
        preprocessor: size, channels and how to resize.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: captions, splits or all images are missing; an image without captions, in two splits or there twice;
            an unreadable image.
    """
    return _load("flickr8k", root, preprocessor, memory_limit_mb)


def load_flickr30k(
    root: Path | None, preprocessor: ImagePreprocessor, *, memory_limit_mb: int = 2048
) -> LabeledImages:
    """Flickr30k (Young et al. 2014) in the split of Karpathy and Fei-Fei (2015): 29,000, 1,014 and 1,000 images.

    Every image is a class, and its captions are the texts of the class.

    Args:
        root: folder with images and `dataset_flickr30k.json`; None searches the usual places.
        preprocessor: size, channels and how to resize.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: captions or all images are missing; an image that is in two splits or there twice; an unreadable
            image.
    """
    return _load("flickr30k", root, preprocessor, memory_limit_mb)


def _load(
    name: str, root: Path | None, preprocessor: ImagePreprocessor, memory_limit_mb: int
) -> LabeledImages:
    content = check(name, find_data(name, root))
    return captioned_images(name, content.images, preprocessor, memory_limit_mb, note=content.note)


class FlickrFiles(NamedTuple):
    """The images of the splits that are there, and a note on how many are missing, if any are."""

    images: list[CaptionedImage]
    note: str


class _Entry(NamedTuple):
    """An image as the lists have it."""

    file: str
    split: str
    captions: list[str]


def check(name: str, root: Path) -> FlickrFiles:
    """Read captions and splits and find the images, without decoding them.

    Raises:
        DataError: see `load_flickr8k`.
    """
    files = list_files(root)
    texts = {Path(file.name).name: root / file.name for file in files if not is_image(file.name)}
    karpathy = f"dataset_{name}.json"
    if karpathy in texts:
        entries = list(_karpathy(texts[karpathy]))
    elif name == "flickr8k" and (tables := [texts[t] for t in (TOKENS, TABLE) if t in texts]):
        entries = list(_authors(root, tables[0], texts))
    else:
        other = f" nor {TOKENS} with {', '.join(LISTS.values())}" * (name == "flickr8k")
        raise DataError(
            f"{root}: contains neither {karpathy}{other}" if other else f"{root}: lacks {karpathy}"
        )
    places: dict[str, DataFile] = {}
    for file in files:
        own = Path(file.name).name
        if is_image(own) and places.setdefault(own, file) is not file:
            raise DataError(f"{root}: {own} is there twice: {places[own].name} and {file.name}; remove one")
    images = [
        CaptionedImage(places[one.file], one.split, one.captions) for one in entries if one.file in places
    ]
    if not images:
        raise DataError(
            f"{root}: contains none of the {len(entries):,} images of {name} ({first_names([entries[0].file])} ...)"
            if entries
            else f"{root}: lists no images of {name}"
        )
    return FlickrFiles(images, missing_note(images=(len(images), len(entries))))


def _karpathy(path: Path) -> Iterator[_Entry]:
    """The images of Karpathy's JSON; `restval`, the rest of COCO's validation images, is for training."""
    try:
        listed: list[dict[str, Any]] = json.loads(read_text(path))["images"]
        entries = [
            _Entry(
                str(one["filename"]),
                {"restval": "train"}.get(one["split"], one["split"]),
                [str(sentence["raw"]).strip() for sentence in one["sentences"]],
            )
            for one in listed
        ]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a list of images as by Karpathy and Fei-Fei (images with filename, split, sentences): "
            f"{error!r}"
        ) from None
    return iter(entries)


def _authors(root: Path, table: Path, texts: dict[str, Path]) -> Iterator[_Entry]:
    """The images of the three lists, with their captions."""
    missing = [file for file in LISTS.values() if file not in texts]
    if missing:
        raise DataError(
            f"{root}: contains {table.name}, but not {first_names(missing)}, which gives the split"
        )
    captions: dict[str, list[str]] = {}
    for image, caption in _tokens(table) if table.name == TOKENS else _table(table):
        captions.setdefault(image, []).append(caption)
    seen: dict[str, str] = {}
    for split, file in LISTS.items():
        for image in filter(None, map(str.strip, read_text(texts[file]).splitlines())):
            if image in seen:
                raise DataError(f"{texts[file]}: {image} is already in {seen[image]}")
            if image not in captions:
                raise DataError(f"{texts[file]}: {image} has no caption in {table.name}")
            seen[image] = file
            yield _Entry(image, split, captions[image])


def _tokens(path: Path) -> Iterator[tuple[str, str]]:
    """Image and caption of each line `1000268201_693b08cb0e.jpg#0<tab>A child ...`."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        image, tab, caption = line.partition("\t")
        if not tab or "#" not in image or not caption.strip():
            raise DataError(f"{path}:{number}: expected image#number, a tab and a caption, got {line[:60]!r}")
        yield image.rpartition("#")[0], caption.strip()


def _table(path: Path) -> Iterator[tuple[str, str]]:
    """Image and caption of each row of a table."""
    for _, row in read_rows(path, ("image", "caption")):
        yield row["image"].strip(), row["caption"].strip()
