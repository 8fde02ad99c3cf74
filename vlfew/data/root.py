"""Where data lie: an explicit path, `$VLFEW_DATA/<name>`, or `<user cache>/vlfew/data/<name>`."""

from __future__ import annotations

import os
from pathlib import Path

from vlfew.errors import DataError


def cache_dir() -> Path:
    """The user's cache folder for vlfew (`$XDG_CACHE_HOME/vlfew` or `~/.cache/vlfew`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlfew"


def find_data(name: str, root: Path | None = None) -> Path:
    """The folder that holds a source's data.

    Args:
        name: of the source; also the name of its folder.
        root: an explicit folder, which must then exist.

    Raises:
        DataError: found nowhere; says where it looked and how to put it there.
    """
    if root is not None:
        if not root.is_dir():
            raise DataError(f"data.root {root} is not a folder")
        return root
    places = [cache_dir() / "data" / name]
    if os.environ.get("VLFEW_DATA"):
        places.insert(0, Path(os.environ["VLFEW_DATA"]) / name)
    for place in places:
        if place.is_dir():
            return place
    looked = " and ".join(str(p) for p in places)
    raise DataError(
        f"no data for {name!r}: looked in {looked}; "
        f"set VLFEW_DATA or data.root, or run: vlfew data prepare {name} --from PATH"
    )
