"""Tables as spreadsheets and programs write them."""

from pathlib import Path

import pytest

from vlfew.core.errors import DataError
from vlfew.data.table_files import FileLookup, is_missing, read_rows, read_text


def rows(path: Path) -> list[dict[str, str]]:
    return [row for _, row in read_rows(path)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_can_be_told_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("file\ttext\nä.png\tein Bär\n", encoding=encoding)
    assert rows(path) == [{"file": "ä.png", "text": "ein Bär"}]


def test_other_encodings_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("file;text\na.png;cat\nä.png;Bär\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"a\.csv:3: not UTF-8; save the file as UTF-8 \(Excel: CSV UTF-8\)"):
        read_text(path)


def test_empty_rows_and_cells_of_a_spreadsheet_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("file;text;;\na.png;cat;;\n;;;\n\n;;;;;\n")
    assert [row["text"] for row in rows(path)] == ["cat"]


def test_a_repeated_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("file,text,Text\na.png,cat,dog\n")
    with pytest.raises(DataError, match="the column 'text' is repeated"):
        rows(path)


def test_values_that_stand_for_none() -> None:
    assert all(map(is_missing, ("", "  ", "nan", "N/A", " null ", "None")))
    assert not any(map(is_missing, ("naan", "Na", "none of them", "0")))


def test_absolute_paths_below_the_folder_are_found(tmp_path: Path) -> None:
    lookup = FileLookup(["cat/1.png"], tmp_path)
    assert lookup.find(str(tmp_path / "cat" / "1.png")) == "cat/1.png"
    assert lookup.find("./cat\\1.png") == "cat/1.png"
    assert lookup.find(str(tmp_path.parent / "cat" / "1.png")) is None
