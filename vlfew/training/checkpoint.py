"""Checkpoints: one safetensors file, and beside it a JSON with its hash.

The JSON is written last and makes the checkpoint one. All that matters lies under the hash.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vlfew.core.errors import RunError
from vlfew.core.files import atomic_file, sha256, write_atomic

KEEP = 2
"""How many of the newest are kept, so that one that a crash spoiled is not the only one."""


@dataclass
class Progressed:
    """Where training stands, besides tensors.

    Attributes:
        step: optimizer steps done.
        best: best validation accuracy so far, with the step it was reached at.
        best_step: that step.
        stale: validations since then.
        seconds: training time so far, over all sittings.
        scaler: state of the fp16 loss scaler, where there is one.
    """

    step: int = 0
    best: float = -1.0
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    scaler: dict[str, float] | None = None


def learned_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that are trained, and all buffers, by name: frozen parts are not kept again."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def save_checkpoint(
    folder: Path, name: str, state: dict[str, Tensor], progressed: Progressed, metadata: dict[str, Any]
) -> None:
    """Writes `<name>.safetensors`, then `<name>.json` with its hash.

    Args:
        folder: made if missing.
        name: `step-000400` or `best`.
        state: flat tensors by name.
        progressed: where training stands.
        metadata: further JSON; must be equal again at loading (the data's fingerprint).
    """
    tensors = folder / f"{name}.safetensors"
    metadata = {"progress": json.dumps(vars(progressed)), "about": json.dumps(metadata)}
    with atomic_file(tensors) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, temporary, metadata)
    write_atomic(folder / f"{name}.json", json.dumps({"sha256": sha256(tensors)}) + "\n")


def load_checkpoint(
    folder: Path, name: str, metadata: dict[str, Any]
) -> tuple[dict[str, Tensor], Progressed]:
    """What `save_checkpoint` wrote.

    Raises:
        RunError: a file is missing, cut short or altered, or `metadata` is not what it was; says which
            file and what to do.
    """
    tensors, described = folder / f"{name}.safetensors", folder / f"{name}.json"
    remedy = f"remove {described} and run the same command again to go on from an earlier checkpoint"
    try:
        expected = json.loads(described.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"checkpoint {described} is damaged; {remedy}") from None
    if not tensors.is_file():
        raise RunError(f"checkpoint {tensors} is missing; {remedy}")
    if sha256(tensors) != expected:
        raise RunError(f"checkpoint {tensors} is damaged (its SHA-256 is not the recorded one); {remedy}")
    with safe_open(tensors, "pt") as file:
        metadata = file.metadata()
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    progressed, was = Progressed(**json.loads(metadata["progress"])), json.loads(metadata["about"])
    for key in metadata:
        if was.get(key) != metadata[key]:
            raise RunError(
                f"checkpoint {tensors} was made with {key} {was.get(key)}, now it is {metadata[key]}: "
                f"a run goes on with what it began with; train under another name=..."
            )
    return state, progressed


def latest_checkpoint(folder: Path) -> str | None:
    """Name of the newest numbered checkpoint."""
    names = sorted(path.stem for path in folder.glob("step-*.json"))
    return names[-1] if names else None


def prune_checkpoints(folder: Path) -> None:
    """Removes numbered checkpoints but the newest `KEEP`; the JSON goes first."""
    for path in sorted(folder.glob("step-*.json"))[:-KEEP]:
        path.unlink()
        path.with_suffix(".safetensors").unlink(missing_ok=True)


def flatten_optimizer(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """The optimizer's per-parameter tensors as `optimizer/<parameter>/<entry>`.

    Args:
        optimizer: with its parameters in the order of `names` over all its groups.
        names: of the parameters.
    """
    flat = {}
    for index, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            if value is not None:  # SGD keeps None where there is no momentum
                flat[f"optimizer/{names[index]}/{key}"] = torch.as_tensor(value)
    return flat


def restore_optimizer(optimizer: torch.optim.Optimizer, names: list[str], flat: dict[str, Tensor]) -> None:
    """Puts back what `flatten_optimizer` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    position = {name: index for index, name in enumerate(names)}
    for path, value in flat.items():
        _, name, key = path.split("/")
        state.setdefault(position[name], {})[key] = value
    current = optimizer.state_dict()
    optimizer.load_state_dict({"state": state, "param_groups": current["param_groups"]})
