"""Files are written completely or not at all."""

from pathlib import Path

import pytest

from vlfew.core.errors import VlfewError
from vlfew.core.files import atomic_file, write_atomic


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    write_atomic(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("half of")
        raise ZeroDivisionError
    assert path.read_text() == "old" and [p.name for p in path.parent.iterdir()] == ["figures.json"]


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(VlfewError, match=r"is a folder, not a file"):
        write_atomic(tmp_path, "new")
