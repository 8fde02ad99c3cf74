"""Front ends, image backbones and text encoders, by name."""

from vlfew.core.registry import Registry

PREPROCESSING = Registry(
    "front end",
    {
        "wavelet": "vlfew.encoders.preprocessing.wavelet:Wavelet",
        "pca": "vlfew.encoders.preprocessing.pca:PCA",
    },
)
"""Called with `(in_channels, image_size, **options)`; each gives a `Preprocessing`."""

BACKBONES = Registry(
    "backbone",
    {
        "koch": "vlfew.encoders.image.koch:Koch",
        "lenet": "vlfew.encoders.image.lenet:LeNet",
        "lrn": "vlfew.encoders.image.lrn:LocalResponse",
        "embed2d": "vlfew.encoders.image.embed2d:Embed2D",
        "conv4": "vlfew.encoders.image.conv4:Conv4",
        "resnet12": "vlfew.encoders.image.resnet12:ResNet12",
        "timm:": "vlfew.encoders.image.timm_models:TimmBackbone",
        "torchvision:": "vlfew.encoders.image.torchvision_models:TorchvisionBackbone",
        "open_clip:": "vlfew.encoders.open_clip_models:OpenClipBackbone",
        "transformers:": "vlfew.encoders.image.transformers_models:TransformersBackbone",
    },
)
"""Called with `(in_channels, image_size, **options)`; each gives a `Backbone`."""

PUBLISHED = Registry(
    "published model",
    {
        "open_clip:": "vlfew.encoders.open_clip_models:published",
        "timm:": "vlfew.encoders.image.timm_models:published",
        "transformers:": "vlfew.encoders.image.transformers_models:published",
    },
)
"""Backbones that `vlfew.load` gives as they were published; each name gives a `Published`."""

TEXT_ENCODERS = Registry(
    "text encoder",
    {
        "minilm": "vlfew.encoders.text.huggingface:minilm",
        "hf:": "vlfew.encoders.text.huggingface:hf",
        "open_clip:": "vlfew.encoders.open_clip_models:open_clip_text",
    },
)
"""Called with the options; each gives a `TextEncoder`."""

__all__ = ["BACKBONES", "PREPROCESSING", "PUBLISHED", "TEXT_ENCODERS"]
