"""The data sources by name: one file and one line each.

A source is `load(root, reading, *, option=default, ...) -> LabelledImages`; `root` is None unless
the user named a folder. A module whose data may lie under other names than the source's lists these
as `ALSO` (see `find_data`).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from vlfew.data.images import LabelledImages
from vlfew.data.reading import Reading
from vlfew.data.root import find_data
from vlfew.registry import Registry

SOURCES = Registry(
    "data source",
    {
        "glyphs": "vlfew.data.sources.glyphs:load",
        "omniglot": "vlfew.data.sources.omniglot:load",
        "lfw": "vlfew.data.sources.lfw:load",
        "pairs": "vlfew.data.sources.pairs:load",
        "mini_imagenet": "vlfew.data.sources.mini_imagenet:load",
        "cifar_fs": "vlfew.data.sources.cifar_fs:load",
        "fc100": "vlfew.data.sources.fc100:load",
        "folder": "vlfew.data.sources.folder:load",
        "captions": "vlfew.data.sources.captions:load",
        "att_faces": "vlfew.data.sources.att_faces:load",
        "mnist": "vlfew.data.sources.mnist:load",
        "hf:": "vlfew.data.sources.huggingface:load",
    },
)


def load_data(
    name: str, root: Path | None = None, reading: Reading | None = None, **options: Any
) -> LabelledImages:
    """The named data set, read as `reading` says.

    Raises:
        DataError: not there, damaged, or no good; one line that says which file and what to do.
    """
    return SOURCES.get(name)(root, reading or Reading(), **options)


def find_source(name: str) -> Path:
    """Where the named source finds its data when the user names no folder.

    Raises:
        DataError: nowhere.
    """
    module = import_module(SOURCES.entries[name].partition(":")[0])
    return find_data(name, also=getattr(module, "ALSO", ()))
