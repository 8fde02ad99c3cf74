"""From a protocol's name and options to a result."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vlfew.core.errors import VlfewError
from vlfew.core.files import write_atomic
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation import NEEDS_BOXES, PROTOCOLS
from vlfew.evaluation.context import EvaluationContext, ModelRequired, ProtocolResult
from vlfew.evaluation.outside_data import known_by_name, overlap
from vlfew.evaluation.results import Result
from vlfew.evaluation.statistics import cluster_ci95

DRAWN = ("episodes", "trials", "repeats")
"""Options that count random draws: one is enough to find out whether any can be drawn."""


def check_protocol(protocol: str, options: Mapping[str, Any], data: LabeledImages) -> None:
    """Raises what running the protocol would raise for these data and options, without a model.

    Args:
        protocol: its name.
        options: of the protocol; the others have their defaults.
        data: read at the model's input size.

    Raises:
        VlfewError: unknown protocol or option, unknown split, too few classes or images, boxes where there must be
            labels or the reverse, a file that cannot be read: whatever is raised before it needs a model.
    """
    checked = PROTOCOLS.checked(protocol, dict(options))
    check_annotation(protocol, data)
    files = {key: path for key, path in checked.items() if key.endswith("_file") and path is not None}
    with TemporaryDirectory() as folder, suppress(ModelRequired):
        # A file that does not exist yet is written when the protocol runs, not now.
        checked |= {key: Path(folder) / key for key, path in files.items() if not path.exists()}
        if not any(path.exists() for path in files.values()):
            checked |= {k: min(v, 1) for k, v in checked.items() if k in DRAWN and isinstance(v, int)}
        PROTOCOLS.get(protocol)(EvaluationContext(None, data), **checked)


def check_annotation(protocol: str, data: LabeledImages) -> None:
    """Checks that the images have what the protocol is about: a label each, or boxes.

    Raises:
        DataError: they have the other.
    """
    if protocol in NEEDS_BOXES:
        data.require_boxes(protocol)
    else:
        data.require_labels(protocol)


def run_protocol(
    context: EvaluationContext,
    protocol: str,
    options: Mapping[str, Any],
    *,
    command: str = "",
    trained_on: str = "",
    outside_data: str = "",
    notes: Sequence[str] = (),
) -> tuple[Result, ProtocolResult]:
    """Runs a protocol.

    Args:
        context: the model and the data.
        protocol: its name.
        options: of the protocol; the others have their defaults.
        command: that repeats the evaluation.
        trained_on: `data/split` that the model was trained on.
        outside_data: the images outside the training split that the weights were trained on, by name.
        notes: what a reader of the result must know of the model.

    Raises:
        VlfewError: unknown protocol or option, or what the protocol raises.
    """
    checked = PROTOCOLS.checked(protocol, dict(options))
    check_annotation(protocol, context.data)
    outcome = PROTOCOLS.get(protocol)(context, **checked)
    # The value in place of `auto`, so that results on the same episodes have the same options.
    resolved = checked | {
        k: outcome.details[k] for k, v in checked.items() if v == "auto" and k in outcome.details
    }
    data = context.data
    own_data = trained_on.rpartition("/")[0] == data.name
    seen = f"{data.name} is split by image: the classes of this split were trained on"
    all_notes = [*data.notes, seen if own_data and data.split_by == "image" else "", *notes]
    # Which results may be compared (LFW's terms): those that learned from the same data, by the same labels.
    terms = data.training_labels if own_data and not outside_data else "outside data"
    fields = {
        "protocol": protocol,
        "data": data.name,
        "split": checked.get("split"),
        "accuracy": outcome.accuracy,
        "ci95": outcome.ci95,
        "episodes": outcome.episodes,
        "seed": checked.get("seed", 0),
        "input_size": list(data.images.shape),
        "outside_data": outside_data,
        "outside_data_overlap": overlap(outside_data, data, checked.get("split")),
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in resolved.items() if v is not None},
        "protocol_class": terms if data.training_labels else "",
        "command": command,
        "data_fingerprint": data.fingerprint,
        "trained_on": trained_on,
        "skipped_images": len(data.skipped),
        "note": "; ".join(filter(None, all_notes)),
    }
    fields |= _by_known_names(outcome, outside_data, data, checked.get("split"))
    return Result(**{**fields, **outcome.details}), outcome


def _by_known_names(
    outcome: ProtocolResult, outside_data: str, data: LabeledImages, split: str | None
) -> dict[str, Any]:
    """Accuracy over the classes whose names the outside data have, and over the others, where there are both."""
    if outcome.per_class is None or split is None:
        return {}
    known = known_by_name(outside_data, data, data.classes(split).tolist())
    fields: dict[str, Any] = {}
    for name, which in (("known_names", True), ("new_names", False)):
        chosen = [
            (right, of) for right, of, one in zip(*outcome.per_class, known, strict=True) if one == which
        ]
        if len(chosen) in (0, len(known)):
            return {}
        right, of = map(list, zip(*chosen, strict=True))
        fields[name], fields[f"{name}_ci95"] = sum(right) / sum(of), cluster_ci95(right, of)
        fields[f"{name}_classes"] = len(chosen)
    return fields


def save_per_episode(path: Path, accuracies: Sequence[np.ndarray | None]) -> None:
    """Writes the accuracy of each episode as a float64 `.npy` file, for paired comparisons.

    Args:
        path: of the file.
        accuracies: `[episodes]` of each run, one after the other in the file; None without episodes.

    Raises:
        VlfewError: the protocol drew no episodes.
    """
    drawn = [values for values in accuracies if values is not None]
    if len(drawn) < len(accuracies):
        raise VlfewError(
            f"there are no episodes to write to {path}: every image was scored once, against all classes; "
            "give a number of ways, or leave the file out"
        )
    buffer = io.BytesIO()
    np.save(buffer, np.concatenate(drawn))
    write_atomic(path, buffer.getvalue())
