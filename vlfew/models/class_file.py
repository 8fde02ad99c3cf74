"""Class files: which classes there are, each said in words, images or both, told apart by key.

mug:
  images: mugs/*.jpg
cat:
  text: a photo of a cat
  images: [tom.jpg, more_cats/]
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from vlfew.core.errors import DataError, did_you_mean
from vlfew.core.yaml_loader import TextLoader, problem_of
from vlfew.data.decode import IMAGE_SUFFIXES
from vlfew.models.inputs import check_texts

SHOWN = 5
"""Most names of classes that a message lists."""


def read_class_file(path: Path) -> dict[str, list[str | Path]]:
    """Class name to texts (`str`) and images (`Path`); relative paths are to the file's own folder.

    Raises:
        DataError: names the class and what is wrong with it.
    """
    try:
        # Names and texts stay what they are.
        said = yaml.load(path.read_text(encoding="utf-8"), TextLoader)
    except FileNotFoundError:
        raise DataError(f"{path}: no such class file") from None
    except yaml.YAMLError as error:
        raise DataError(problem_of(path, error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}") from None
    if not isinstance(said, dict) or not said:
        raise DataError(f"{path}: expected classes, each with 'text:' or 'images:' or both")
    return {name: _items(name, value, path) for name, value in said.items()}


def unequal_kinds(classes: dict[str, list[str | Path]]) -> str:
    """What to know where classes said in words alone stand beside classes said in images; else ""."""
    words = [name for name, said in classes.items() if all(isinstance(item, str) for item in said)]
    images = [name for name in classes if name not in words]
    if not (words and images):
        return ""

    def some(names: list[str]) -> str:
        return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

    return (
        f"classes said in words alone ({some(words)}) will seldom win against classes said in images "
        f"({some(images)}): an image is closer to images than to words; give all the same kinds"
    )


def _items(name: str, value: Any, path: Path) -> list[str | Path]:
    where = f"{path}: class {name!r}"
    if not isinstance(value, dict):
        words = value if isinstance(value, str) else name
        raise DataError(f"{where} must have 'text:' or 'images:' or both, such as {name}: {{text: {words}}}")
    for key in value:
        if key not in ("text", "images"):
            raise DataError(f"{where} has an unknown key {key!r}{did_you_mean(key, ('text', 'images'))}")
    texts = _strings(value.get("text", []), f"{where}: 'text'")
    patterns = _strings(value.get("images", []), f"{where}: 'images'")
    if not texts and not patterns:
        raise DataError(f"{where} is described by nothing: give it 'text:' or 'images:' or both")
    check_texts(texts, f"{where}: ", path.parent)
    try:
        return [*texts, *find_images(patterns, path.parent)]
    except DataError as error:
        raise DataError(f"{where}: {error} ('images:' names images; words stand under 'text:')") from None


def _strings(value: Any, where: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, str) and v.strip() for v in values):
        raise DataError(f"{where} must be a string or a list of strings, none of them empty")
    return values


def find_images(patterns: Iterable[str], root: Path = Path()) -> list[Path]:
    """Image files for file names, folders (searched whole) and globs, in order, each once.

    Raises:
        DataError: a pattern that gives no image.
    """
    found: list[Path] = []
    for pattern in patterns:
        path = root / Path(pattern).expanduser()
        if path.is_dir():
            matches = sorted(p for p in path.rglob("*") if _is_image(p))
        elif path.is_file():
            matches = [path]
        else:
            anchor = Path(path.anchor) if path.is_absolute() else Path()
            parts = str(path.relative_to(anchor) if path.is_absolute() else path)
            matches = sorted(p for p in anchor.glob(parts) if _is_image(p)) if parts != "." else []
        if not matches:
            kind = "folder has no images" if path.is_dir() else "no such image, folder or match"
            raise DataError(f"{path}: {kind}")
        found += matches
    return list(dict.fromkeys(found))


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
