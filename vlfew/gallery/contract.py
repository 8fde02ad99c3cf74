"""What a gallery remembers of its model: embeddings of another one cannot be compared with its own."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlfew.core.errors import ModelError
from vlfew.data.decode import DECODER_VERSION
from vlfew.models.dual_stream import DualStream
from vlfew.models.serialization import fingerprint_of


class OtherModel(ModelError):
    """A model that is not the gallery's."""


def describe_model(model: DualStream, name: str) -> dict[str, Any]:
    """The settings `fingerprint`, `model`, `preprocessing` and `dim` of a gallery.

    Args:
        model: encodes its images and texts.
        name: that loads it again; "" where there is none.

    Raises:
        ModelError: a model of two backbones, or one that has no fingerprint.
    """
    if not model.spec.share_weights:
        raise ModelError(
            "a model with image.share_weights: false has no one embedding of an image; use another model"
        )
    preprocessing = asdict(model.spec.preprocessor())
    for key in ("on_bad_image", "seed"):
        del preprocessing[key]
    if preprocessing["align_faces"] == "none":  # as of galleries made before there was such a thing
        del preprocessing["align_faces"]
    if preprocessing["resize_first"] is not None:
        preprocessing["resize_first"] = preprocessing["resize_first"].model_dump(mode="json")
    return {
        "fingerprint": fingerprint_of(model),
        "model": name,
        "preprocessing": preprocessing | {"decoder": DECODER_VERSION},
        "dim": model.embedding_size,
    }


def check_model(model: DualStream, settings: dict[str, Any], store: str) -> None:
    """
    Raises:
        OtherModel: not the gallery's model, or one that reads images in another way.
    """
    found = describe_model(model, "")
    way_out = f"use its own, or embed it again: vlfew gallery re-embed {store} --model RUN"
    if found["fingerprint"] != settings["fingerprint"]:
        raise OtherModel(
            f"{store} was made with the model of fingerprint {settings['fingerprint']}"
            f"{_named(settings['model'])}, not with {found['fingerprint']}{_named(model_name(model))}; {way_out}"
        )
    for key in ("preprocessing", "dim"):
        if found[key] != settings[key]:
            raise OtherModel(
                f"{store} was made with {key} {settings[key]}, the model has {found[key]}; {way_out}"
            )


def warn_of_similarity(model: DualStream) -> None:
    """Warns of a model that was trained with another similarity than the gallery's."""
    if model.spec.similarity != "cosine":
        warnings.warn(
            f"the model was trained to compare images by {model.spec.similarity}, and a gallery compares embeddings by "
            "their cosine, which may tell them apart less well: see what calibrate says of it",
            stacklevel=3,
        )


def model_name(model: DualStream, name: str | Path = "") -> str:
    """What loads the model again: the absolute path of its folder, or the name that it was loaded by."""
    if model.path is not None:
        return str(model.path.absolute())
    return str(name)


def _named(name: str) -> str:
    return f" ({name})" if name else ""
