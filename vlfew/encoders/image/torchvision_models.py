"""Any classification model of torchvision."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlfew.core.errors import ModelError, first_line
from vlfew.core.features import Features
from vlfew.encoders.hub import nearest
from vlfew.encoders.image.backbone import Backbone, channel_stats


class TorchvisionBackbone(Backbone):
    """`torchvision:NAME`, without its classifier.

    Args:
        name: as torchvision knows it (`resnet18`).
        in_channels: C of the images; an RGB stem sees the channels' average three times.
        image_size: their side in pixels.
        pretrained: load torchvision's default weights, which are downloaded when not in its folder.
        load: False leaves pretrained weights out: they come from a saved model.

    Raises:
        ModelError: unknown name, weights that cannot be had, or an image size that does not fit.
    """

    def __init__(
        self, name: str, in_channels: int, image_size: int, *, pretrained: bool = False, load: bool = True
    ) -> None:
        super().__init__()
        from torchvision import models

        known = models.list_models(module=models)
        if name not in known:
            listing = "torchvision.models.list_models()"
            raise ModelError(f"unknown torchvision model {name!r}{nearest(name, known, listing)}")
        if name in ("googlenet", "inception_v3"):
            raise ModelError(
                f"torchvision:{name} has auxiliary classifiers, which do not fit; use timm:inception_v3"
            )
        options: dict[str, Any] = {"pretrained": pretrained, "load": False}
        self.rebuild = (f"torchvision:{name}", options)
        self.pretrained = pretrained
        sized: dict[str, Any] = {}
        if name.startswith("vit_"):
            sized = {"image_size": image_size}
        elif name.startswith("maxvit"):
            sized = {"input_size": (image_size, image_size)}
        try:
            model = models.get_model(name, weights=None, **sized)
            if pretrained:
                weights = models.get_model_weights(name).DEFAULT
                if load:
                    state = _state(name, weights)
                    if "image_size" in sized:
                        from torchvision.models.vision_transformer import interpolate_embeddings

                        state = interpolate_embeddings(image_size, model.patch_size, state)
                    model.load_state_dict(state)
                preset = weights.transforms()
                self.pixel_mean = channel_stats(preset.mean, in_channels)
                self.pixel_std = channel_stats(preset.std, in_channels)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise ModelError(
                f"torchvision:{name} cannot be built for {image_size} x {image_size} images:"
                f" {first_line(error)}"
            ) from error
        self.dim = _behead(name, model)
        if in_channels != 3:
            _adapt_stem(model, in_channels)
        self.model = model
        self._seen: Tensor | None = None
        if isinstance(getattr(model, "avgpool", None), nn.Module):
            model.avgpool.register_forward_pre_hook(self._see)

    def _see(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen = inputs[0]

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, dim]` and, where an average pool takes one, `map`."""
        embedding = self.model(images)
        maps, self._seen = self._seen, None
        return Features(embedding, map=maps)


def _state(name: str, weights: Any) -> dict[str, Tensor]:
    """A state dict of torchvision's published weights."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / Path(weights.url).name
    if not file.exists():
        size = weights.meta.get("_file_size", 0)
        print(f"downloading {weights.url} ({size:,.0f} MB) to {file}", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            digest = file.stem.rpartition("-")[2]
            torch.hub.download_url_to_file(weights.url, str(file), digest, progress=sys.stderr.isatty())
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"torchvision:{name}: {file.name} ({size:,.0f} MB) cannot be downloaded"
                f" ({first_line(error)}); fetch {weights.url} on another machine and put it into {folder}"
            ) from error
    try:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        return state
    except Exception as error:  # a damaged archive raises whatever its bytes lead to
        raise ModelError(f"{file} is damaged ({first_line(error)}); delete it and try again") from error


def _behead(name: str, model: nn.Module) -> int:
    """Replaces the last dense layer, the classifier, by the identity; returns the width before it."""
    dense = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.Linear)]
    path, last = dense[-1] if dense else ("", None)
    if last is None or not path.startswith(("fc", "classifier", "head")):
        raise ModelError(f"torchvision:{name} has no dense classifier to take off; choose another model")
    model.set_submodule(path, nn.Identity())
    return last.in_features


def _adapt_stem(model: nn.Module, in_channels: int) -> None:
    """Rewires the first convolution for another number of channels, at the same scale of output."""
    path, old = next((p, m) for p, m in model.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    with torch.no_grad():
        new.weight.copy_(old.weight.sum(1, keepdim=True) / in_channels)
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    model.set_submodule(path, new)
