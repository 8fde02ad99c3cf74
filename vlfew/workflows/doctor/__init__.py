"""`vlfew doctor`: what would be in the way of working with a data set, a model or a run, on one screen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from vlfew.core.errors import DataError, did_you_mean
from vlfew.core.paths import user_path
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.loading import load_data
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.sources import SOURCES
from vlfew.encoders import PACKAGED_BACKBONES
from vlfew.models.loading import is_published
from vlfew.training.run_folder import RunFolder
from vlfew.workflows.doctor.data import check_data, default_text_encoder
from vlfew.workflows.doctor.finding import Finding
from vlfew.workflows.doctor.installation import check_installation
from vlfew.workflows.doctor.model import check_model
from vlfew.workflows.doctor.run import check_run
from vlfew.workflows.evaluation_data import DataOptions, parse_data_options

__all__ = ["Finding", "examine"]


def examine(
    target: str | None = None, *, root: str | Path | None = None, data_options: DataOptions = ()
) -> list[Finding]:
    """What would be in the way; nothing is trained, written or downloaded.

    Args:
        target: a run folder, a model (as `vlfew.load` takes it), a data source by name, or a folder of images; None for
            the installation alone.
        root: folder of the data, for a source by name.
        data_options: of the source, as `data.key=value` strings or a mapping.

    Raises:
        VlfewError: there is nothing of that name, or unknown options.
    """
    findings = list(check_installation())
    if target is None:
        return findings
    if not target:
        raise DataError(
            "the name of what to examine is empty; give a folder, data source, model or run, or leave it out"
        )
    path = user_path(target)
    run_files = (path / "config.yaml", path / "results.json", path / "log.jsonl")
    if any(file.is_file() for file in run_files) or any((path / "checkpoints").glob("step-*.json")):
        return findings + list(check_run(RunFolder(path)))
    source = _source_of(target, path)
    if source is None and not path.exists() and not set(target) & set("/:") and not is_published(target):
        known = [*SOURCES.names(), *PACKAGED_BACKBONES.names()]
        raise DataError(
            f"there is no run folder, data source, folder or model {target!r}{did_you_mean(target, known)}"
        )
    if source is None:
        return findings + check_model(target)[0]
    if source != target:
        findings.append(Finding("ok", "source", f"taken as {source!r}" + f" ({path})" * (source == "folder")))
        root = None if source.startswith("hf:") else path
    preprocessor = ImagePreprocessor(image_size=84, channels=3)
    preprocessor, options = parse_data_options(source, preprocessor, data_options)
    if source == "pairs" and root is not None and not (Path(root) / "pairs.csv").is_file():
        options = {"file": next((p.name for p in sorted(Path(root).glob("pairs.*"))), "pairs.csv")} | options

    def read(on_bad_image: Literal["error", "skip"]) -> LabeledImages:
        place = None if root is None else Path(root)
        return load_data(source, place, replace(preprocessor, on_bad_image=on_bad_image), **options)

    return findings + list(check_data(read, default_text_encoder))


def _source_of(target: str, path: Path) -> str | None:
    """The data source that a target is; None for a model."""
    prefix = target.partition(":")[0] + ":"
    if is_published(target):
        return None
    if prefix in SOURCES.names() or (target in SOURCES.names() and not path.exists()):
        return target
    if path.is_file():
        return f"hf:{target}"
    if not path.is_dir() or (path / "model.json").is_file() or any(path.glob("*config.json")):
        return None
    if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")) or any(
        path.glob("*.parquet")
    ):
        return f"hf:{target}"
    tables = {"captions": "captions", "pairs": "pairs"}
    return next((name for stem, name in tables.items() if any(path.glob(f"{stem}.*"))), "folder")
