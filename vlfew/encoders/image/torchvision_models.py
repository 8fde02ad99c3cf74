"""Any classification model of torchvision."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vlfew.core.errors import ModelError
from vlfew.core.features import Features
from vlfew.encoders.hub import closest_name
from vlfew.encoders.image.backbone import Backbone, build_errors
from vlfew.encoders.library_errors import library_errors
from vlfew.encoders.pretraining_data import data_of_tag


class TorchvisionBackbone(Backbone):
    """`torchvision:NAME`, without its classifier.

    Args:
        name: torchvision's name (`resnet18`).
        in_channels: C of the images; an RGB stem sees the mean of the channels three times.
        image_size: height and width in pixels.
        pretrained: load torchvision's default weights, which are downloaded if they are not in its folder.
        load: false skips pretrained weights, which then come from a saved model.

    Raises:
        ModelError: unknown name, weights that cannot be downloaded, or an image size that does not fit.
    """

    def __init__(
        self, name: str, in_channels: int, image_size: int, *, pretrained: bool = False, load: bool = True
    ) -> None:
        super().__init__()
        from torchvision import models

        who = f"torchvision:{name}"
        known = models.list_models(module=models)
        if name not in known:
            listing = "torchvision.models.list_models()"
            raise ModelError(f"unknown torchvision model {name!r}{closest_name(name, known, listing)}")
        if name in ("googlenet", "inception_v3"):
            raise ModelError(f"{who} has auxiliary classifiers and is not supported; use timm:inception_v3")
        self.saved_options = {"pretrained": pretrained, "load": False}
        size_option: dict[str, Any] = {}
        if name.startswith("vit_"):
            size_option = {"image_size": image_size}
        elif name.startswith("maxvit"):
            size_option = {"input_size": (image_size, image_size)}
        with build_errors(who, in_channels, image_size):
            model = models.get_model(name, weights=None, **size_option)
            if pretrained:
                weights = models.get_model_weights(name).DEFAULT
                if load:
                    state = _pretrained_weights(who, weights)
                    if "image_size" in size_option:
                        from torchvision.models.vision_transformer import interpolate_embeddings

                        state = interpolate_embeddings(image_size, model.patch_size, state)
                    model.load_state_dict(state)
                # `IMAGENET1K_SWAG_E2E_V1`: tuned on what the name begins with.
                self.pretrained_on = data_of_tag(weights.name.lower().removeprefix("imagenet1k_") + "_in1k")
                transforms = weights.transforms()
                self.use_pixel_statistics(transforms.mean, transforms.std, in_channels)
        self.dim = _remove_classifier(who, model)
        if in_channels != 3:
            _adapt_stem(model, in_channels)
        self.model = model
        self._last_map: Tensor | None = None
        if isinstance(getattr(model, "avgpool", None), nn.Module):
            model.avgpool.register_forward_pre_hook(self._keep_map)

    def _keep_map(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._last_map = inputs[0]

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, dim]` and, for networks with average pooling, `map`."""
        embedding = self.model(images)
        maps, self._last_map = self._last_map, None
        return Features(embedding, map=maps)


def _pretrained_weights(who: str, weights: Any) -> dict[str, Tensor]:
    """The state dict of torchvision's published weights."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    problem = f"{file} is damaged; delete it and try again"
    if not file.exists():
        size = f"{weights.meta.get('_file_size', 0):,.0f} MB"
        print(f"downloading {weights.url} ({size}) to {file}", file=sys.stderr)
        way_out = f"fetch {weights.url} on another machine and put it into {file.parent}"
        problem = f"{who}: {file.name} ({size}) cannot be downloaded; {way_out}"
    with library_errors(problem):
        state: dict[str, Tensor] = weights.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True
        )
    return state


def _remove_classifier(who: str, model: nn.Module) -> int:
    """Replaces the last dense layer, the classifier, by the identity; returns the width of its input."""
    dense = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.Linear)]
    path, last = dense[-1] if dense else ("", None)
    if last is None or not path.startswith(("fc", "classifier", "head")):
        raise ModelError(f"{who} has no dense classifier that could be removed; choose another model")
    model.set_submodule(path, nn.Identity())
    return last.in_features


def _adapt_stem(model: nn.Module, in_channels: int) -> None:
    """Replaces the first convolution by one for another number of channels, with the same scale of output."""
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
