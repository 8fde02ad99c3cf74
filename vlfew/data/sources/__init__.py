"""The data sources by name: one file and one line each.

A source is `load(root, reading, *, option=default, ...) -> LabeledImages`; `root` is None unless
the user named a folder. A module whose data may lie under other names than the source's lists these
as `ALSO` (see `find_data`).
"""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from vlfew.core.errors import ConfigError
from vlfew.core.registry import Registry
from vlfew.data.data_root import find_data
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor

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
    name: str, root: str | Path | None = None, preprocessor: ImagePreprocessor | None = None, **options: Any
) -> LabeledImages:
    """The named data set, read as `preprocessor` says.

    Raises:
        ConfigError: no such option of the source.
        DataError: not there, damaged, or no good; one line that says which file and what to do.
    """
    how = sorted(options.keys() & {field.name for field in fields(ImagePreprocessor)})
    if how and how[0] not in SOURCES.options(name).model_fields:
        raise ConfigError(f"{how[0]} is told by reading=vlfew.Reading({how[0]}=...), or model.spec.reading()")
    checked = SOURCES.checked(name, options)
    return SOURCES.get(name)(
        None if root is None else Path(root), preprocessor or ImagePreprocessor(), **checked
    )


def find_source(name: str) -> Path:
    """Where the named source finds its data when the user names no folder.

    Raises:
        DataError: nowhere.
    """
    module = import_module(SOURCES.entries[name].partition(":")[0])
    return find_data(name, also=getattr(module, "ALSO", ()))
