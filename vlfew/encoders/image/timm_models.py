"""Any image model of timm."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from math import floor
from pathlib import Path
from typing import Any, get_args

from einops import rearrange
from torch import Tensor, nn

from vlfew.core.config import Interpolation, Resize
from vlfew.core.errors import ModelError
from vlfew.core.features import Features
from vlfew.core.outside_data import NOT_KNOWN
from vlfew.data.preprocess import ImagePreprocessor, ResizeFirst
from vlfew.encoders.hub import closest_name, hub_folder, local_or_hub_folder, read_json, weight_size
from vlfew.encoders.image.backbone import (
    Backbone,
    PretrainedClassifier,
    PretrainedModel,
    build_errors,
    channel_stats,
    token_map,
)
from vlfew.encoders.image.center_pool import replace_pooling
from vlfew.encoders.library_errors import library_errors
from vlfew.encoders.load_weights import describe_misfit
from vlfew.encoders.pretraining_data import class_texts, data_of_tag
from vlfew.encoders.transformers_files import json_folder

_KEYS = re.compile(r"(Missing|Unexpected) keys \((.*)\)")
"""How timm's log begins a list of weights that do not fit."""
RESIZE: dict[str, Resize] = {"squash": "stretch", "border": "pad", "center": "crop"}
"""Our names of timm's ways to crop."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class TimmBackbone(Backbone):
    """`timm:NAME`, without its classifier.

    Args:
        name: timm's name, with or without a tag (`resnet18`, `resnet18.a1_in1k`); or, with a slash, a folder or hub
            repository with `config.json` and `model.safetensors`, which is always pretrained.
        in_channels: C of the images; pretrained RGB stems are adapted.
        image_size: height and width in pixels.
        pretrained: load the published weights, which are downloaded if they are not in the cache.
        load: false skips pretrained weights, which then come from a saved model.
        config: of a saved model that came from a folder: its `config.json`.
        pool_center: the middle part of the feature map that is averaged, as a fraction of each side.

    Raises:
        ModelError: unknown name, weights that cannot be downloaded, an image size that does not fit, or no average over
            a feature map to take the center of.
    """

    model: Any

    def __init__(
        self,
        name: str,
        in_channels: int,
        image_size: int,
        *,
        pretrained: bool = False,
        load: bool = True,
        config: dict[str, Any] | None = None,
        pool_center: float = 1.0,
    ) -> None:
        super().__init__()
        import timm

        who = f"timm:{name}"
        folder = _folder(name) if "/" in name and config is None else None
        if folder is not None:
            config, pretrained = _read_config(folder, name), True
        self.saved_options = {"pretrained": pretrained, "load": False, "config": config}
        if pool_center != 1:  # models saved before have no such option
            self.saved_options["pool_center"] = pool_center
        self._published = (
            f"local-dir:{folder}" if folder is not None else name if pretrained and "/" not in name else ""
        )
        arguments: dict[str, Any] = {"num_classes": 0, "in_chans": in_channels}
        weights: Any = _pretrained_cfg(name) if config is None else _config_values(config)
        with build_errors(who, in_channels, image_size):
            if weights.fixed_input_size:
                arguments["img_size"] = image_size
            if config is None:
                if pretrained and load:
                    arguments |= {"pretrained": True, "pretrained_cfg_overlay": _weight_file(name, weights)}
                self.model = timm.create_model(name, **arguments)
            elif folder is not None:
                arguments["pretrained_cfg_overlay"] = _layer_names(config["architecture"], weights)
                with _check_missing(who):
                    self.model = timm.create_model(f"local-dir:{folder}", pretrained=True, **arguments)
            else:
                with json_folder({"config.json": config}) as rebuilt:
                    self.model = timm.create_model(f"local-dir:{rebuilt}", **arguments)
        replace_pooling(self.model, pool_center)
        self.dim = getattr(self.model, "head_hidden_size", self.model.num_features)
        if pretrained:
            self.pretrained_on = _pretraining_data(name, weights)
            self.use_pixel_statistics(weights.mean, weights.std, in_channels)

    def pretrained_classifier(self) -> PretrainedClassifier:
        """The published classifier, where it has a linear layer over classes of an ImageNet.

        Raises:
            ModelError: there is none, or the weights are not at hand.
        """
        import timm
        from timm.data import infer_imagenet_subset

        name = self._published
        if not name:
            raise ModelError(
                "the published classifier of this backbone is not at hand; load it by its own name"
            )
        overlay = {} if name.startswith("local-dir:") else _weight_file(name, _pretrained_cfg(name))
        with library_errors(f"timm:{name}"):
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
        layer, subset = model.get_classifier(), infer_imagenet_subset(model)
        if not isinstance(layer, nn.Linear) or layer.in_features != self.dim or subset is None:
            raise ModelError(f"timm:{name} has no linear classifier over the classes of an ImageNet")
        return PretrainedClassifier(class_texts(subset), layer.requires_grad_(False))

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, dim]` and, for networks with a grid, `map`."""
        features = self.model.forward_features(images)
        embedding = self.model.forward_head(features, pre_logits=True)
        return Features(embedding, map=self._map(features))

    def _map(self, features: Tensor) -> Tensor | None:
        """timm's unpooled features as `[B, C, H, W]`: from that, from `[B, H, W, C]`, or from tokens `[B, T, C]`."""
        if features.ndim == 4:
            channels_first = features.shape[1] == self.model.num_features
            return features if channels_first else rearrange(features, "b h w c -> b c h w")
        grid = getattr(getattr(self.model, "patch_embed", None), "grid_size", None)
        prefix = getattr(self.model, "num_prefix_tokens", 0)
        if features.ndim != 3 or grid is None or features.shape[1] - prefix != grid[0] * grid[1]:
            return None
        return token_map(features, *grid)


def pretrained_model(name: str) -> PretrainedModel:
    """How the images of `timm:NAME` are read.

    Raises:
        ModelError: unknown name, or a folder that cannot be read.
    """
    config = _config_values(_read_config(_folder(name), name)) if "/" in name else _pretrained_cfg(name)
    return PretrainedModel(timm_preprocessor(config))


def timm_preprocessor(config: Any) -> ImagePreprocessor:
    """How timm reads images for the weights of a `PretrainedCfg`, or of a name space with its values."""
    side = config.input_size[-1]
    red, green, blue = (round(255 * value) for value in channel_stats(config.mean, 3))
    return ImagePreprocessor(
        side,
        channels=3,
        resize=RESIZE.get(config.crop_mode, "crop"),
        interpolation=config.interpolation if config.interpolation in get_args(Interpolation) else "bicubic",
        resize_first=ResizeFirst(size=floor(side / config.crop_pct), fill=(red, green, blue)),
    )


def _pretrained_cfg(name: str) -> Any:
    """timm's description of the weights of a model it knows by name."""
    import timm

    if not timm.is_model(name.partition(".")[0]):
        hint = closest_name(name, timm.list_models(), "timm.list_models()")
        raise ModelError(f"unknown timm model {name!r}{hint}")
    with library_errors(f"timm:{name}"):
        return timm.get_pretrained_cfg(name)


def _weight_file(name: str, config: Any) -> dict[str, Any]:
    """Where timm reads the weights from: a local file."""
    import timm

    if not config.hf_hub_id:
        tags = timm.list_pretrained(name.partition(".")[0] + "*")
        raise ModelError(
            f"timm:{name} has no pretrained weights on the hub"
            + (f"; available: {', '.join(tags[:5])}" if tags else "; train it with pretrained: false")
        )
    files = [config.hf_hub_filename] if config.hf_hub_filename else WEIGHTS
    parameters = sum(p.numel() for p in timm.create_model(name).parameters())
    folder = hub_folder(config.hf_hub_id, files, who=f"timm:{name}", size=weight_size(parameters))
    file = next(folder / f for f in files if (folder / f).exists())
    # timm would read any file of a `custom_load` model as the .npz it was first published as.
    return {"file": str(file), "custom_load": file.suffix == ".npz"}


@contextmanager
def _check_missing(who: str) -> Iterator[None]:
    """Raises where weights are missing: without a classifier timm leaves them random, and only logs their names.

    Raises:
        ModelError: names the first ones, and those that the network does not have.
    """
    found: dict[str, list[str]] = {}

    class Names(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if match := _KEYS.match(record.getMessage()):
                found[match[1]] = match[2].split(", ")

    logger, handler = logging.getLogger("timm.models._builder"), Names(logging.INFO)
    before = (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
    if missing := found.get("Missing"):
        raise ModelError(f"{who}: {describe_misfit(missing, found.get('Unexpected', []), [])}")


def _pretraining_data(name: str, weights: Any) -> str:
    """What the weights were trained on: a tag says so, but that of a folder may be of what was fine-tuned there."""
    published = "/" not in name or (name.startswith("timm/") and not Path(name).is_dir())
    return data_of_tag(weights.tag or "") if published else NOT_KNOWN


def _layer_names(architecture: str, weights: Any) -> dict[str, Any]:
    """The names of the classifier and of the first layer, which timm adapts, where a `config.json` lacks them."""
    import timm

    default = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    names = ("classifier", "first_conv")
    return {key: getattr(default, key, None) for key in names if getattr(weights, key, None) is None}


def _config_values(config: dict[str, Any]) -> Any:
    """The same description from a `config.json`; older files have it without a section of its own."""
    from timm.models import PretrainedCfg

    values = config.get("pretrained_cfg", config)
    return PretrainedCfg(**{f.name: values[f.name] for f in fields(PretrainedCfg) if f.name in values})


def _folder(name: str) -> Path:
    return local_or_hub_folder(name, WEIGHTS, ("config.json",), f"timm:{name}")


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    """The `config.json` in a folder."""
    config = read_json(folder / "config.json", f"timm:{name}")
    if "architecture" not in config:
        raise ModelError(f"timm:{name}: cannot read {folder / 'config.json'}: it names no architecture")
    return config
