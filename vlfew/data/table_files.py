"""Small tables that come with data sets: UTF-8 text, CSV and JSON lines, with errors by line."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vlfew.core.errors import DataError

NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
MISSING = frozenset(
    ["", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaT", "null", "NULL", "None", "~"]
)
"""What programs write where there is no text."""


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark, as Excel's "Unicode text".

    Raises:
        DataError: missing, or of another encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return content.decode("utf-16" if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: not UTF-8; save the file as UTF-8 (Excel: CSV UTF-8)") from None


def is_missing(text: str) -> bool:
    """Whether a text means none: it is empty, or what programs write for a missing value, such as `nan`."""
    return text.strip() in MISSING


def read_json_mapping(path: Path) -> dict[str, Any]:
    """A JSON object in which no key is repeated.

    Raises:
        DataError: missing, not UTF-8, not such an object, or a repeated key, of which JSON would keep the last.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        if repeated:
            raise DataError(f"{path}: the key {repeated[0]!r} is repeated; remove one")
        return dict(pairs)

    try:
        content = json.loads(read_text(path), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise DataError(f"{path}: not JSON that can be read: nested too deep") from None
    if not isinstance(content, dict):
        raise DataError(f'{path}: expected a JSON object, such as {{"n02099601": "golden retriever"}}')
    return content


def read_rows(path: Path, needed: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file with a header, or of JSON lines, each with its place `file:line`.

    A short row of a CSV file lacks the last columns; a row without any text is no row.

    Args:
        path: of the file; `.jsonl` is JSON lines, any other CSV.
        needed: columns that must have text in every row.

    Raises:
        DataError: not CSV, not JSON objects, not UTF-8, a row with more columns than the header, or a needed column is
            missing.
    """
    for line, row in _json_rows(path) if path.suffix.lower() == ".jsonl" else _csv_rows(path):
        where = f"{path}:{line}"
        for column in needed:
            if column not in row:
                columns = f"{' and '.join(needed)} are needed, got {', '.join(row)}"
                raise DataError(f"{where}: no {column!r}: {columns}")
            if not isinstance(row[column], str):
                hint = "; give each its own row" if isinstance(row[column], list) else ""
                raise DataError(f"{where}: {column!r} is {row[column]!r:.60}, but must be one text{hint}")
        yield where, row


class FileLookup:
    """Finds the file that a table means, among those there are.

    Names are compared in Unicode's composed form, as an unpacked archive and a typed table may differ in it, and with
    forward slashes; an absolute path is one below the folder.

    Args:
        names: of the files, relative to the table's folder.
        folder: the table's.
        outside: whether files outside the folder are found too.
    """

    def __init__(self, names: Iterable[str], folder: Path, outside: bool = False) -> None:
        self.folder, self.outside = folder, outside
        self.start = f"{folder.absolute().as_posix()}/"
        self.names = {unicodedata.normalize("NFC", name): name for name in names}

    def find(self, written: str) -> str | None:
        """The name of the file; None if there is none."""
        for text in (written.strip(), written.strip().replace("\\", "/")):
            path = posixpath.normpath(text).removeprefix(self.start)
            name = self.names.get(unicodedata.normalize("NFC", path))
            if name is not None:
                return name
        outside = posixpath.normpath(written.strip())
        if self.outside and outside.startswith(("..", "/")) and "\0" not in outside:
            return outside if (self.folder / outside).is_file() else None
        return None


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a table with commas, semicolons or tabs, whichever its header has most; column names in lower case."""
    text = read_text(path)
    header = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        head = [name.strip().lower() for name in next((row for row in reader if row), [])]
        if repeated := [name for name, count in Counter(filter(None, head)).items() if count > 1]:
            raise DataError(f"{path}: the column {repeated[0]!r} is repeated; remove one")
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if any(cell.strip() for cell in row[len(head) :]):
                raise DataError(
                    f"{path}:{reader.line_num}: {len(row)} columns, but the header has {len(head)}; put texts with "
                    f"{NAMES[delimiter]} in double quotes"
                )
            yield reader.line_num, dict(zip(head, row, strict=False))
    except csv.Error as error:
        raise DataError(
            f'{path}:{reader.line_num}: not CSV: {error}; a text with double quotes is written "so ""quoted"""'
        ) from None


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
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
