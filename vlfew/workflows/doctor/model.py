"""Whether a model can be loaded and gives embeddings."""

from __future__ import annotations

import torch

from vlfew.core.errors import VlfewError
from vlfew.encoders.hub import offline
from vlfew.models.dual_stream import DualStream
from vlfew.models.loading import load
from vlfew.workflows.doctor.finding import Finding


def check_model(name: str) -> tuple[list[Finding], DualStream | None]:
    """What there is to know about a model, and the model where it can be used."""
    try:
        with offline("doctor downloads nothing"):
            model = load(name)
    except VlfewError as error:
        return [Finding("problem", "model", line) for line in str(error).splitlines()], None
    parameters = sum(parameter.numel() for parameter in model.parameters())
    size = f"{model.spec.channels} x {model.spec.image_size} x {model.spec.image_size}"
    found = [
        Finding(
            "ok",
            "model",
            f"{model.spec.backbone}, {parameters:,} parameters, input {size}, embeddings of {model.embedding_size}, "
            f"fingerprint {model.fingerprint}",
        )
    ]
    noise = torch.randint(0, 256, (2, *model.spec.preprocessor().shape), dtype=torch.uint8)
    encoded = {"images": lambda: model.encode_image(noise)}
    if model.has_text:
        encoded["texts"] = lambda: model.encode_text(["a photo of a cat", "a drawing of seven ships"])
    else:
        found.append(Finding("ok", "texts", "no text encoder: classes by images alone"))
    for what, encode in encoded.items():
        try:
            first, second = encode()
        except VlfewError as error:
            found.append(Finding("problem", what, str(error)))
            continue
        if not (first.isfinite().all() and second.isfinite().all()):
            found.append(Finding("problem", what, "embeddings are NaN or infinite: the weights are damaged"))
        elif torch.allclose(first, second, rtol=1e-4, atol=1e-7):
            found.append(Finding("problem", what, "two different ones have the same embedding"))
        else:
            found.append(Finding("ok", what, "two different ones have different embeddings"))
    return found, model
