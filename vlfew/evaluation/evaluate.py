"""From a protocol's name and options to a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlfew.core.errors import VlfewError
from vlfew.core.files import atomic_file
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation import CHECKS, PROTOCOLS
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.results import Result


def check_protocol(protocol: str, options: dict[str, Any], data: LabeledImages) -> None:
    """Raises at once what running the protocol would raise, as far as no model is needed to tell.

    Args:
        protocol: by name.
        options: of the protocol; what is not given has its default.
        data: read at the model's input size.

    Raises:
        VlfewError: no such protocol or option; no such split, too few classes or images, a file
            that cannot be read: whatever the protocol raises.
    """
    CHECKS.get(protocol)(data, PROTOCOLS.checked(protocol, options))


def evaluate(
    context: EvaluationContext,
    protocol: str,
    options: dict[str, Any],
    *,
    command: str,
    trained_on: str,
    outside_data: bool,
) -> tuple[Result, ProtocolResult]:
    """Runs a protocol.

    Args:
        context: the model and the data.
        protocol: by name.
        options: of the protocol; what is not given has its default.
        command: that makes the number again.
        trained_on: what the model was trained on.
        outside_data: whether weights learned from images outside the training split were used.

    Raises:
        VlfewError: no such protocol or option, or what the protocol raises.
    """
    checked = PROTOCOLS.checked(protocol, options)
    outcome = PROTOCOLS.get(protocol)(context, **checked)
    data = context.data
    notes = [data.note]
    if data.split_by == "image" and trained_on.rpartition("/")[0] == data.name:
        notes.append(f"{data.name} is split by image: the classes of this split were trained on")
    # All that was asked: figures are set beside each other where these agree.
    asked = {k: str(v) if isinstance(v, Path) else v for k, v in checked.items() if v is not None}
    # What the figure may be set beside (LFW's terms): what was learned from, and by which labels.
    own = trained_on.rpartition("/")[0] == data.name
    terms = data.training_labels if own and not outside_data else "outside data"
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
        "asked": asked,
        "protocol_class": terms if data.training_labels else "",
        "command": command,
        "data_fingerprint": data.fingerprint,
        "trained_on": trained_on,
        "skipped_images": len(data.skipped),
        "note": "; ".join(filter(None, notes)),
    }
    return Result(**{**fields, **outcome.details}), outcome


def save_per_episode(path: Path, accuracies: Sequence[np.ndarray | None]) -> None:
    """The accuracy of each episode as a float64 `.npy` file, for paired comparisons.

    Args:
        path: of the file.
        accuracies: `[episodes]` of each run, one after the other in the file; None without episodes.

    Raises:
        VlfewError: the protocol drew no episodes.
    """
    drawn = [one for one in accuracies if one is not None]
    if len(drawn) < len(accuracies):
        raise VlfewError(
            f"there are no episodes to write to {path}: all classes were told apart at once; "
            "give a number of ways, or leave the file out"
        )
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.concatenate(drawn))
