"""Names used before version 0.2: each old key, value, component or flag leads to the one that replaced it.

Users get one line that names the new key. Run folders of old versions are upgraded when they are read, see
`vlfew.core.upgrade`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

KEYS = {
    "data.center": "data.center_crop",
    "data.words": "data.texts",
    "image.views": "image.tta",
    "image.front_end": "image.preprocessing",
    "image.preprocessing.pictures": "image.preprocessing.images",
    "image.twins": "image.share_weights",
    "image.centred": "image.center_embeddings",
    "image.unlocked": "image.unfreeze_last",
    "text.unlocked": "text.unfreeze_last",
    "text.neighbours": "text.class_neighbors.temperature",
    "similarity.scorer": "similarity.name",
    "fallback": "fallback_loss",
    "start_from": "init_from",
    "select": "model_selection",
    "sampling.classes": "sampling.classes_per_batch",
    "sampling.pictures": "sampling.images_per_class",
    "sampling.tasks": "sampling.episodes_per_batch",
    "sampling.pairs": "sampling.pairs_per_batch",
    "sampling.given_pairs": "sampling.annotated_pairs_per_batch",
    "sampling.groups": "sampling.groups_per_batch",
    "sampling.more_words": "sampling.extra_text_negatives",
    "sampling.least_pictures": "sampling.min_images_per_class",
    "augment.each": "augment.apply_prob",
    "augment.erase": "augment.random_erasing",
    "augment.flip": "augment.hflip",
    "optim.warmup": "optim.warmup_steps",
    "optim.decay": "optim.gamma",
    "optim.decay_every": "optim.step_size",
    "optim.clip": "optim.max_grad_norm",
    "optim.layers": "optim.param_groups",
    "training.accumulation": "training.gradient_accumulation_steps",
    "training.validate_every": "training.eval_every",
    "training.checkpoint_every": "training.save_every",
    "repeat.key": "repeat.over",
}
"""Configuration keys, with list positions left out."""

OPTIONS = {
    "scorer": ("method", "similarity"),
    "too_few": ("on_small_class",),
    "enrolled": ("gallery_size",),
    "draws": ("repeats",),
    "seeds": ("repeats",),
    "choose": ("tune_on",),
    "template": ("templates",),
    "calibrate": ("validation_split", "calibration_split"),
    "batch": ("batch_size",),
}
"""Options of protocols and of `vlfew.adapt`; where there are several new names, a component has one of them."""

VALUES: dict[str, dict[str, Any]] = {
    "resize": {"squash": "stretch"},
    "protocol": {"one-picture": "one-image", "pictures-and-words": "multimodal"},
    "split": {"pictures": "images"},
    "backbone": {"plane": "embed2d"},
    "tta": {"one": "none", "mirror": "hflip", "turns": "rot90", "symmetries": "d4"},
    "share_weights": {"shared": True, "unshared": False},
    "schedule": {"exponential": "step"},
    "method": {"pictures_and_words": "multimodal_prototypes"},
    "on_small_class": {"refuse": "error", "leave_out": "skip"},
    "tune_on": {"val": "val-classes", "pictures": "held-out-images", "fixed": "none"},
}
"""Values and names of components, by the last part of their (new) key or by the kind of component."""

FLAGS = {
    "evaluate": {
        "--protocol": "the first argument: vlfew evaluate PROTOCOL RUN",
        "--set": "plain data.KEY=VALUE, such as data.center_crop=0.6",
    },
    "adapt": {
        "--set": "plain data.KEY=VALUE, such as data.center_crop=0.6",
        "--fix": "--METHOD.OPTION VALUE, such as --tip_adapter.beta 5.5",
    },
    "data": {"--set": "an option of its own, such as --center-crop 0.6"},
}
"""Flags of commands that are not options of a protocol (`OPTIONS`)."""


def current_values(section: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with today's values of its (new) keys."""
    return {key: current_value(key, value) for key, value in section.items()}


def current_value(key: str, value: Any) -> Any:
    """Today's value of a key."""
    return VALUES.get(key, {}).get(value, value) if isinstance(value, str) else value


def renamed_key(path: str) -> str:
    """`"; it is now data.center_crop"` for an old dotted key, otherwise an empty string."""
    new = KEYS.get(".".join(step for step in path.split(".") if not step.isdigit()))
    return "" if new is None else f"; it is now {_with_values(new)}"


def renamed_option(name: str, known: Collection[str]) -> str:
    """The same for an option of a component that has the options `known`."""
    new = next((new for new in OPTIONS.get(name, ()) if new in known), None)
    return "" if new is None else f"; it is now {_with_values(new)}"


def renamed_flag(command: str, flag: str, known: Collection[str]) -> str:
    """What became of a flag of a command whose flags are `known`; empty for one that never was."""
    options = (f"--{new.replace('_', '-')}" for new in OPTIONS.get(flag[2:].replace("-", "_"), ()))
    return FLAGS.get(command, {}).get(flag) or next((new for new in options if new in known), "")


def renamed_value(key: str, value: object) -> str:
    """The same for an old value of a (dotted) key, or the old name of a kind of component."""
    new = VALUES.get(key.rpartition(".")[2], {}).get(str(value))
    return "" if new is None else f"; {value} is now {str(new).lower() if isinstance(new, bool) else new}"


def _with_values(key: str) -> str:
    """`image.tta (one -> none, mirror -> hflip)`: a new key and what became of its values."""
    values = VALUES.get(key.rpartition(".")[2], {})
    shown = ", ".join(f"{old} -> {str(value).lower()}" for old, value in values.items())
    return f"{key} ({shown})" if values else key
