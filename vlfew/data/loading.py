"""Load a data set by name."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

from vlfew.core.checks import to_path
from vlfew.core.errors import ConfigError
from vlfew.data.data_root import find_data
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor, check_preprocessor
from vlfew.data.sources import SOURCES


def load_data(
    name: str, root: str | Path | None = None, preprocessor: ImagePreprocessor | None = None, **options: Any
) -> LabeledImages:
    """Load a data set by name.

    Args:
        name: data source, such as `glyphs`, `folder` or `hf:owner/name`.
        root: folder of the data; None searches the usual places.
        preprocessor: size, channels and how to resize; 32x32 gray by default.
        options: of the data source.

    Raises:
        ConfigError: an unknown or invalid option.
        DataError: missing or damaged data; names the file and the way out.
    """
    misplaced = sorted(options.keys() & {field.name for field in fields(ImagePreprocessor)})
    if misplaced and misplaced[0] not in SOURCES.options(name).model_fields:
        raise ConfigError(
            f"{misplaced[0]} is an option of the preprocessor: "
            f"preprocessor=vlfew.ImagePreprocessor({misplaced[0]}=...), or model.spec.preprocessor()"
        )

    checked = SOURCES.checked(name, options)
    preprocessor = ImagePreprocessor() if preprocessor is None else preprocessor
    check_preprocessor(preprocessor)
    return SOURCES.get(name)(None if root is None else to_path(root, "root"), preprocessor, **checked)


def find_source(name: str) -> Path:
    """Where a source finds its data if no folder is given.

    Raises:
        DataError: not found.
    """
    module = import_module(SOURCES.entries[name].partition(":")[0])
    return find_data(name, also=getattr(module, "ALSO", ()))
