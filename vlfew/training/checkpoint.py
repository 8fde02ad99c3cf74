"""Checkpoints: `<name>.safetensors` with weights, optimizer and training state, and `<name>.json` with its SHA-256.

The JSON is written last; a checkpoint without it does not count.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from vlfew.core.errors import RunError
from vlfew.core.files import sha256, write_tensors

KEEP = 2
"""The newest checkpoints that stay on the disk: if a crash damages one, there is another."""


@dataclass
class TrainingState:
    """Everything that a resumed run needs besides tensors.

    Attributes:
        step: optimizer steps done.
        best_accuracy: best validation accuracy so far.
        best_step: step of the best validation.
        evaluations_since_best: validations without improvement, counted by early stopping.
        seconds: training time so far, interruptions excluded.
        scaler: state of the fp16 loss scaler, if there is one.
    """

    step: int = 0
    best_accuracy: float = -1.0
    best_step: int = 0
    evaluations_since_best: int = 0
    seconds: float = 0.0
    scaler: dict[str, float] | None = None


def learned_state(module: nn.Module) -> dict[str, Tensor]:
    """Trained parameters and all buffers by name; frozen parameters are not saved again."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def save_checkpoint(
    folder: Path, name: str, tensors: dict[str, Tensor], state: TrainingState, identity: dict[str, Any]
) -> None:
    """Writes `<name>.safetensors` and `<name>.json` with its hash.

    Args:
        folder: created if missing.
        name: `step-00000400` or `best`.
        tensors: by name.
        state: of the training.
        identity: what must be the same when the run is resumed, such as the data's fingerprint.
    """
    metadata = {"format": "2", "state": json.dumps(asdict(state)), "identity": json.dumps(identity)}
    write_tensors(folder / f"{name}.safetensors", tensors, metadata, description={})


def load_checkpoint(
    folder: Path, name: str, identity: dict[str, Any]
) -> tuple[dict[str, Tensor], TrainingState]:
    """Reads what `save_checkpoint` wrote.

    Raises:
        RunError: a file is missing or damaged, or `identity` has changed; names the file and the way out.
    """
    path, recorded = folder / f"{name}.safetensors", folder / f"{name}.json"
    remedy = f"remove {recorded} and run the same command again to resume from an earlier checkpoint"
    try:
        expected = json.loads(recorded.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"checkpoint {recorded} is damaged; {remedy}") from None
    if not path.is_file():
        raise RunError(f"checkpoint {path} is missing; {remedy}")
    if sha256(path) != expected:
        raise RunError(f"checkpoint {path} is damaged (its SHA-256 is not the recorded one); {remedy}")
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    if metadata.get("format") != "2":
        raise RunError(
            f"checkpoint {path} was written by an earlier version of vlfew and cannot be resumed; "
            f"remove {folder.parent}, or train under another name=..."
        )
    before = json.loads(metadata["identity"])
    for key, value in identity.items():
        if before.get(key) != value:
            raise RunError(
                f"checkpoint {path} was written with {key} {before.get(key)}, which is now {value}; a run resumes "
                "only with what it was started with: train under another name=..."
            )
    return tensors, TrainingState(**json.loads(metadata["state"]))


def latest_checkpoint(folder: Path) -> str | None:
    """Name of the newest numbered checkpoint."""
    return max((path.stem for path in folder.glob("step-*.json")), default=None)


def prune_checkpoints(folder: Path) -> None:
    """Removes all numbered checkpoints but the newest `KEEP`, the JSON of each first."""
    for path in sorted(folder.glob("step-*.json"))[:-KEEP]:
        path.unlink()
        path.with_suffix(".safetensors").unlink(missing_ok=True)


def flatten_optimizer(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """The optimizer's per-parameter tensors as `optimizer/<parameter>/<entry>`.

    Args:
        optimizer: its parameters, over all groups, are in the order of `names`.
        names: of the parameters.
    """
    return {
        f"optimizer/{names[index]}/{key}": torch.as_tensor(value)
        for index, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
        if value is not None  # SGD without momentum
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, names: list[str], flat: dict[str, Tensor]) -> None:
    """Loads what `flatten_optimizer` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    position = {name: index for index, name in enumerate(names)}
    for path, value in flat.items():
        _, name, key = path.split("/")
        state.setdefault(position[name], {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
