"""The image tower of any open_clip model."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlfew.core.features import Features
from vlfew.data.preprocess import ImagePreprocessor, ResizeFirst
from vlfew.encoders.image.backbone import (
    Backbone,
    PretrainedModel,
    check_gray_or_rgb,
    check_image_size,
    to_rgb,
)
from vlfew.encoders.open_clip_towers import NO_TEXT, build_tower, find_model, load_tower, pretraining_data


class OpenClipBackbone(Backbone):
    """`open_clip:ARCH/TAG`, `open_clip:FOLDER` or, randomly initialized, `open_clip:ARCH`: the image tower.

    Args:
        name: what follows `open_clip:`.
        in_channels: 3, or 1: gray images are repeated to three channels.
        image_size: height and width in pixels; a ViT's positions are interpolated to it.
        config: of a saved model: `model_cfg`, `mean`, `std`, `pretrained`; nothing else is read then.

    Raises:
        ModelError: see `find_model`, `load_tower`.
    """

    tower: Any

    def __init__(
        self, name: str, in_channels: int, image_size: int, *, config: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        who = f"open_clip:{name}"
        check_gray_or_rgb(who, in_channels)
        weights = None
        if config is None:
            model = find_model(name)
            weights = model.weights
            config = {
                "model_cfg": model.tower_config("vision_cfg"),
                "mean": list(model.mean),
                "std": list(model.std),
                "pretrained": weights is not None,
            }
        architecture = config["model_cfg"]
        vision = {**architecture["vision_cfg"], "image_size": image_size}
        if isinstance(vision.get("patch_size"), int) and "timm_model_name" not in vision:
            check_image_size(who, image_size, vision["patch_size"])
        tower = build_tower("visual", {**architecture, "vision_cfg": vision, "text_cfg": NO_TEXT}, who)
        if weights is not None:
            load_tower(tower, "visual", weights, who)
        if hasattr(tower, "set_input_size"):
            tower.set_input_size(image_size)
        self.tower = tower
        self.saved_options = {"config": config}
        self.dim = architecture["embed_dim"]
        if config["pretrained"]:
            self.pretrained_on = pretraining_data(name)
            self.use_pixel_statistics(config["mean"], config["std"], in_channels)

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, dim]` and `map [B, width, H', W']`, the last block's."""
        output = self.tower.forward_intermediates(to_rgb(images), indices=1)
        return Features(output["image_features"], map=output["image_intermediates"][-1])


def pretrained_model(name: str) -> PretrainedModel:
    """How the images of `open_clip:NAME` are read, and its text encoder.

    Raises:
        ModelError: see `find_model`.
    """
    model = find_model(name)
    size = model.config["vision_cfg"].get("image_size", 224)
    side = size if isinstance(size, int) else size[0]
    red, green, blue = (model.fill,) * 3 if isinstance(model.fill, int) else model.fill
    preprocessor = ImagePreprocessor(
        side,
        channels=3,
        resize=model.resize,
        interpolation=model.interpolation,
        resize_first=ResizeFirst(size=side, fill=(red, green, blue)),
    )
    return PretrainedModel(preprocessor, text=f"open_clip:{name}")
