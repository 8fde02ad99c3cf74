"""Read the authors' pickles of CIFAR-100 without executing anything.

A pickle is a program that may call anything it can name. Here it can name five things, all of them placeholders that
only store what they receive.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlfew.core.errors import DataError, first_line

PLANES = 3 * 32 * 32
"""Bytes of an image: a red, a green and a blue plane of 32 x 32."""


def read_meta(path: Path) -> list[str]:
    """The names of the 100 classes, by number.

    Raises:
        DataError: not the content of `meta`.
    """
    names = _read(path).get("fine_label_names")
    if not isinstance(names, list) or len(names) != 100 or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: expected fine_label_names, a list of 100 names")
    return names


def read_part(path: Path) -> tuple[NDArray[np.uint8], list[int], list[str]]:
    """Images uint8 `[S, 3072]`, their class numbers and their file names.

    Raises:
        DataError: not the content of `train` or `test`.
    """
    content = _read(path)
    array, labels, names = (content.get(key) for key in ("data", "fine_labels", "filenames"))
    if not isinstance(array, _Array):
        raise DataError(f"{path}: expected data, an array")
    rows = array.rows(path)
    if not isinstance(labels, list) or len(labels) != len(rows) or not all(map(_is_class, labels)):
        raise DataError(f"{path}: expected fine_labels, {len(rows):,} numbers from 0 to 99")
    if not isinstance(names, list) or len(names) != len(rows) or not all(isinstance(n, str) for n in names):
        raise DataError(f"{path}: expected filenames, {len(rows):,} names")
    return rows, labels, names


def _is_class(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 100


class _Array:
    """Placeholder for a numpy array, and for the function that creates one in a pickle."""

    state: Any = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state

    def rows(self, path: Path) -> NDArray[np.uint8]:
        """uint8 `[S, 3072]`."""
        match self.state:
            case (_, (int(count), int(width)), _DataType(code="u1"), False, bytes() | str() as raw):
                content = raw.encode("latin1") if isinstance(raw, str) else raw
                if width == PLANES and count * width == len(content):
                    return np.frombuffer(content, np.uint8).reshape(count, width)
        raise DataError(f"{path}: expected data, bytes in rows of {PLANES:,}")


class _DataType:
    """Placeholder for a numpy data type."""

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass


def _encode(text: object, encoding: object) -> bytes:
    """Placeholder for the encoding of bytes in pickles that Python 2 can read."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("bytes that are not encoded as latin1")
    return text.encode("latin1")


_KNOWN = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DataType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"rejected: it uses {module}.{name}, which CIFAR-100 does not need")
        return _KNOWN[module, name]


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            # Written by Python 2, whose strings are bytes.
            content = _Reader(file, encoding="latin1").load()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # damaged bytes can raise anything
        raise DataError(f"{path}: not a pickle of CIFAR-100: {first_line(error)}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a pickle of CIFAR-100: expected a dictionary")
    return content
