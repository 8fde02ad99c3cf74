"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path


def user_path(written: str | Path) -> Path:
    """The path, in which `~` is the home folder; `~name` stays as it is where there is no such user."""
    return Path(os.path.expanduser(written))
