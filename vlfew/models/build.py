"""From a spec to the model of it."""

from __future__ import annotations

from vlfew.encoders import BACKBONES, PREPROCESSING, TEXT_ENCODERS
from vlfew.encoders.image.backbone import Backbone
from vlfew.encoders.preprocessing.base import Preprocessing
from vlfew.encoders.text.base import TextEncoder
from vlfew.models.dual_stream import DualStream, seen_by_backbone
from vlfew.models.spec import ModelSpec


def build_model(spec: ModelSpec) -> DualStream:
    """The model of a spec: registered parts, pretrained where the options say so, else random.

    Raises:
        VlfewError: unknown part, missing weights, or sizes that do not fit.
    """
    preprocessing: Preprocessing | None = None
    if spec.preprocessing is not None:
        shape = (spec.channels, spec.image_size)
        preprocessing = PREPROCESSING.get(spec.preprocessing)(*shape, **spec.front_end_options)

    def backbone() -> Backbone:
        built: Backbone = BACKBONES.get(spec.backbone)(
            *seen_by_backbone(spec, preprocessing), **spec.backbone_options
        )
        return built

    left, right = backbone(), backbone() if not spec.share_weights else None
    text = None
    if spec.text is not None:
        text = (
            TextEncoder.from_saved(spec.text.saved)
            if spec.text.saved is not None
            else TEXT_ENCODERS.get(spec.text.encoder)(**spec.text.options)
        )
    return DualStream(spec, left, text, preprocessing, right)
