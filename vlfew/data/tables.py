"""Small text files that come with data sets: read as UTF-8, mistakes named by line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from vlfew.errors import DataError


def read_text(path: Path) -> str:
    """The text of a file, without a byte order mark.

    Raises:
        DataError: not there, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from None


def rows_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a head line, each with the number of its line.

    A row that is too short lacks the last columns; what a row has too much is left out.

    Raises:
        DataError: not CSV, or not UTF-8.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        head = next(reader, [])
        for row in reader:
            if row:
                yield reader.line_num, dict(zip(head, row, strict=False))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV: {error}") from None
