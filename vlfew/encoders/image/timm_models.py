"""Any image model of timm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from vlfew.core.errors import ModelError, first_line
from vlfew.core.features import Features
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.encoders.hub import hub_folder, nearest, weight_size
from vlfew.encoders.image.backbone import Backbone, Published, channel_stats


class TimmBackbone(Backbone):
    """`timm:NAME`, without its classifier.

    Args:
        name: as timm knows it, with or without a tag (`resnet18`, `resnet18.a1_in1k`); or, with a slash,
            a folder or a hub repository of its `config.json` and `model.safetensors`, which is always
            pretrained.
        in_channels: C of the images; pretrained RGB stems are adapted.
        image_size: their side in pixels.
        pretrained: load the published weights, which are downloaded when not in the cache.
        load: False leaves pretrained weights out: they come from a saved model.
        config: of a saved model that came from a folder: its `config.json`.

    Raises:
        ModelError: unknown name, weights that cannot be had, or an image size that does not fit.
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
    ) -> None:
        super().__init__()
        import timm

        folder = _folder(name) if "/" in name and config is None else None
        if folder is not None:
            config, pretrained = _described(folder, name), True
        options: dict[str, Any] = {"pretrained": pretrained, "load": False, "config": config}
        self.rebuild = (f"timm:{name}", options)
        self.pretrained = pretrained
        arguments: dict[str, Any] = {"num_classes": 0, "in_chans": in_channels}
        stated: Any = _known(name) if config is None else _stated(config)
        try:
            if stated.fixed_input_size:
                arguments["img_size"] = image_size
            if config is None:
                if pretrained and load:
                    arguments |= {"pretrained": True, "pretrained_cfg_overlay": self._weights(name, stated)}
                self.model = timm.create_model(name, **arguments)
            elif folder is not None:
                self.model = timm.create_model(f"local-dir:{folder}", pretrained=True, **arguments)
            else:
                with TemporaryDirectory() as place:
                    (Path(place) / "config.json").write_text(json.dumps(config), "utf-8")
                    self.model = timm.create_model(f"local-dir:{place}", **arguments)
        except (RuntimeError, ValueError, TypeError, AssertionError, OSError, SafetensorError) as error:
            raise ModelError(
                f"timm:{name} cannot be built for {in_channels} x {image_size} x {image_size} images:"
                f" {first_line(error)}"
            ) from error
        self.dim = getattr(self.model, "head_hidden_size", self.model.num_features)
        if pretrained:
            self.pixel_mean = channel_stats(stated.mean, in_channels)
            self.pixel_std = channel_stats(stated.std, in_channels)

    @staticmethod
    def _weights(name: str, config: Any) -> dict[str, Any]:
        """Where timm shall read the weights from: a file that is at hand."""
        import timm

        if not config.hf_hub_id:
            tags = timm.list_pretrained(name.partition(".")[0] + "*")
            raise ModelError(
                f"timm:{name} has no pretrained weights on the hub"
                + (f"; there are {', '.join(tags[:5])}" if tags else "; train it with pretrained: false")
            )
        stated = config.hf_hub_filename
        files = [stated] if stated else ["model.safetensors", "pytorch_model.bin"]
        parameters = sum(p.numel() for p in timm.create_model(name).parameters())
        folder = hub_folder(config.hf_hub_id, files, who=f"timm:{name}", size=weight_size(parameters))
        file = next(folder / f for f in files if (folder / f).exists())
        # timm would read a file of a `custom_load` model as the .npz of its first publication.
        return {"file": str(file), "custom_load": file.suffix == ".npz"}

    def _map(self, features: Any) -> Tensor | None:
        """timm's unpooled features as `[B, C, H, W]`, whatever their layout."""
        width = self.model.num_features
        if features.ndim == 4:
            maps: Tensor = features if features.shape[1] == width else features.permute(0, 3, 1, 2)
            return maps
        grid = getattr(getattr(self.model, "patch_embed", None), "grid_size", None)
        prefix = getattr(self.model, "num_prefix_tokens", 0)
        if features.ndim != 3 or grid is None or features.shape[1] - prefix != grid[0] * grid[1]:
            return None
        maps = features[:, prefix:].transpose(1, 2).unflatten(2, tuple(grid))
        return maps

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, dim]` and, for networks with a grid, `map`."""
        features = self.model.forward_features(images)
        embedding = self.model.forward_head(features, pre_logits=True)
        return Features(embedding, map=self._map(features))


def published(name: str) -> Published:
    """How `timm:NAME` was trained to see images.

    Raises:
        ModelError: unknown name, or a folder that cannot be had or read.
    """
    stated: Any = _stated(_described(_folder(name), name)) if "/" in name else _known(name)
    preprocessor = ImagePreprocessor(
        stated.input_size[-1],
        channels=3,
        resize="squash" if stated.crop_mode == "squash" else "crop",
        center_crop=stated.crop_pct,
        interpolation="bilinear" if stated.interpolation == "bilinear" else "bicubic",
    )
    return Published(preprocessor)


def _known(name: str) -> Any:
    """What timm says of the weights of a model that it knows by name."""
    import timm

    if not timm.is_model(name.partition(".")[0]):
        hint = nearest(name, timm.list_models(), "timm.list_models()")
        raise ModelError(f"unknown timm model {name!r}{hint}")
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ModelError(f"timm:{name}: {first_line(error)}") from error


def _stated(config: Mapping[str, Any]) -> SimpleNamespace:
    """The same of a `config.json`; older ones say it without a section of its own."""
    usual = {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "input_size": (3, 224, 224),
        "crop_pct": 0.875,
        "crop_mode": "center_crop",
        "interpolation": "bicubic",
        "fixed_input_size": False,
    }
    return SimpleNamespace(**usual | dict(config.get("pretrained_cfg", config)))


def _folder(name: str) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    who = f"timm:{name}"
    if name.startswith(("/", ".", "~")):
        raise ModelError(f"{who}: no such folder; give one with config.json and model.safetensors")
    files = ("model.safetensors", "pytorch_model.bin")
    return hub_folder(name, files, ("config.json",), who=who, instead="name a local folder")


def _described(folder: Path, name: str) -> dict[str, Any]:
    """The `config.json` in a folder."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        if "architecture" not in config:
            raise ValueError("it names no architecture")
    except (OSError, ValueError) as error:
        raise ModelError(f"timm:{name}: cannot read {folder / 'config.json'}: {first_line(error)}") from error
    return config
