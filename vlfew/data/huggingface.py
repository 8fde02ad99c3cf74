"""Open Hugging Face data sets from disk or from the hub, and find their image and label columns."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlfew.core.errors import DataError, did_you_mean, first_line

if TYPE_CHECKING:
    from datasets import DatasetDict, Features


PREFIX = "hf:"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the library's messages, and its progress bars outside a terminal."""
    import datasets

    level, bars = datasets.logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


def open_local(place: Path, config: str | None = None, *, streaming: bool = False) -> Any:
    """The parts of a data set on disk, a `DatasetDict`; no image is decoded.

    Args:
        place: a folder written by `save_to_disk`, an image folder, a folder of parquet or arrow files, or such a file.
        config: configuration, if the folder describes several.
        streaming: return an `IterableDatasetDict`, without a copy in the library's cache.

    Raises:
        DataError: it is none of these.
    """
    import datasets

    saved = (place / "dataset_dict.json").is_file() or (place / "state.json").is_file()
    if config is not None and (saved or place.is_file()):
        raise DataError(f"{place} has no configurations; leave out config ({config})")
    try:
        with quiet():
            if saved:
                data = datasets.load_from_disk(str(place))
                return data if isinstance(data, dict) else datasets.DatasetDict({"all": data})
            if not place.is_file():
                return datasets.load_dataset(str(place), config, streaming=streaming)
            if (kind := place.suffix.lower().lstrip(".")) in ("parquet", "arrow"):
                return datasets.load_dataset(kind, data_files=str(place), streaming=streaming)
    except Exception as error:  # the library and the readers beneath it raise many unrelated types
        raise DataError(f"{place}: cannot be read as a Hugging Face data set: {first_line(error)}") from None
    raise DataError(f"{place}: neither a folder nor a parquet or arrow file")


def open_hub(
    name: str, config: str | None, revision: str | None, *, download: bool, streaming: bool = False
) -> Any:
    """The parts of a data set on the hub, a `DatasetDict`, from the library's cache or downloaded.

    Args:
        name: `owner/name`.
        config: configuration of the data set.
        revision: branch, tag or commit; None uses the cached one, or else the main branch.
        download: whether it may be downloaded.
        streaming: return an `IterableDatasetDict`, read over the network and not stored.

    Raises:
        DataError: not cached and not to be downloaded, or not available; says how to get it.
    """
    import datasets
    from huggingface_hub import constants, dataset_info

    who, where = f"hf:{name}", constants.ENDPOINT
    if not streaming and (cached := _cached(name, config, revision)) is not None:
        return cached
    otherwise = f"download it elsewhere, use save_to_disk and name the folder: {PREFIX}FOLDER"
    if not download:
        why = "streaming reads it over the network" if streaming else "nothing is downloaded unless requested"
        raise DataError(
            f"{who}: no such file or folder, and not in {datasets.config.HF_DATASETS_CACHE}; {why}: "
            f"set download: true to get it from {where}, or {otherwise}"
        )
    try:
        siblings = dataset_info(name, revision=revision, files_metadata=True).siblings or []
        size = sum(file.size or 0 for file in siblings) / 1e6
        action = "streaming" if streaming else "downloading"
        destination = "" if streaming else f" to {datasets.config.HF_DATASETS_CACHE}"
        print(f"{action} {name} (at most {size:,.0f} MB) from {where}{destination}", file=sys.stderr)
        with quiet():
            return datasets.load_dataset(name, config, revision=revision, streaming=streaming)
    except Exception as error:  # the library, the hub's client and its transport raise many unrelated types
        reason = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else first_line(error)
        raise DataError(f"{who}: cannot be downloaded from {where} ({reason}); {otherwise}") from None


def _cached(name: str, config: str | None, revision: str | None) -> DatasetDict | None:
    """The data set in the library's cache, without network access."""
    import datasets
    from huggingface_hub import constants

    offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        with quiet():
            builder = datasets.load_dataset_builder(name, config)
            cached: DatasetDict = builder.as_dataset()
    except Exception:  # an unreadable cache is downloaded again
        return None
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
    if revision is not None:
        # The cache folder is named by commit; the commit of a branch or tag is in a file of its name.
        ref = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "refs" / revision
        commit = ref.read_text().strip() if ref.is_file() else revision
        if builder.hash != commit:
            return None
    return cached


def image_column(features: Features, given: str | None, who: str) -> str:
    """The column of images: the given one, or the only one.

    Raises:
        DataError: unknown, missing or ambiguous column; lists the columns.
    """
    from datasets import Image

    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    return _column(features, given, images, who, "images", "image_column")


def label_column(features: Features, given: str | None, who: str) -> str:
    """The column of labels: the given one, or the only one of type `ClassLabel`, or else of text or integers.

    Raises:
        DataError: unknown, missing or ambiguous column; lists the columns.
    """
    from datasets import ClassLabel, Value

    named = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    values = {name: feature.dtype for name, feature in features.items() if isinstance(feature, Value)}
    plain = [name for name, dtype in values.items() if re.search("^u?int|string", dtype)]
    return _column(features, given, named or plain, who, "labels", "label_column")


def _column(features: Features, given: str | None, fit: list[str], who: str, what: str, option: str) -> str:
    if given is not None:
        if given not in features:
            raise DataError(f"{who}: no column {given!r}{did_you_mean(given, features)}")
        return given
    if len(fit) == 1:
        return fit[0]
    listed = ", ".join(f"{name} ({_kind(feature)})" for name, feature in features.items())
    several = f"several columns could contain the {what}" if fit else f"no column contains {what}"
    raise DataError(f"{who}: {several}: {listed}; choose one with {option}")


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else type(feature).__name__
