"""Models saved in format 1, whose keys and tensors had other names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vlfew.core.renamed import current_values

KEYS = {
    "backbone_unlocked": "backbone_unfreeze_last",
    "front_end": "preprocessing",
    "front_end_options": "preprocessing_options",
    "views": "tta",
    "twins": "share_weights",
    "centred": "center_embeddings",
    "center": "center_crop",
    "unlocked": "unfreeze_last",
    "neighbours": "class_neighbors",
    "classes": "num_classes",
    "pictures": "images",
}
"""Old to new names of keys, in the spec, its text section and the options of preprocessing."""
TENSORS = {
    "picture_mean": "image_mean",
    "word_mean": "text_mean",
    "front_end.": "preprocessing.",
    "neighbours.pictures": "class_neighbors.images",
    "neighbours.words_mean": "class_neighbors.text_mean",
    "neighbours.words": "class_neighbors.texts",
}
"""Old to new beginnings of the names of tensors; the first that matches counts."""


def current_description(description: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a `model.json` of format 1, as format 2 has it."""
    spec = _renamed(description["model"])
    spec["preprocessing_options"] = _renamed(spec.get("preprocessing_options", {}))
    if spec.get("text") is not None:
        text = _renamed(spec["text"])
        if text.get("class_neighbors") is not None:
            text["class_neighbors"] = {"temperature": text["class_neighbors"]}
        spec["text"] = text
    return {
        "format": 2,
        "sha256": description.get("sha256"),
        "metadata": description.get("about", {}),
        "model": spec,
    }


def current_tensor_names(names: Iterable[str]) -> dict[str, str]:
    """Stored to current names of tensors."""
    return {name: _current_name(name) for name in names}


def _renamed(section: Mapping[str, Any]) -> dict[str, Any]:
    return current_values({KEYS.get(key, key): value for key, value in section.items()})


def _current_name(name: str) -> str:
    for old, new in TENSORS.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return name
