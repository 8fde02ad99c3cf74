"""Any image tower of transformers: ViT, DINOv2, ConvNeXt ..., and those of CLIP and SigLIP."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlfew.core.config import Resize
from vlfew.core.errors import ModelError, first_line
from vlfew.core.features import Features
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.encoders.image.backbone import Backbone, Published, channel_stats
from vlfew.encoders.text.huggingface import (
    check_files,
    config_dict,
    keep_one_tower,
    model_folder,
    model_from_config,
    quiet,
    read_weights,
)

OTHERS = ("*.json",)
MOST_PREFIXES = 16
"""A class token and registers: more of them than that stand before no grid."""


class TransformersBackbone(Backbone):
    """`transformers:NAME` or `transformers:FOLDER`, an image model or the image tower of an image-text model.

    The embedding is what the model itself makes of an image: its projection into the space of its
    words, or else its pooled vector; where the weights have no pooler, the class token, and where there
    is none, the mean of the tokens or of the map.

    Args:
        name: a folder, or a hub repository, which is downloaded when not in the cache.
        in_channels: 3, or 1: a gray image is shown as three equal channels.
        image_size: side of the images in pixels; positions are interpolated to it.
        config: of a saved model: `model`, `pooler`, `mean`, `std`; nothing else is read then.

    Raises:
        ModelError: weights that cannot be had or read, a model that takes no images, or an image
            size that does not fit.
    """

    model: Any

    def __init__(
        self, name: str, in_channels: int, image_size: int, *, config: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        who = f"transformers:{name}"
        if in_channels not in (1, 3):
            raise ModelError(f"{who} takes images of 1 or 3 channels, got {in_channels}")
        if config is None:
            folder = model_folder(name, OTHERS, who)
            check_files(folder, who, "preprocessor_config.json")
            processor = _processor(folder, who)
            model, missing = read_weights(folder, who)
            lacking = [key for key in missing if not key.startswith("pooler.")]
            if lacking:
                raise ModelError(
                    f"{who}: the weights in {folder} lack {lacking[0]!r} and {len(lacking) - 1} more"
                )
            mean, std = _statistics(processor)
            config = {"model": config_dict(model.config), "pooler": not missing, "mean": mean, "std": std}
        else:
            model = model_from_config(config["model"])
        joint = hasattr(model, "get_image_features")
        self._takes = model.get_image_features if joint else model.forward
        accepted = inspect.signature(self._takes).parameters
        if "pixel_values" not in accepted:
            raise ModelError(f"{who} is a {model.config.model_type} model, which takes no images")
        self._arguments = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in accepted else {}
        if joint:
            keep_one_tower(model, "text")
        if not config["pooler"]:
            model.pooler = None  # random weights, as the checkpoint has none
        for module in model.modules():
            if isinstance(getattr(module, "mask_token", None), torch.nn.Parameter):
                module.mask_token = None  # of pretraining; it would go without gradients
        self.model, self.in_channels = model.eval(), in_channels
        self.rebuild = (who, {"config": config})
        self.pretrained = True
        self.pixel_mean = channel_stats(config["mean"], in_channels)
        self.pixel_std = channel_stats(config["std"], in_channels)
        inner = getattr(model.config, "vision_config", model.config)
        self._patch = getattr(inner, "patch_size", None)
        try:
            with torch.no_grad():
                shown = self(torch.zeros(1, in_channels, image_size, image_size))
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{who} cannot be used on {image_size} x {image_size} images: {first_line(error)}"
            ) from error
        self.dim = shown.embedding.shape[1]

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, dim]`, `tokens [B, T, W]` and, where there is a grid, `map`."""
        if self.in_channels == 1:
            images = images.expand(-1, 3, -1, -1)
        output = self._takes(pixel_values=images, **self._arguments)
        hidden = output.last_hidden_state
        vector = getattr(output, "image_embeds", None)
        if vector is None:
            vector = getattr(output, "pooler_output", None)
        if hidden.ndim == 4:
            pooled = hidden.mean((2, 3)) if vector is None else vector.flatten(1)
            return Features(pooled, map=hidden)
        prefix, maps = self._grid(hidden, images.shape[2])
        if vector is None:
            vector = hidden[:, 0] if prefix else hidden.mean(1)
        return Features(vector, map=maps, tokens=hidden)

    def _grid(self, tokens: Tensor, side: int) -> tuple[int, Tensor | None]:
        """How many tokens stand before those of patches, and these as `[B, W, H', W']`.

        Models that merge patches on their way have no token but those of patches.
        """
        count = tokens.shape[1]
        across = side // self._patch if isinstance(self._patch, int) else 0
        prefix = count - across * across
        if not 0 <= prefix <= MOST_PREFIXES or not across:
            across, prefix = round(count**0.5), 0
            if across * across != count:
                return 0, None
        return prefix, tokens[:, prefix:].transpose(1, 2).unflatten(2, (across, across))


def published(name: str) -> Published:
    """How `transformers:NAME` was trained to see images, and where its words are read.

    Raises:
        ModelError: files that cannot be had or read.
    """
    who = f"transformers:{name}"
    folder = model_folder(name, OTHERS, who)
    check_files(folder, who, "preprocessor_config.json")
    processor = _processor(folder, who)
    joint = "text_config" in json.loads((folder / "config.json").read_text("utf-8"))
    return Published(_reading(processor), text=f"hf:{name}" if joint else None)


def _processor(folder: Path, who: str) -> Any:
    """The image processor in a folder.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoImageProcessor

    try:
        with quiet():
            return AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise ModelError(
            f"{who}: how images are shown to it is not said in {folder} ({first_line(error)}); "
            "put its preprocessor_config.json there"
        ) from error


def _statistics(processor: Any) -> tuple[list[float], list[float]]:
    """Mean and deviation of pixels in 0..1; 0 and 1 where the model takes pixels as they are."""
    if not getattr(processor, "do_normalize", False):
        return [0.0] * 3, [1.0] * 3
    return list(processor.image_mean), list(processor.image_std)


def _reading(processor: Any) -> ImagePreprocessor:
    """The image size, how images are brought to it, and how much of them is kept."""
    size = _sides(getattr(processor, "size", None))
    crop = (
        _sides(getattr(processor, "crop_size", None)) if getattr(processor, "do_center_crop", False) else {}
    )
    edge = size.get("shortest_edge") or size.get("height") or crop.get("height") or 224
    side = crop.get("height") or edge
    resize: Resize = "crop" if "shortest_edge" in size else "squash"
    center = min(1.0, side / edge)
    part = getattr(processor, "crop_pct", None)
    if part is not None:  # ConvNeXt's: small images are the middle of larger ones, large ones are stretched
        resize, center = ("crop", part) if edge < 384 else ("squash", 1.0)
    return ImagePreprocessor(
        int(side),
        channels=3,
        resize=resize,
        center_crop=center,
        interpolation="bicubic" if int(getattr(processor, "resample", 2) or 2) == 3 else "bilinear",
    )


def _sides(size: Any) -> dict[str, int]:
    """A processor's size as a dictionary of what is set in it."""
    if size is None or isinstance(size, int):
        return {} if size is None else {"shortest_edge": size, "height": size}
    return {key: value for key, value in dict(size).items() if value}
