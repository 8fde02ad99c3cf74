"""Find the data of a source: an explicit path, or its name in `$VLFEW_DATA` or `<user cache>/vlfew/data`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vlfew.core.errors import DataError


def cache_dir() -> Path:
    """The user's cache folder for vlfew (`$XDG_CACHE_HOME/vlfew` or `~/.cache/vlfew`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlfew"


_FOLDERS = {"cifar_fs": "cifar100", "fc100": "cifar100"}
"""Sources that share a data folder; others use a folder of their own name."""


def folder_name(name: str) -> str:
    """Name of the data folder of a source."""
    return _FOLDERS.get(name, name)


def find_data(name: str, root: Path | None = None, also: Sequence[str] = (), prepared: bool = True) -> Path:
    """The folder or file with the data of a source.

    Args:
        name: data source.
        root: an explicit folder, which must exist.
        also: alternative names of folders or files with the same data.
        prepared: whether `vlfew data prepare` supports the source.

    Raises:
        DataError: not found; says where it looked and how to put it there.
    """
    if root is not None:
        if not root.is_dir():
            raise DataError(f"data.root {root} is not a folder")
        return root
    own = folder_name(name)
    parents = [cache_dir() / "data"]
    if os.environ.get("VLFEW_DATA"):
        parents.insert(0, Path(os.environ["VLFEW_DATA"]))
    for folder in parents:
        if (folder / own).is_dir():
            return folder / own
        for other in also:
            if (folder / other).exists():
                return folder / other
    looked = " and ".join(str(folder / own) for folder in parents)
    alternatives = f" (or {' or '.join(also)} next to it)" if also else ""
    run = f", or run: vlfew data prepare {name} --from PATH" if prepared else ""
    raise DataError(
        f"no data for {name!r}: looked in {looked}{alternatives}; set VLFEW_DATA or data.root{run}"
    )
