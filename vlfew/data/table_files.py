"""Small tables that come with data sets: UTF-8 text, CSV and JSON lines, with errors by line."""

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
        DataError: missing, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from None


def rows_csv(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, each with its line number.

    A short row lacks the last columns.

    Raises:
        DataError: not CSV, not UTF-8, or a row with more columns than the header.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        head = next(reader, [])
        for row in reader:
            if len(row) > len(head):
                raise DataError(
                    f"{path}:{reader.line_num}: {len(row)} columns, but the header has {len(head)}; put texts with "
                    "commas in double quotes"
                )
            if row:
                yield reader.line_num, dict(zip(head, row, strict=False))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def rows_jsonl(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The objects of a JSON lines file, each with its line number.

    Raises:
        DataError: a line that is not a JSON object, or not UTF-8.
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
