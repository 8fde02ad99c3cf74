"""Image preprocessing, image backbones and text encoders, by name.

A new one is a file and a line here. Names that end in a colon stand for a family: `timm:NAME` passes NAME on.
"""

from vlfew.core.registry import Registry

PREPROCESSING = Registry(
    "preprocessing",
    {
        "wavelet": "vlfew.encoders.preprocessing.wavelet:Wavelet",
        "pca": "vlfew.encoders.preprocessing.pca:PCA",
    },
)
"""Called with `(in_channels, image_size, **options)`; each returns a `Preprocessing`."""

PACKAGED_BACKBONES = Registry(
    "packaged backbone",
    {
        "dlib_face_resnet": "vlfew.encoders.packaged.dlib_face_resnet:DlibFaceResNet",
        "efficientnet_lite0": "vlfew.encoders.packaged.efficientnet_lite0:EfficientNetLite0",
        "efficientnet_lite1": "vlfew.encoders.packaged.efficientnet_lite1:EfficientNetLite1",
        "efficientnet_lite2": "vlfew.encoders.packaged.efficientnet_lite2:EfficientNetLite2",
    },
)
"""Pretrained backbones in Python packages; each has its `weights`, and is in `BACKBONES` and known to `vlfew.load`."""

BACKBONES = Registry(
    "backbone",
    {
        "koch": "vlfew.encoders.image.koch:Koch",
        "lenet": "vlfew.encoders.image.lenet:LeNet",
        "lrn": "vlfew.encoders.image.lrn:LocalResponse",
        "embed2d": "vlfew.encoders.image.embed2d:Embed2D",
        "conv4": "vlfew.encoders.image.conv4:Conv4",
        "resnet12": "vlfew.encoders.image.resnet12:ResNet12",
        **PACKAGED_BACKBONES.entries,
        "timm:": "vlfew.encoders.image.timm_models:TimmBackbone",
        "torchvision:": "vlfew.encoders.image.torchvision_models:TorchvisionBackbone",
        "open_clip:": "vlfew.encoders.image.open_clip_models:OpenClipBackbone",
        "transformers:": "vlfew.encoders.image.transformers_models:TransformersBackbone",
    },
)
"""Called with `(in_channels, image_size, **options)`; each returns a `Backbone`."""

TEXT_ENCODERS = Registry(
    "text encoder",
    {
        "minilm": "vlfew.encoders.packaged.minilm:minilm",
        "hf:": "vlfew.encoders.text.transformers_models:hf",
        "open_clip:": "vlfew.encoders.text.open_clip_models:open_clip_text",
    },
)
"""Called with the options; each returns a `TextEncoder`."""

PRETRAINED_MODELS = Registry(
    "pretrained model",
    {
        "open_clip:": "vlfew.encoders.image.open_clip_models:pretrained_model",
        "timm:": "vlfew.encoders.image.timm_models:pretrained_model",
        "transformers:": "vlfew.encoders.image.transformers_models:pretrained_model",
    },
)
"""Families of backbones that `vlfew.load` accepts by name; each returns a `PretrainedModel`."""

__all__ = ["BACKBONES", "PACKAGED_BACKBONES", "PREPROCESSING", "PRETRAINED_MODELS", "TEXT_ENCODERS"]
