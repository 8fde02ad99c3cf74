"""Files of a folder or archive: hidden files and unusable names are reported, system data is ignored."""

import os
from pathlib import Path
from zipfile import ZipFile

import pytest

from vlfew.core.errors import DataError
from vlfew.data import ImagePreprocessor
from vlfew.data.decode import read_image
from vlfew.data.image_files import list_files

SYSTEM = (
    ".DS_Store",
    ".git/a.png",
    "__MACOSX/cat/._a.png",
    "cat/Icon\r",
    "cat/@eaDir/1.png/SYNOPHOTO_THUMB.jpg",
)
HIDDEN = ("cat/.x.png", ".old/a.png", ".old/b/c.png")
VISIBLE = ("a/b/c.png", "cat/1.png", "loose.png", "naïve 🐈\u200d⬛ 猫/é.png", "x__MACOSX/1.png")


def test_hidden_files_in_folders_and_archives_are_named_and_system_data_ignored(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in (*SYSTEM, *HIDDEN, *VISIBLE):
            path = tmp_path / "folder" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            archive.writestr(name, name)
    for place in (tmp_path / "folder", tmp_path / "a.zip"):
        hidden: list[str] = []
        files = list_files(place, hidden)
        assert hidden == [".old/", "cat/.x.png"]
        assert [file.name for file in files] == sorted(VISIBLE)
        assert [file.read().decode() for file in files] == sorted(VISIBLE)
        assert [file.size for file in files] == [len(name.encode()) for name in sorted(VISIBLE)]


def test_links_are_followed_without_loops(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "1.png").write_text("x")
    for name, to in (
        ("loop", "."),
        ("cat/up", ".."),
        ("itself.png", "itself.png"),
        ("there.png", "back.png"),
        ("back.png", "there.png"),
        ("nowhere.png", "none.png"),
        ("also.png", "cat/1.png"),
    ):
        (folder / name).symlink_to(to)
    os.mkfifo(folder / "pipe.png")
    broken = ["back.png", "itself.png", "nowhere.png", "there.png"]
    assert [file.name for file in list_files(folder)] == sorted(["also.png", "cat/1.png", *broken])
    for file in list_files(folder):
        if file.name in broken:
            with pytest.raises(
                DataError, match=rf"{file.name}: cannot be read: .*(No such file|Too many levels)"
            ):
                read_image(file, ImagePreprocessor(8, 1))


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\nb", b"a\x1b[31mb", b"\x7f"])
def test_names_with_control_characters_are_reported_printably(name: bytes, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(name)).mkdir()
    (tmp_path / os.fsdecode(name) / "1.png").write_text("x")
    with pytest.raises(DataError, match=r"names with control characters, .*: '.*/1\.png'; rename") as caught:
        list_files(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_a_folder_without_read_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_text("x")
    for mode in (0o000, 0o444):
        (tmp_path / "cat").chmod(mode)
        try:
            with pytest.raises(DataError, match=r"cat\S*: cannot be read: Permission denied"):
                list_files(tmp_path)
        finally:
            (tmp_path / "cat").chmod(0o755)


def test_a_file_that_is_not_an_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("text")
    with pytest.raises(DataError, match=r"a\.zip: not a readable zip archive"):
        list_files(tmp_path / "a.zip")
