"""Where data lie: an explicit path, `$VLFEW_DATA/<folder>`, or `<user cache>/vlfew/data/<folder>`."""

from __future__ import annotations

import os
from pathlib import Path

from vlfew.errors import DataError


def cache_dir() -> Path:
    """The user's cache folder for vlfew (`$XDG_CACHE_HOME/vlfew` or `~/.cache/vlfew`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlfew"


_FOLDERS = {"cifar_fs": "cifar100", "fc100": "cifar100"}
"""Sources that read the same data find them in one folder; others in one of their own name."""


def folder_name(name: str) -> str:
    """What the folder of a source's data is called."""
    return _FOLDERS.get(name, name)


def find_data(name: str, root: Path | None = None) -> Path:
    """The folder that holds a source's data.

    Args:
        name: of the source.
        root: an explicit folder, which must then exist.

    Raises:
        DataError: found nowhere; says where it looked and how to put it there.
    """
    if root is not None:
        if not root.is_dir():
            raise DataError(f"data.root {root} is not a folder")
        return root
    own = folder_name(name)
    places = [cache_dir() / "data" / own]
    if os.environ.get("VLFEW_DATA"):
        places.insert(0, Path(os.environ["VLFEW_DATA"]) / own)
    for place in places:
        if place.is_dir():
            return place
    looked = " and ".join(str(p) for p in places)
    raise DataError(
        f"no data for {name!r}: looked in {looked}; "
        f"set VLFEW_DATA or data.root, or run: vlfew data prepare {name} --from PATH"
    )
