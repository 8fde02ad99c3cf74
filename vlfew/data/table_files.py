"""Small text files that come with data sets: read as UTF-8, mistakes named by line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from vlfew.core.errors import DataError


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

    A row that is too short lacks the last columns.

    Raises:
        DataError: not CSV, not UTF-8, or a row of more columns than the head has.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        head = next(reader, [])
        for row in reader:
            if len(row) > len(head):
                raise DataError(
                    f"{path}:{reader.line_num}: {len(row)} columns where the head has {len(head)}; texts with "
                    "commas stand in double quotes"
                )
            if row:
                yield reader.line_num, dict(zip(head, row, strict=False))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def rows_jsonl(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The objects of a file that has one on each line, each with the number of its line.

    Raises:
        DataError: a line that is no JSON object, or not UTF-8.
    """
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected an object on each line")
        yield number, row
