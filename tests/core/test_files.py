"""Files are written completely or not at all."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch

from vlfew.core.errors import VlfewError, WriteError
from vlfew.core.files import (
    append_line,
    atomic_file,
    check_writable,
    keeping,
    sha256,
    write_atomic,
    write_errors,
    write_tensors,
)


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


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no space for files whose name begins with `big`."""
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(target).name.startswith("big"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)


@pytest.mark.usefixtures("full")
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        WriteError, match=r"big\.json cannot be written: the disk is full \(5\.0 kB are needed, .* free\)"
    ):
        write_atomic(tmp_path / "big.json", "x" * 5000)
    with pytest.raises(WriteError, match="the disk is full"):
        write_tensors(tmp_path / "big.safetensors", {"a": torch.zeros(2)}, description={"format": 1})
    assert not list(tmp_path.iterdir())


def test_tensors_and_their_description_are_replaced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, description = tmp_path / "model.safetensors", tmp_path / "model.json"
    write_tensors(weights, {"a": torch.zeros(2)}, description={"format": 1})
    before = weights.read_bytes(), description.read_bytes()
    assert json.loads(before[1]) == {"sha256": sha256(weights), "format": 1}

    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", refuse)  # the weights have found space, the description does not
    with pytest.raises(WriteError, match="the disk is full"):
        write_tensors(weights, {"a": torch.ones(2)}, description={"format": 2})
    assert (weights.read_bytes(), description.read_bytes()) == before


def test_errors_of_safetensors_and_of_quotas_are_of_the_same_kind(tmp_path: Path) -> None:
    for error, why in (
        (
            RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "disk is full",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota is used up"),
        (OSError(errno.EFBIG, "File too large"), "may not become that large"),
    ):
        with pytest.raises(WriteError, match=why), write_errors(tmp_path / "x"):
            raise error
    with pytest.raises(RuntimeError, match="another mistake"), write_errors(tmp_path / "x"):
        raise RuntimeError("another mistake")


def test_an_error_says_what_is_kept(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteError, match=r"disk is full.*; half of it is kept"),
        keeping(tmp_path / "x", lambda: "half of it is kept"),
    ):
        raise OSError(errno.ENOSPC, "of another library")
    with pytest.raises(FileNotFoundError), keeping(tmp_path / "x", lambda: "nothing"):
        open(tmp_path / "missing").close()


def test_a_place_that_takes_no_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(WriteError, match=rf"{file} is a file, not a folder$"):
        write_atomic(file / "new" / "a.json", "")
    with pytest.raises(WriteError, match=rf"{file} is a file, not a folder; name another place with --out"):
        check_writable(file / "new" / "a.json", "--out")
    check_writable(tmp_path / "new" / "newer" / "a.json", "--out")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for a folder of someone else
    with pytest.raises(WriteError, match=rf"{tmp_path} is read-only"):
        check_writable(tmp_path / "new" / "a.json", "--out")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_line_that_does_not_fit_is_an_error_in_one_line() -> None:
    with pytest.raises(WriteError, match="the disk is full"):
        append_line(Path("/dev/full"), "{}")


def test_lines_are_appended(tmp_path: Path) -> None:
    append_line(tmp_path / "log", "a")
    append_line(tmp_path / "log", "b")
    assert (tmp_path / "log").read_text() == "a\nb\n"
