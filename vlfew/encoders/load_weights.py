"""Weights into a network, strictly: what does not fit is named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from vlfew.core.errors import ModelError
from vlfew.core.plurals import counted, first_names

_LISTED = re.compile(r"^\s*(Missing|Unexpected) key\(s\) in state_dict: (.*)$", re.MULTILINE)
_SHAPES = re.compile(
    r"size mismatch for (\S+): copying a param with shape (?:torch\.Size\()?(\[.*?\])\)? from checkpoint, "
    r"the shape in current model is (?:torch\.Size\()?(\[.*?\])\)?",
)


def load_weights(module: nn.Module, state: Mapping[str, Tensor], who: str) -> None:
    """Copies a state dict into a network.

    Raises:
        ModelError: a weight is missing, left over or of another shape; names the first ones.
    """
    own = module.state_dict()
    shapes = [
        (name, list(value.shape), list(own[name].shape))
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    problem = describe_misfit([n for n in own if n not in state], [n for n in state if n not in own], shapes)
    if problem:
        raise ModelError(f"{who}: {problem}")
    module.load_state_dict(dict(state))


def describe_misfit(
    missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[tuple[str, object, object]]
) -> str:
    """What does not fit, with the first names; empty where everything does.

    Args:
        missing: weights of the network that the file lacks.
        unexpected: weights in the file that the network does not have.
        shapes: name, shape in the file and shape in the network of those that differ.
    """
    parts = []
    if missing:
        parts.append(f"the file lacks {counted(len(missing), 'weight')} ({first_names(missing)})")
    if unexpected:
        parts.append(f"the network has no {first_names(unexpected)}")
    if shapes:
        name, stored, expected = shapes[0]
        more = f" and {len(shapes) - 1} more" if len(shapes) > 1 else ""
        parts.append(f"{name} is {stored} in the file and {expected} in the network{more}")
    return f"the weights do not fit: {'; '.join(parts)}" if parts else ""


def misfit_of(error: BaseException) -> str:
    """The same from the error of torch's `load_state_dict`; empty for any other error."""
    text = str(error)
    if "loading state_dict for" not in text:
        return ""
    listed = {kind: re.findall(r'"([^"]+)"', names) for kind, names in _LISTED.findall(text)}
    return describe_misfit(listed.get("Missing", []), listed.get("Unexpected", []), _SHAPES.findall(text))
