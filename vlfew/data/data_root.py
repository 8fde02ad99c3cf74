"""Where data lie: an explicit path, or in `$VLFEW_DATA` or `<user cache>/vlfew/data`, under the name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vlfew.core.errors import DataError


def cache_dir() -> Path:
    """The user's cache folder for vlfew (`$XDG_CACHE_HOME/vlfew` or `~/.cache/vlfew`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlfew"


_FOLDERS = {"cifar_fs": "cifar100", "fc100": "cifar100"}
"""Sources that read the same data find them in one folder; others in one of their own name."""


def folder_name(name: str) -> str:
    """What the folder of a source's data is called."""
    return _FOLDERS.get(name, name)


def find_data(name: str, root: Path | None = None, also: Sequence[str] = (), prepared: bool = True) -> Path:
    """The folder, or the file, that holds a source's data.

    Args:
        name: of the source.
        root: an explicit folder, which must then exist.
        also: further names under which folders or files hold the same data.
        prepared: whether `vlfew data prepare` puts them there.

    Raises:
        DataError: found nowhere; says where it looked and how to put it there.
    """
    if root is not None:
        if not root.is_dir():
            raise DataError(f"data.root {root} is not a folder")
        return root
    own = folder_name(name)
    above = [cache_dir() / "data"]
    if os.environ.get("VLFEW_DATA"):
        above.insert(0, Path(os.environ["VLFEW_DATA"]))
    for folder in above:
        if (folder / own).is_dir():
            return folder / own
        for other in also:
            if (folder / other).exists():
                return folder / other
    looked = " and ".join(str(folder / own) for folder in above)
    beside = f" (or {' or '.join(also)} beside it)" if also else ""
    run = f", or run: vlfew data prepare {name} --from PATH" if prepared else ""
    raise DataError(f"no data for {name!r}: looked in {looked}{beside}; set VLFEW_DATA or data.root{run}")
