"""Any image model of timm."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlfew.encoders.backbone import Backbone, channel_stats
from vlfew.encoders.hub import hub_folder, nearest, weight_size
from vlfew.errors import ModelError, first_line
from vlfew.features import Features


class TimmBackbone(Backbone):
    """`timm:NAME`, without its classifier.

    Args:
        name: as timm knows it, with or without a tag (`resnet18`, `resnet18.a1_in1k`).
        in_channels: C of the pictures; pretrained RGB stems are adapted.
        image_size: their side in pixels.
        pretrained: load the published weights, which are downloaded when not in the cache.
        load: False leaves pretrained weights out: they come from a saved model.

    Raises:
        ModelError: unknown name, weights that cannot be had, or a picture size that does not fit.
    """

    model: Any

    def __init__(
        self, name: str, in_channels: int, image_size: int, *, pretrained: bool = False, load: bool = True
    ) -> None:
        super().__init__()
        import timm

        if not timm.is_model(name.partition(".")[0]):
            hint = nearest(name, timm.list_models(), "timm.list_models()")
            raise ModelError(f"unknown timm model {name!r}{hint}")
        options: dict[str, Any] = {"pretrained": pretrained, "load": False}
        self.rebuild = (f"timm:{name}", options)
        self.pretrained = pretrained
        try:
            config: Any = timm.get_pretrained_cfg(name)
            arguments: dict[str, Any] = {"num_classes": 0, "in_chans": in_channels}
            if config.fixed_input_size:
                arguments["img_size"] = image_size
            if pretrained and load:
                arguments |= {"pretrained": True, "pretrained_cfg_overlay": self._weights(name, config)}
            self.model = timm.create_model(name, **arguments)
        except (RuntimeError, ValueError, TypeError, AssertionError, OSError) as error:
            raise ModelError(
                f"timm:{name} cannot be built for {in_channels} x {image_size} x {image_size} pictures:"
                f" {first_line(error)}"
            ) from error
        self.dim = getattr(self.model, "head_hidden_size", self.model.num_features)
        if pretrained:
            self.pixel_mean = channel_stats(config.mean, in_channels)
            self.pixel_std = channel_stats(config.std, in_channels)

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
