"""Names used before version 0.2: each old key, value, component or flag leads to the one that replaced it.

Users get one line that names the new key. Run folders of old versions are upgraded when they are read, see
`vlfew.core.upgrade`.
"""

from __future__ import annotations

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
    "scorer": "method (similarity for verification)",
    "too_few": "on_small_class (refuse, leave_out are now error, skip)",
    "enrolled": "gallery_size",
    "draws": "repeats",
    "seeds": "repeats",
    "choose": "tune_on (val, pictures, fixed are now val-classes, held-out-images, none)",
}
"""Options of protocols and of `vlfew.adapt`."""

VALUES: dict[str, dict[str, Any]] = {
    "data.resize": {"squash": "stretch"},
    "data.protocol": {"one-picture": "one-image"},
    "data.split": {"pictures": "images"},
    "image.backbone": {"plane": "embed2d"},
    "image.tta": {"one": "none", "mirror": "hflip", "turns": "rot90", "symmetries": "d4"},
    "image.share_weights": {"shared": True, "unshared": False},
    "optim.schedule": {"exponential": "step"},
    "on_small_class": {"refuse": "error", "leave_out": "skip"},
    "tune_on": {"val": "val-classes", "pictures": "held-out-images", "fixed": "none"},
}
"""Values, by their (new) key."""

COMPONENTS = {
    "backbone": {"plane": "embed2d"},
    "protocol": {"pictures-and-words": "multimodal"},
    "method": {"pictures_and_words": "multimodal_prototypes"},
}
"""Registered names, by kind of component."""

FLAGS = {
    "--protocol": "the first argument: vlfew evaluate PROTOCOL RUN",
    "--too-few": "--on-small-class error|skip",
    "--enrolled": "--gallery-size",
    "--draws": "--repeats",
    "--seeds": "--repeats",
    "--choose": "--tune-on val-classes|held-out-images|none",
    "--scorer": "--method (--similarity for verification)",
    "--set": "plain data.KEY=VALUE, such as data.center_crop=0.6 (data show: an option of its own)",
    "--template": "--templates",
    "--fix": "--METHOD.OPTION VALUE, such as --tip_adapter.beta 5.5",
}
"""Options of the command line."""


def renamed_key(path: str) -> str:
    """`"; it is now data.center_crop"` for an old dotted key, otherwise an empty string."""
    steps = [step for step in path.split(".") if not step.isdigit()]
    new = KEYS.get(".".join(steps))
    if new is None and steps[0] in ("evaluate", "select", "model_selection"):
        new = OPTIONS.get(steps[-1])
    if not new:
        return ""
    values = ", ".join(f"{old} -> {str(value).lower()}" for old, value in VALUES.get(new, {}).items())
    return f"; it is now {new}" + (f" ({values})" if values else "")


def renamed_value(path: str, value: object) -> str:
    """The same for an old value of a key."""
    new = VALUES.get(path, VALUES.get(path.rpartition(".")[2], {})).get(str(value))
    return "" if new is None else f"; {value} is now {str(new).lower() if isinstance(new, bool) else new}"


def renamed_component(kind: str, name: str) -> str:
    """The same for an old name in a registry."""
    new = COMPONENTS.get(kind, {}).get(name)
    return f"; it is now {new!r}" if new else ""
