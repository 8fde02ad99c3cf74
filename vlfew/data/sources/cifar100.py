"""CIFAR-100 (Krizhevsky 2009): 100 classes of 600 images, 32x32, in two few-shot splits and several common formats.

The authors' pickles `train`, `test` and `meta` may be in the root or in `cifar-100-python`, as stored by torchvision.
Other formats are folders named after the classes, at any depth (`train/apple/x.png`, `apple/x.png`), and a Hugging Face
data set with a column `fine_label`, in parquet or arrow files.

The option `texts` can give a class WordNet's definition as its text. `class_lists/cifar100_wordnet.txt` has the WordNet
number of each class and says how they were chosen. Eight are approximate, because WordNet's own sense of the class is
not among those that timm carries: aquarium fish, baby, boy, dinosaur, forest, man, plate and sea.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vlfew.core.errors import DataError
from vlfew.data.cifar_pickles import read_meta, read_part
from vlfew.data.class_names import display_name, number_classes, same_key
from vlfew.data.class_split import split_by_list
from vlfew.data.data_root import find_data
from vlfew.data.file_hashes import hash_images
from vlfew.data.image_files import DataFile, digest, list_files
from vlfew.data.image_names import is_image
from vlfew.data.image_stores import load_images
from vlfew.data.labeled_images import LabeledImages, missing_note
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.wordnet import TextSource, choose_texts, read_wordnet_numbers, wordnet_definitions

NAME = "cifar100"
IMAGES = 60_000
PICKLES = "cifar-100-python"


def load_cifar_fs(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    texts: TextSource = "names",
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """CIFAR-FS: 600 images per class; groups are the superclasses, which the splits share.

    The split of Bertinetto et al. (2019), "Meta-learning with differentiable closed-form solvers": 64 classes for
    training, 16 for validation, 20 for test, drawn at random.

    Args:
        root: folder of CIFAR-100; None searches for `cifar100` in the usual places.
        preprocessor: size, channels and how to resize.
        texts: texts of a class: its name (`names`), WordNet's `definitions` (names and definition in one, such
            as `sofa, couch, lounge: an upholstered seat for more than one person`), or `both`.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: CIFAR-100 is missing, a class does not belong to it, or an image cannot be read.
    """
    data = split_by_list(_read(find_data("cifar_fs", root), preprocessor, memory_limit_mb), "cifar_fs")
    return _with_texts(data, texts)


def load_fc100(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    texts: TextSource = "names",
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """FC100: 600 images per class; groups are the superclasses.

    The split of Oreshkin et al. (2018), "TADAM: Task dependent adaptive metric for improved few-shot learning": 60
    classes of 12 superclasses for training, 20 of 4 for validation, 20 of 4 for test. No superclass is in two splits,
    which makes it harder than CIFAR-FS.

    Args:
        root: folder of CIFAR-100; None searches for `cifar100` in the usual places.
        preprocessor: size, channels and how to resize.
        texts: texts of a class: its name (`names`), WordNet's `definitions` (names and definition in one, such
            as `sofa, couch, lounge: an upholstered seat for more than one person`), or `both`.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: CIFAR-100 is missing, a class does not belong to it, or an image cannot be read.
    """
    data = split_by_list(_read(find_data("fc100", root), preprocessor, memory_limit_mb), "fc100")
    return _with_texts(data, texts)


def _with_texts(data: LabeledImages, texts: TextSource) -> LabeledImages:
    """The data with the chosen texts; the fingerprint stays, since the images are the same data."""
    if texts == "names":
        return data
    numbers = {same_key(name): wnid for name, wnid in read_wordnet_numbers(NAME).items()}
    definitions = wordnet_definitions([numbers[same_key(name)] for name in data.class_names], data.name)
    return replace(data, class_texts=choose_texts(texts, data.class_texts, definitions))


def _read(root: Path, preprocessor: ImagePreprocessor, memory_limit_mb: int) -> LabeledImages:
    """All images, of the authors' training and test parts together, in one split `all`.

    The fingerprint covers pixels and labels of the pickles, otherwise classes and sizes of the encoded images.
    """
    pickles = next((place for place in (root, root / PICKLES) if (place / "meta").is_file()), None)
    files = list_files(root)
    images = [file for file in files if is_image(file.name) and "/" in file.name]
    if pickles is not None:
        data = _from_pickles(pickles, preprocessor, memory_limit_mb)
    elif images:
        data = _from_folders(images, preprocessor, memory_limit_mb)
    elif any(file.name.endswith((".parquet", ".arrow")) for file in files):
        data = _from_huggingface(root, preprocessor, memory_limit_mb)
    else:
        raise DataError(
            f"{root}: contains no CIFAR-100: neither train, test and meta of {PICKLES}, nor folders of images "
            "named after the classes, nor parquet or arrow files"
        )
    return replace(data, note=missing_note(images=(len(data.images), IMAGES)))


def _from_pickles(place: Path, preprocessor: ImagePreprocessor, memory_limit_mb: int) -> LabeledImages:
    names = read_meta(place / "meta")
    parts = [read_part(place / part) for part in ("train", "test")]
    rows = np.concatenate([rows for rows, _, _ in parts])
    labels = [label for _, own, _ in parts for label in own]
    # Stored as a red, a green and a blue plane. Arrays are always readable: none is skipped.
    pixels = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    hashes = hash_images(torch.from_numpy(pixels)).tolist()
    images = load_images(pixels, preprocessor, NAME, memory_limit_mb, hashes).images
    return LabeledImages(
        name=NAME,
        images=images,
        labels=torch.tensor(labels),
        class_names=tuple(display_name(name) for name in names),
        class_texts=tuple((display_name(name),) for name in names),
        splits={"all": torch.arange(len(labels))},
        fingerprint=digest(hashes, labels, names),
        image_names=tuple(name for _, _, own in parts for name in own),
    )


def _from_folders(
    files: list[DataFile], preprocessor: ImagePreprocessor, memory_limit_mb: int
) -> LabeledImages:
    files = sorted(files, key=lambda file: (file.name.split("/")[-2:], file.name))
    folders, names = zip(*(file.name.split("/")[-2:] for file in files), strict=True)
    classes, labels = number_classes(folders)
    images, numbers, skipped, hashes = load_images(files, preprocessor, f"reading {NAME}", memory_limit_mb)
    return LabeledImages(
        name=NAME,
        images=images,
        labels=labels[numbers],
        class_names=tuple(display_name(folder) for folder in classes),
        class_texts=tuple((display_name(folder),) for folder in classes),
        splits={"all": torch.arange(len(numbers))},
        fingerprint=digest(folders, names, hashes, skipped),
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
