"""Open Hugging Face data sets from disk or from the hub, and find their image and label columns."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlfew.core.errors import DataError, describe_value, did_you_mean, first_line
from vlfew.data.class_labels import LabelError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, Features


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
                _check_same_classes(place)
                return datasets.load_dataset(str(place), config, streaming=streaming)
            if (kind := place.suffix.lower().lstrip(".")) in ("parquet", "arrow"):
                return datasets.load_dataset(kind, data_files=str(place), streaming=streaming)
    except DataError:
        raise
    except Exception as error:  # the library and the readers beneath it raise many unrelated types
        raise DataError(f"{place}: cannot be read as a Hugging Face data set: {first_line(error)}") from None
    raise DataError(f"{place}: neither a folder nor a parquet or arrow file")


def _check_same_classes(folder: Path) -> None:
    """Checks that files in a folder number their classes alike: the library takes the names of the first for all.

    Raises:
        DataError: two files list other classes, or in another order.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    first: dict[str, tuple[list[str], Path]] = {}
    for path in sorted(p for suffix in ("parquet", "arrow") for p in folder.rglob(f"*.{suffix}")):
        if path.suffix == ".parquet":
            schema = pq.read_schema(path)
        else:
            with pa.memory_map(str(path)) as file:
                schema = pa.ipc.open_stream(file).schema
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        for column, feature in described.get("info", {}).get("features", {}).items():
            if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
                continue
            names, where = first.setdefault(column, (feature["names"], path))
            if names != feature["names"]:
                raise DataError(
                    f"{folder}: {where.relative_to(folder)} and {path.relative_to(folder)} number the classes of "
                    f"{column!r} differently; give all the same with Dataset.align_labels_with_mapping"
                )


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


def data_set_parts(dataset: Any, name: str) -> dict[str, Dataset]:
    """The parts of a data set; `all` is the only one of a `Dataset`.

    Raises:
        DataError: a stream or something else; says what to pass instead.
    """
    import datasets

    parts = dict(dataset) if isinstance(dataset, Mapping) else {"all": dataset}
    for part, rows in parts.items():
        if isinstance(rows, datasets.IterableDataset):
            own = f"dataset[{part!r}]" if isinstance(dataset, Mapping) else "dataset"
            plain = f"{own}.with_format(None)" if rows._formatting else own
            raise DataError(
                f"{name}: a stream ({type(dataset).__name__}), and images are needed by number; keep the first rows: "
                f"datasets.Dataset.from_list([*{plain}.take(1000)], features={own}.features), or load it as hf:NAME "
                "with streaming=True and take=1000"
            )
        if not isinstance(rows, datasets.Dataset):
            raise DataError(
                f"{name}: expected a datasets.Dataset or DatasetDict, got {describe_value(rows)}; vlfew.load_data "
                "takes names (hf:NAME), vlfew.from_torchvision data sets of torch"
            )
    if not any(map(len, parts.values())):
        raise DataError(f"{name}: there are no rows in this {type(dataset).__name__}")
    return parts


def is_image_feature(feature: Any) -> bool:
    """Whether a column contains images, or encoded images as bytes or as a struct of bytes and path."""
    from datasets import Image

    encoded = isinstance(feature, dict) and {*feature} == {"bytes", "path"}
    return isinstance(feature, Image) or encoded or kind_of(feature) in ("binary", "large_binary")


def is_label_feature(feature: Any) -> bool:
    """Whether a column contains one label per row, by its type: `ClassLabel`, text, integers or truth values."""
    return re.search("^u?int|string|bool|ClassLabel", kind_of(feature)) is not None


def columns_that_fit(features: Mapping[str, Any], fits: Callable[[Any], bool]) -> str:
    """`; columns that may fit: kind (ClassLabel)`; empty without."""
    fitting = _listed({name: feature for name, feature in features.items() if fits(feature)})
    return f"; columns that may fit: {fitting}" if fitting else ""


def label_way_out(error: LabelError, parts: Mapping[str, Dataset], part: str, label: str) -> str:
    """What to do about labels that are missing, or are no labels of one class each: code that helps with these.

    Args:
        error: of the part.
        parts: of the data set.
        part: with the labels.
        label: their column.
    """
    from datasets import ClassLabel

    rows, row = parts[part], f"row[{label!r}]"
    feature = rows.features[label]
    others = [other for other in parts if other != part]
    if len(error.missing) == len(rows):
        if others:
            return f"leave the part out (del dataset[{part!r}], or parts={others} for hf:NAME)"
        return "add a column of labels with dataset.add_column"
    if error.missing:
        kept = f"{row} is not None"
        if isinstance(feature, ClassLabel):
            kept = f"{row} not in (None, -1)"
        elif "string" in kind_of(feature):
            kept = f"({row} or '').strip()"
        elif "float" in kind_of(feature):
            kept += f" and {row} == {row}"  # NaN is not
        what, code = "keep the other rows", f"filter(lambda row: {kept})"
    else:
        lists = [value for value in error.values if isinstance(value, list)]
        if isinstance(getattr(feature, "feature", None), ClassLabel):
            own = "dataset" if part == "all" else f"dataset[{part!r}]"
            one = f"next(map({own}.features[{label!r}].feature.int2str, {row}), None)"
        elif all(len(v) > 1 and sorted(v, key=bool) == [0] * (len(v) - 1) + [1] for v in lists) and lists:
            one = f"{row}.index(1)"
        elif lists:
            one = f"next(iter({row}), None)"
        else:
            one = f"str({row})"
        what, code = "make a column of one label per row", f"map(lambda row: {{'{label}_class': {one}}})"
    source = "dataset" if rows.format["type"] is None else "dataset.with_format(None)"
    return f"{what} (dataset = {source}.{code}; then dataset.save_to_disk(FOLDER) for hf:FOLDER)"


def image_column(features: Features, given: str | None, who: str) -> str:
    """The column of images: the given one, or the only one, or else the only one of encoded images.

    Raises:
        DataError: unknown, missing or ambiguous column; lists the columns.
    """
    from datasets import Image

    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    encoded = [name for name, feature in features.items() if is_image_feature(feature)]
    return _column(features, given, images or encoded, who, "images", "image_column")


def label_column(features: Features, given: str | None, who: str) -> str:
    """The column of labels: the given one, or the only one of the first of these kinds: `ClassLabel`, text or integers,
    truth values, any other but images.

    Raises:
        DataError: unknown, missing or ambiguous column; lists the columns.
    """
    kinds = {name: kind_of(feature) for name, feature in features.items() if not is_image_feature(feature)}
    patterns = ("ClassLabel", "^u?int|string", "bool", "float", "")
    fit = ([name for name, kind in kinds.items() if re.search(p, kind)] for p in patterns)
    return _column(features, given, next(filter(None, fit), []), who, "labels", "label_column")


def _column(features: Features, given: str | None, fit: list[str], who: str, what: str, option: str) -> str:
    if given is not None:
        if given not in features:
            raise DataError(f"{who}: no column {given!r}{did_you_mean(given, features)}")
        return given
    if len(fit) == 1:
        return fit[0]
    if fit:
        raise DataError(
            f"{who}: several columns could contain the {what}: {_listed(features)}; choose one with {option}"
        )
    raise DataError(f"{who}: no column contains {what}: {_listed(features)}; add a column of them")


def _listed(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({kind_of(feature)})" for name, feature in features.items())


def kind_of(feature: Any) -> str:
    """The type of a column: of plain values their type, such as `int64`, otherwise such as `ClassLabel`."""
    return str(feature.dtype) if type(feature).__name__ == "Value" else type(feature).__name__
