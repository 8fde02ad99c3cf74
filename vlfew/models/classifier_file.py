"""Saved few-shot classifiers: the support set as safetensors, labels and settings in its header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vlfew.classifiers.support import SupportSet
from vlfew.core.errors import ModelError
from vlfew.core.features import Features
from vlfew.core.files import write_tensors

FORMAT = 1


def write_classifier(path: Path, support: SupportSet, classes: np.ndarray, settings: dict[str, Any]) -> None:
    """Writes a support set, the labels of its classes, and settings that JSON can hold."""
    features = support.features
    tensors = {"class_id": support.class_id, "modality": support.modality, "embedding": features.embedding}
    if features.map is not None:
        tensors["map"] = features.map
    header = {"format": FORMAT, "classes": classes.tolist(), "dtype": classes.dtype.str, **settings}
    # NumPy's numbers, as a parameter search gives them, become Python's.
    write_tensors(path, tensors, {"vlfew": json.dumps(header, default=float)})


def read_classifier(path: Path) -> tuple[Features, Tensor, Tensor, np.ndarray, dict[str, Any]]:
    """Features, class ids and modalities of the support set, the labels of the classes, and the settings.

    Raises:
        ModelError: the file cannot be read, or is no saved classifier.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("vlfew", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if header.get("format") != FORMAT:
        raise ModelError(f"{path} is not a classifier that this version can read; fit and save it again")
    features = Features(tensors["embedding"], tensors.get("map"))
    classes = np.array(header["classes"], dtype=header["dtype"])
    return features, tensors["class_id"], tensors["modality"], classes, header
