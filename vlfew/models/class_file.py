"""Class files: YAML with the texts and images of each class, in which each class appears once.

mug:
  images: mugs/*.jpg
cat:
  text: a photo of a cat
  images: [tom.jpg, more_cats/]

Or a folder, with a folder of images for each class, as the data source `folder` reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from vlfew.core.errors import DataError, did_you_mean
from vlfew.core.paths import user_path
from vlfew.core.yaml_loader import TextLoader, yaml_problem
from vlfew.data.class_names import check_distinct_names
from vlfew.data.image_files import DataFile, hidden, is_image_file, list_files
from vlfew.data.sources import folder
from vlfew.data.table_files import read_text
from vlfew.models.inputs import check_texts

MAX_LISTED = 5
"""Most class names that a message lists."""


def read_class_file(path: Path, others: list[Path] | None = None) -> dict[str, list[str | Path]]:
    """Reads the texts (`str`) and images (`Path`) of each class; relative paths are relative to the file.

    Args:
        path: the class file, or a folder of class folders, whose texts are those of `classes.yaml` in it.
        others: receives the files that are next to the images in folders and globs, and are no images.

    Raises:
        DataError: names the class and what is wrong with it.
    """
    others = [] if others is None else others
    if path.is_dir():
        return _read_class_folders(path, others)
    try:
        if not path.exists():
            raise DataError(f"{path}: there is no such class file")
        classes = yaml.load(read_text(path), TextLoader)  # names and texts stay strings
    except yaml.YAMLError as error:
        raise DataError(yaml_problem(path, error)) from None
    if not isinstance(classes, dict) or not classes:
        raise DataError(f"{path}: expected classes, each with 'text:' or 'images:' or both")
    check_distinct_names(classes, str(path))
    return {name: _read_items(name, value, path, others) for name, value in classes.items()}


def _read_class_folders(root: Path, others: list[Path]) -> dict[str, list[str | Path]]:
    """The items of each class in a folder of class folders."""
    content = folder.check(root)
    if split := next((image.split for image in content.images if image.split), ""):
        raise DataError(
            f"{root}: there are split folders; give the one with your classes, such as the {split} folder"
        )
    others += [root / name for name in content.set_aside]
    classes: dict[str, list[str | Path]] = {}
    for image in content.images:
        classes.setdefault(image.folder, [*content.named.get(image.folder, ())]).append(
            root / image.file.name
        )
    return classes


def mixed_modality_warning(classes: dict[str, list[str | Path]]) -> str:
    """A warning where some classes have only texts and others images; else ""."""
    texts = [name for name, items in classes.items() if all(isinstance(item, str) for item in items)]
    images = [name for name in classes if name not in texts]
    if not (texts and images):
        return ""

    def listed(names: list[str]) -> str:
        more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
        return ", ".join(names[:MAX_LISTED]) + more

    return (
        f"classes with only texts ({listed(texts)}) will seldom win against classes with images ({listed(images)}), "
        "because an image is closer to images than to texts; give every class the same kinds of items"
    )


def _read_items(name: str, value: Any, path: Path, others: list[Path]) -> list[str | Path]:
    where = f"{path}: class {name!r}"
    if not isinstance(value, dict):
        text = value if isinstance(value, str) else name
        raise DataError(f"{where} must have 'text:' or 'images:' or both, such as {name}: {{text: {text}}}")
    for key in value:
        if key not in ("text", "images"):
            raise DataError(f"{where} has an unknown key {key!r}{did_you_mean(key, ('text', 'images'))}")
    texts = _string_list(value.get("text", []), f"{where}: 'text'")
    patterns = _string_list(value.get("images", []), f"{where}: 'images'")
    if not texts and not patterns:
        raise DataError(f"{where} is empty; add 'text:' or 'images:' or both")
    check_texts(texts, f"{where}: ", path.parent)
    try:
        return [*texts, *find_images(patterns, path.parent, others)]
    except DataError as error:
        raise DataError(f"{where}: {error} ('images:' lists image files; texts go under 'text:')") from None


def _string_list(value: Any, where: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, str) and v.strip() for v in values):
        raise DataError(f"{where} must be a string or a list of strings, none of them empty")
    return values


def find_images(patterns: Iterable[str], root: Path = Path(), others: list[Path] | None = None) -> list[Path]:
    """Image files of file names, folders (with their subfolders) and globs, in order, each once.

    Args:
        patterns: what to look for.
        root: that they are relative to.
        others: receives the files of folders and globs that are no images, or hidden.

    Raises:
        DataError: a pattern without an image.
    """
    found: list[Path] = []
    for pattern in patterns:
        if not str(pattern):
            raise DataError("the name of an image is empty; fill it in")
        path = root / user_path(pattern)
        if path.is_file():
            found.append(path)
            continue
        if path.is_dir():
            hidden_files: list[str] = []
            files = [path / file.name for file in list_files(path, hidden_files)]
            rest = [path / name for name in hidden_files]
        else:
            anchor = Path(path.anchor)  # empty for relative paths
            matches = anchor.glob(str(path.relative_to(anchor)))
            files, rest = sorted(p for p in matches if p.is_file() and not hidden(p.name)), []
        images = [p for p in files if is_image_file(DataFile(p.name, 0, (), p.parent))]
        if others is not None:
            others += sorted({*files, *rest} - set(images))
        if not images:
            kind = "folder has no images" if path.is_dir() else "no such image, folder or match"
            raise DataError(f"{path}: {kind}")
        found += images
    return list(dict.fromkeys(found))
