"""Check a model: each published tower against its own library, or against stored values."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from vlfew.core.errors import ModelError
from vlfew.encoders import BACKBONES, TEXT_ENCODERS
from vlfew.encoders.hub import offline
from vlfew.encoders.text.base import TextEncoder
from vlfew.models.build import pixel_statistics
from vlfew.models.dual_stream import DualStream
from vlfew.models.loading import load, published_spec
from vlfew.models.spec import ModelSpec
from vlfew.workflows.check_model.check import PIXELS, Check, largest_difference, weight_difference
from vlfew.workflows.check_model.reference import REFERENCES, EncodeText, Reference

IMAGES_ALONE = "no text encoder: images alone are checked"


@dataclass
class CheckedModel:
    """The comparisons of a model.

    Attributes:
        model: its name.
        checks: what was compared.
        notes: what was not, and where vlfew differs on purpose.
    """

    model: str
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all differences are within their limits."""
        return all(check.passed for check in self.checks)


@torch.no_grad()
def check_model(name: str, *, download: bool = False) -> CheckedModel:
    """Compares the published towers of a model with what their own libraries make of the same files and texts.

    Normalized pixels must be equal to 1e-5, tokens equal, and embeddings equal to 1e-4 of their norm. For towers in
    Python packages, values of another implementation are stored.

    Args:
        name: a published model, or a run folder or hub id of a model with published towers that were not trained
            further.
        download: fetch published weights that are not on this machine; without it, they must be.

    Raises:
        ModelError: unknown model, weights that are not on this machine, or nothing to compare with.
    """
    result = CheckedModel(name)
    with nullcontext() if download else offline("no download was asked for; --download asks for it"):
        model = load(name)
        if model.path is not None:
            _check_run(result, model)
            return result
        encoder, spec = model.text_encoder, model.spec
        if encoder is None or spec.text is None:
            result.notes.append(IMAGES_ALONE)
            _check_towers(result, (spec.backbone, model), None)
            return result
        # With class neighbors, the text stream is not the encoder's space.
        encode = encoder.encode if model.class_neighbors is not None else model.encode_text
        _check_towers(result, (spec.backbone, model), (spec.text.encoder, encoder, encode))
    return result


def _check_run(result: CheckedModel, model: DualStream) -> None:
    """The frozen towers of a saved model: their weights against the published ones, and the published ones."""
    spec = model.spec
    image = text = None
    if _can_check(result, spec.backbone, spec.backbone_fixed):
        own = BACKBONES.options(spec.backbone).model_fields
        options = {"pretrained": True} if "pretrained" in own else {}
        published = BACKBONES.get(spec.backbone)(spec.channels, spec.image_size, **options)
        result.checks.append(_weights_check(model.backbone, published, spec.backbone, "image"))
        expected = torch.cat(pixel_statistics(published, spec.channels))
        difference = largest_difference(torch.cat([model.pixel_mean, model.pixel_std]) / 255, expected / 255)
        result.checks.append(Check("pixel statistics", f"those of {spec.backbone}", difference, PIXELS))
        alone = published_spec(spec.backbone).model_copy(update={"text": None})
        result.notes += _uses(spec, alone)
        image = spec.backbone, DualStream.from_spec(alone).eval()
    if spec.text is None:
        result.notes.append(IMAGES_ALONE)
    elif _can_check(result, spec.text.encoder, spec.text.fixed):
        encoder: TextEncoder = TEXT_ENCODERS.get(spec.text.encoder)(**spec.text.options)
        assert model.text_encoder is not None
        result.checks.append(_weights_check(model.text_encoder, encoder, spec.text.encoder, "text"))
        text = spec.text.encoder, encoder, encoder.encode
    if image is None and text is None:
        raise ModelError(
            f"{result.model}: nothing to compare with, as no tower has published weights ({'; '.join(result.notes)})"
        )
    _check_towers(result, image, text)


def _uses(spec: ModelSpec, published: ModelSpec) -> list[str]:
    """A note where a saved model uses a published backbone otherwise than its authors, which is no mistake."""
    fields = (
        "channels",
        "image_size",
        "resize",
        "interpolation",
        "center_crop",
        "align_faces",
        "preprocessing",
        "tta",
    )
    differing = [
        f"{name} {getattr(spec, name)} (published {getattr(published, name)})"
        for name in fields
        if getattr(spec, name) != getattr(published, name)
    ]
    fixed = ("load", "pretrained", "config")
    differing += [f"{key} {value}" for key, value in spec.backbone_options.items() if key not in fixed]
    return [f"{spec.backbone} is used otherwise than published: {', '.join(differing)}"] if differing else []


def _can_check(result: CheckedModel, name: str, fixed: bool) -> bool:
    """Whether an encoder is a published one whose weights were not trained further; a note says why not."""
    known = _reference_name(name).partition(":")
    if known[0] + known[1] not in REFERENCES.names():
        result.notes.append(f"{name} has no library of published weights to compare with")
    elif not fixed:
        result.notes.append(f"{name} was trained further here; there is nothing to compare with")
    else:
        return True
    return False


def _weights_check(found: torch.nn.Module, published: torch.nn.Module, name: str, stream: str) -> Check:
    difference = weight_difference(found.state_dict(), published.state_dict())
    return Check(f"weights of the {stream} encoder", f"those of {name}", difference, 0.0)


def _check_towers(
    result: CheckedModel,
    image: tuple[str, DualStream] | None,
    text: tuple[str, TextEncoder, EncodeText] | None,
) -> None:
    """Adds the comparisons of an image tower and of a text tower; of one model of a library, those of both, too."""
    names = {_reference_name(part[0]) for part in (image, text) if part is not None}
    references: dict[str, Reference] = {name: REFERENCES.get(name)() for name in sorted(names)}
    if image is not None:
        name, model = image
        with TemporaryDirectory() as folder:
            result.checks += references[_reference_name(name)].image_checks(model, Path(folder))
    if text is not None:
        name, encoder, encode = text
        result.checks += references[_reference_name(name)].text_checks(encoder, encode)
    for reference in references.values():
        result.checks += reference.joint_checks()
        result.notes += reference.notes


def _reference_name(name: str) -> str:
    """The name of what an encoder is compared with: text towers of transformers have a prefix of their own."""
    return f"transformers:{name[3:]}" if name.startswith("hf:") else name
