"""Models by name: run folders, hub repositories and published pretrained models."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from vlfew.core.config import ClassNeighborsConfig
from vlfew.core.errors import ModelError, describe_value
from vlfew.encoders import BACKBONES, PACKAGED_BACKBONES, PRETRAINED_MODELS
from vlfew.encoders.hub import read_json
from vlfew.encoders.image.backbone import Backbone, PretrainedModel
from vlfew.encoders.packaged.base import PackagedWeights
from vlfew.models.dual_stream import DualStream
from vlfew.models.serialization import fingerprint_of
from vlfew.models.spec import ModelSpec, TextSpec

TEMPERATURE = 0.1
"""Of the class neighbors of a packaged backbone; chosen on the validation classes of Caltech-101."""


def load(name: str | Path) -> DualStream:
    """Loads a model by name, on the CPU, in evaluation mode.

    Args:
        name: a run folder, a Hugging Face hub id (`owner/name`), or a published model: `open_clip:ARCH/TAG` or
            `transformers:NAME`, both with their text encoder in their joint space where they have one, or, of images
            alone, `timm:NAME` or a backbone in a Python package (`efficientnet_lite0`). The folder of a published
            model needs no prefix.

    Raises:
        ModelError: no model of that name; says where it was looked for.
    """
    if not isinstance(name, str | Path):
        raise ModelError(f"a model's name must be a str or a Path, got {describe_value(name)}")
    folder, text = Path(name), str(name)
    if is_published(text) and not folder.is_dir():
        return _load_published(text)
    # A path whose parent folder exists is a mistyped path rather than a hub id.
    is_hub_id = (
        text.count("/") == 1 and not folder.parent.is_dir() and not text.startswith((".", "/", "runs/"))
    )
    if folder.is_dir() and (libraries := _libraries(folder)):
        if len(libraries) > 1:
            choices = " or ".join(f"{library}:{folder.absolute()}" for library in libraries)
            raise ModelError(f"{folder} holds a model of {' and of '.join(libraries)}; give {choices}")
        return _load_published(f"{libraries[0]}:{folder.absolute()}")
    if folder.is_dir() or is_hub_id:
        return DualStream.from_pretrained(name)
    beside = (
        [str(path) for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    )
    close = get_close_matches(text, [*beside, *PACKAGED_BACKBONES.names()], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ModelError(
        f"there is no model {text!r}: neither a run folder, nor the folder of a published model, nor a hub id "
        f"(owner/name), nor open_clip:ARCH/TAG, transformers:NAME, timm:NAME or one of "
        f"{', '.join(PACKAGED_BACKBONES.names())}{hint}"
    )


def is_published(name: str) -> bool:
    """Whether a name is that of a published model: of a library's, or of a backbone in a Python package."""
    return name.partition(":")[0] + ":" in PRETRAINED_MODELS.names() or name in PACKAGED_BACKBONES.names()


def _libraries(folder: Path) -> list[str]:
    """The libraries whose published models a folder holds; none for a model of ours."""
    if (folder / "model.json").is_file():
        return []
    libraries = ["open_clip"] if (folder / "open_clip_config.json").is_file() else []
    config = folder / "config.json"
    keys = read_json(config, str(folder)) if config.is_file() else {}
    return libraries + ["transformers"] * ("model_type" in keys) + ["timm"] * ("architecture" in keys)


def _load_published(name: str) -> DualStream:
    """A published model in the joint space it was trained for."""
    model = DualStream.from_spec(published_spec(name))
    model.fit_pretraining_classes()
    model.spec.outside_data = model.pretrained_on_images
    model.fingerprint = fingerprint_of(model)
    return model.eval()


def published_spec(name: str) -> ModelSpec:
    """The architecture of a published model, and how its images are read.

    Raises:
        ModelError: unknown name, or files that are not there.
    """
    published = _pretrained_model(name)
    preprocessor = published.preprocessor
    takes_pretrained = "pretrained" in BACKBONES.options(name).model_fields
    return ModelSpec(
        backbone=name,
        backbone_options={"pretrained": True} if takes_pretrained else {},
        backbone_frozen=True,
        text=None
        if published.text is None
        else TextSpec(
            encoder=published.text,
            projection="none",
            class_neighbors=published.class_neighbors,
        ),
        embedding_dim=None,
        image_size=preprocessor.image_size,
        channels=preprocessor.channels,
        resize=preprocessor.resize,
        center_crop=preprocessor.center_crop,
        interpolation=preprocessor.interpolation,
        resize_first=preprocessor.resize_first,
        align_faces=preprocessor.align_faces,
    )


def _pretrained_model(name: str) -> PretrainedModel:
    """How the images of a published model are read, and its text encoder."""
    if name not in PACKAGED_BACKBONES.names():
        found: PretrainedModel = PRETRAINED_MODELS.get(name)()
        return found
    backbone: type[Backbone] = PACKAGED_BACKBONES.get(name)  # type: ignore[assignment]
    weights: PackagedWeights = backbone.weights  # type: ignore[attr-defined]
    assert weights.images is not None
    if (
        backbone.pretrained_classifier is Backbone.pretrained_classifier
    ):  # no classes that texts could be mapped to
        return PretrainedModel(weights.images.preprocessor)
    neighbors = ClassNeighborsConfig(temperature=TEMPERATURE, classes="pretraining")
    return PretrainedModel(weights.images.preprocessor, "minilm", neighbors)
