"""The data to evaluate a model on: its own, a source by name, or a data set at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import create_model

from vlfew.core.checks import to_path
from vlfew.core.config import AlignFaces, PositiveFraction, Resize
from vlfew.core.config_file import load_saved_config, parse_values
from vlfew.core.errors import ConfigError, DataError, ModelError, describe_value
from vlfew.core.overrides import written_value
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.loading import load_data
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.sources import SOURCES
from vlfew.models.dual_stream import DualStream
from vlfew.training.run_folder import RunFolder

FRAMING = ("center_crop", "resize", "align_faces")
"""What depends on the data and not on the model: how much of an image is background."""
DataOptions = Mapping[str, Any] | Sequence[str]
"""Options of a data source as a mapping, or as `key=value` strings; `data.key=value` is the same."""


def check_arguments(model: object, data: object, root: object, options: Any) -> None:
    """Checks the kinds of what `evaluate` and `adapt` take.

    Raises:
        ModelError: neither a model nor a name.
        DataError: neither a data set nor a name, or a root that is no path.
        ConfigError: options of another form.
    """
    if not isinstance(model, DualStream | str | Path):
        raise ModelError(
            f"model must be a model, such as vlfew.load gives, or its name; got {describe_value(model)}"
        )
    if not isinstance(data, LabeledImages | str | None):
        raise DataError(
            "data must be a data set, such as vlfew.load_data, from_huggingface and from_torchvision give, or the "
            f"name of a source; got {describe_value(data)}"
        )
    if root is not None:
        to_path(root, "root")
    listed = isinstance(options, Sequence) and not isinstance(options, str | bytes)
    if not isinstance(options, Mapping) and not (listed and all(isinstance(o, str) for o in options)):
        raise ConfigError(f"data_options must be a dict or key=value strings, got {describe_value(options)}")


def load_evaluation_data(
    model: DualStream,
    data: LabeledImages | str | None = None,
    root: str | Path | None = None,
    options: DataOptions = (),
) -> LabeledImages:
    """The data set, preprocessed as the model expects.

    Args:
        model: gives the image size, and its own data where it comes from a run folder.
        data: a data set, the name of a source, or None for the data that the model was trained on.
        root: folder of the data, for a source by name.
        options: of the source, and `resize`, `center_crop` and `align_faces`.

    Raises:
        ConfigError: unknown or wrong options.
        DataError: missing or damaged data; no data named and the model has none of its own.
    """
    if isinstance(data, LabeledImages):
        return data
    preprocessor = model.spec.preprocessor()
    config_file = None if model.path is None else RunFolder(model.path).config
    own = load_saved_config(config_file).data if config_file is not None and config_file.is_file() else None
    if own is not None and data in (None, own.name):
        # The run's own split seed and options: another split would put training classes into the test split.
        preprocessor = replace(preprocessor, on_bad_image=own.on_bad_image, seed=own.split_seed)
        preprocessor, given = parse_data_options(own.name, preprocessor, options)
        return load_data(own.name, root or own.root, preprocessor, **own.options | given)
    if data is None:
        raise DataError(
            f"{model.path or model.spec.backbone} has no configuration that names its training data; "
            "name the data to evaluate on (--data)"
        )
    preprocessor, given = parse_data_options(data, preprocessor, options)
    return load_data(data, root, preprocessor, **given)


def parse_data_options(
    name: str, preprocessor: ImagePreprocessor, options: DataOptions
) -> tuple[ImagePreprocessor, dict[str, Any]]:
    """Splits options of a data source into how its images are cropped and what the source itself takes.

    Image size and channels are the model's, but how much of an image is background depends on the data.

    Args:
        name: of the data source.
        preprocessor: to which `resize`, `center_crop` and `align_faces` are applied.
        options: see `DataOptions`.

    Raises:
        ConfigError: one line per unknown or wrong option.
    """
    schema = create_model(
        "options",
        __base__=SOURCES.options(name),
        center_crop=(PositiveFraction, preprocessor.center_crop),
        resize=(Resize, preprocessor.resize),
        align_faces=(AlignFaces, preprocessor.align_faces),
    )
    settings = [setting.removeprefix("data.") for setting in data_settings(options)]
    given = parse_values(settings, schema, f"data source {name!r}", at="data")
    framing: dict[str, Any] = {key: given.pop(key) for key in FRAMING if key in given}
    if "resize" in framing:  # the user's in place of a published model's own
        framing["resize_first"] = None
    return replace(preprocessor, **framing), given


def data_settings(options: DataOptions) -> list[str]:
    """Data options as `data.key=value`, the form of the command line."""
    if isinstance(options, Mapping):
        options = [
            f"{key}={written_value(str(v) if isinstance(v, Path) else v)}" for key, v in options.items()
        ]
    return [f"data.{option.removeprefix('data.')}" for option in options]
