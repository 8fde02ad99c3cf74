"""Front ends, image backbones and text encoders, by name."""

from vlfew.registry import Registry

FRONT_ENDS = Registry(
    "front end",
    {
        "wavelet": "vlfew.encoders.wavelet:Wavelet",
        "pca": "vlfew.encoders.pca:PCA",
    },
)
"""Called with `(in_channels, image_size, **options)`; each gives a `FrontEnd`."""

BACKBONES = Registry(
    "backbone",
    {
        "koch": "vlfew.encoders.koch:Koch",
        "lenet": "vlfew.encoders.lenet:LeNet",
        "lrn": "vlfew.encoders.lrn:LocalResponse",
        "plane": "vlfew.encoders.plane:Plane",
        "conv4": "vlfew.encoders.conv4:Conv4",
        "resnet12": "vlfew.encoders.resnet12:ResNet12",
        "timm:": "vlfew.encoders.timm_models:TimmBackbone",
        "torchvision:": "vlfew.encoders.torchvision_models:TorchvisionBackbone",
        "open_clip:": "vlfew.encoders.open_clip_towers:OpenClipBackbone",
        "transformers:": "vlfew.encoders.transformers_towers:TransformersBackbone",
    },
)
"""Called with `(in_channels, image_size, **options)`; each gives a `Backbone`."""

PUBLISHED = Registry(
    "published model",
    {
        "open_clip:": "vlfew.encoders.open_clip_towers:published",
        "timm:": "vlfew.encoders.timm_models:published",
        "transformers:": "vlfew.encoders.transformers_towers:published",
    },
)
"""Backbones that `vlfew.load` gives as they were published; each name gives a `Published`."""

TEXT_ENCODERS = Registry(
    "text encoder",
    {
        "minilm": "vlfew.encoders.huggingface:minilm",
        "hf:": "vlfew.encoders.huggingface:hf",
        "open_clip:": "vlfew.encoders.open_clip_towers:open_clip_text",
    },
)
"""Called with the options; each gives a `TextEncoder`."""

__all__ = ["BACKBONES", "FRONT_ENDS", "PUBLISHED", "TEXT_ENCODERS"]
