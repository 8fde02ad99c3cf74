"""Any image model of transformers (ViT, DINOv2, ConvNeXt ...), and the image towers of CLIP and SigLIP."""

from __future__ import annotations

import inspect
from math import isclose
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from einops import reduce
from torch import Tensor

from vlfew.core.config import Interpolation, Resize
from vlfew.core.errors import ModelError
from vlfew.core.features import Features
from vlfew.core.outside_data import NOT_KNOWN
from vlfew.data.preprocess import ImagePreprocessor, ResizeFirst
from vlfew.encoders import transformers_files as hf_files
from vlfew.encoders.hub import check_complete, local_or_hub_folder, read_json
from vlfew.encoders.image.backbone import (
    Backbone,
    PretrainedModel,
    build_errors,
    check_gray_or_rgb,
    to_rgb,
    token_map,
)
from vlfew.encoders.image.timm_models import timm_preprocessor
from vlfew.encoders.library_errors import library_errors

RESAMPLING: dict[int | None, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Our names of Pillow's numbers."""
MAX_PREFIX_TOKENS = 16
"""At most this many class and register tokens precede those of image patches."""


class TransformersBackbone(Backbone):
    """`transformers:NAME` or `transformers:FOLDER`, an image model or the image tower of an image-text model.

    The embedding is the model's own: its projection into the joint space, or else its pooled output; if the weights
    have no pooler, the class token, and without one the mean of the tokens or of the map.

    Args:
        name: a folder, or a hub repository, which is downloaded if it is not in the cache.
        in_channels: 3, or 1: gray images are repeated to three channels.
        image_size: height and width in pixels; positions are interpolated to it.
        config: of a saved model: `model`, `pooler`, `mean`, `std`, `bgr`; nothing else is read then.

    Raises:
        ModelError: weights that cannot be downloaded or read, a model that takes no images, or an image size that does
            not fit.
    """

    model: Any

    def __init__(
        self, name: str, in_channels: int, image_size: int, *, config: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        who = f"transformers:{name}"
        check_gray_or_rgb(who, in_channels)
        if config is None:
            folder = _folder(name, who)
            processor = _image_processor(folder, who)
            model, missing = hf_files.read_model(folder, who)
            check_complete([key for key in missing if not key.startswith("pooler.")], folder, who)
            mean, std = _pixel_statistics(processor)
            config = {
                "model": hf_files.config_dict(model.config),
                "pooler": not missing,
                "mean": mean,
                "std": std,
                "bgr": bool(getattr(processor, "do_flip_channel_order", False)),
            }
        else:
            model = hf_files.model_from_config(config["model"])
        joint = hasattr(model, "get_image_features")
        self._encode = model.get_image_features if joint else model.forward
        accepted = inspect.signature(self._encode).parameters
        if "pixel_values" not in accepted:
            raise ModelError(f"{who} is a {model.config.model_type} model, which takes no images")
        self._arguments = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in accepted else {}
        if joint:
            hf_files.remove_other_tower(model, "text")
        if not config["pooler"]:
            model.pooler = None  # its weights would be random, as the checkpoint has none
        for module in model.modules():
            if isinstance(getattr(module, "mask_token", None), torch.nn.Parameter):
                module.mask_token = None  # only for pretraining; it would get no gradient
        self.model = model.eval()
        self.saved_options = {"config": config}
        self._bgr = config.get("bgr", False)
        self.pretrained_on = NOT_KNOWN
        self.use_pixel_statistics(config["mean"], config["std"], in_channels)
        self._patch_size = getattr(getattr(model.config, "vision_config", model.config), "patch_size", None)
        with build_errors(who, in_channels, image_size), torch.no_grad():
            self.dim = self(torch.zeros(1, in_channels, image_size, image_size)).embedding.shape[1]

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, dim]`, `tokens [B, T, W]` and, for models with a grid, `map`."""
        pixels = to_rgb(images)
        output = self._encode(pixel_values=pixels.flip(1) if self._bgr else pixels, **self._arguments)
        hidden = output.last_hidden_state
        embedding = getattr(output, "image_embeds", None)
        if embedding is None:
            embedding = getattr(output, "pooler_output", None)
        if embedding is not None and embedding.ndim == 3:  # FLAVA projects all tokens
            embedding = embedding[:, 0]
        if hidden.ndim == 4:
            pooled = reduce(hidden, "b c h w -> b c", "mean") if embedding is None else embedding.flatten(1)
            return Features(pooled, map=hidden)
        prefix, maps = self._prefix_and_map(hidden, images.shape[2])
        if embedding is None:
            embedding = hidden[:, 0] if prefix else hidden.mean(1)
        return Features(embedding, map=maps, tokens=hidden)

    def _prefix_and_map(self, tokens: Tensor, image_size: int) -> tuple[int, Tensor | None]:
        """The number of tokens before those of patches, and these as `[B, W, H', W']`."""
        count = tokens.shape[1]
        side = image_size // self._patch_size if isinstance(self._patch_size, int) else 0
        prefix = count - side * side
        if not 0 <= prefix <= MAX_PREFIX_TOKENS or not side:
            # Models that merge patches, such as Swin, have no tokens but those of patches.
            side, prefix = round(count**0.5), 0
            if side * side != count:
                return 0, None
        return prefix, token_map(tokens, side, side)


def pretrained_model(name: str) -> PretrainedModel:
    """How the images of `transformers:NAME` are read, and its text encoder.

    Raises:
        ModelError: files that cannot be downloaded or read.
    """
    who = f"transformers:{name}"
    folder = _folder(name, who)
    joint = "text_config" in read_json(folder / "config.json", who)
    return PretrainedModel(_preprocessor(_image_processor(folder, who)), text=f"hf:{name}" if joint else None)


def _folder(name: str, who: str) -> Path:
    folder = local_or_hub_folder(name, hf_files.WEIGHTS, ("*.json",), who)
    config = folder / "config.json"
    if "vocab_size" in (read_json(config, who) if config.is_file() else {}):
        raise ModelError(
            f"{who} is a model of text alone; use it as the text encoder (text.encoder=hf:{name})"
        )
    hf_files.check_files(folder, who, "preprocessor_config.json")
    return folder


def _image_processor(folder: Path, who: str) -> Any:
    """The image processor in a folder.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoImageProcessor

    with library_errors(f"{who}: {folder} needs the model's preprocessor_config.json"), hf_files.quiet():
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True)


def _pixel_statistics(processor: Any) -> tuple[list[float], list[float]]:
    """Mean and standard deviation for pixels in 0..1; 0 and 1 where the model takes them as they are."""
    if (config := getattr(processor, "data_config", None)) is not None:  # of timm's
        return list(config["mean"]), list(config["std"])
    mean, std = [0.0] * 3, [1.0] * 3
    if getattr(processor, "do_normalize", False):
        mean, std = list(processor.image_mean), list(processor.image_std)
    # What the model gets is (pixel * factor - offset - mean) / std.
    factor = 255 * processor.rescale_factor if getattr(processor, "do_rescale", True) else 255.0
    factor = 1.0 if isclose(factor, 1) else factor
    offset = 1.0 if getattr(processor, "rescale_offset", False) else 0.0
    mean, spread = [(offset + value) / factor for value in mean], [value / factor for value in std]
    if getattr(processor, "include_top", False):  # EfficientNet divides by the standard deviation again
        spread = [value * again for value, again in zip(spread, processor.image_std, strict=True)]
    return mean, spread


def _preprocessor(processor: Any) -> ImagePreprocessor:
    """A transformers image processor's resizing and cropping."""
    if (config := getattr(processor, "data_config", None)) is not None:  # of timm's
        return timm_preprocessor(SimpleNamespace(**config))
    size = _sizes(getattr(processor, "size", None))
    crop = (
        _sizes(getattr(processor, "crop_size", None)) if getattr(processor, "do_center_crop", False) else {}
    )
    edge = int(size.get("shortest_edge") or size.get("height") or crop.get("height") or 224)
    resized, side = edge, int(crop.get("height") or edge)
    resize: Resize = "crop" if "shortest_edge" in size else "stretch"
    kind, crop_pct = type(processor).__name__, getattr(processor, "crop_pct", None)
    if kind.startswith("Levit") and resize == "crop":
        resized = int(256 / 224 * edge)
    elif crop_pct is not None and kind.startswith("PoolFormer"):
        resized, resize = int(edge / crop_pct), "crop"
    elif crop_pct is not None:  # ConvNext crops small images from larger ones, and stretches large images
        resized, resize = (int(edge / crop_pct), "crop") if edge < 384 else (edge, "stretch")
    return ImagePreprocessor(
        side,
        channels=3,
        resize=resize,
        interpolation=RESAMPLING.get(getattr(processor, "resample", None), "bilinear"),
        resize_first=ResizeFirst(size=resized, backend="torchvision"),
    )


def _sizes(size: Any) -> dict[str, int]:
    """A processor's size as a dictionary of the values that are set."""
    if size is None or isinstance(size, int):
        return {} if size is None else {"shortest_edge": size, "height": size}
    return {key: value for key, value in dict(size).items() if value}
