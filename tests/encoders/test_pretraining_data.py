"""What weights were trained on, by the tags under which they are published."""

from __future__ import annotations

import pytest

from vlfew.encoders import BACKBONES
from vlfew.encoders.pretraining_data import class_names, data_of_tag, normalized


@pytest.mark.parametrize(
    ("tag", "data"),
    [
        ("a1_in1k", "ImageNet-1k"),
        ("augreg_in21k_ft_in1k", "ImageNet-21k + ImageNet-1k"),
        ("clip_laion2b_soup_ft_in12k_in1k_320", "LAION-2B + ImageNet-12k + ImageNet-1k"),
        ("openai", "WebImageText (OpenAI)"),
        ("laion2b_s34b_b79k", "LAION-2B"),
        ("laion400m_e32", "LAION-400M"),
        ("datacomp_xl_s13b_b90k", "DataComp-1B"),
        ("datacomp_m_s128m_b4k", "DataComp, a smaller scale"),
        ("webli", "WebLI"),
        ("fcmae_ft_in1k", "not known + ImageNet-1k"),
        ("mae", "not known"),
        ("", "not known"),
    ],
)
def test_a_tag_says_the_data(tag: str, data: str) -> None:
    assert data_of_tag(tag) == data


@pytest.mark.parametrize(
    ("name", "options", "data"),
    [
        ("timm:resnet18.a1_in1k", {"pretrained": True, "load": False}, "ImageNet-1k"),
        ("timm:resnet18", {"pretrained": True, "load": False}, "ImageNet-1k"),  # its default weights
        ("timm:vit_tiny_patch16_224.augreg_in21k", {"pretrained": True, "load": False}, "ImageNet-21k"),
        ("torchvision:resnet18", {"pretrained": True, "load": False}, "ImageNet-1k"),
        ("timm:resnet18", {}, ""),
        ("open_clip:ViT-S-32-alt", {}, ""),
        ("conv4", {}, ""),
    ],
)
def test_a_backbone_says_the_data(name: str, options: dict[str, object], data: str) -> None:
    assert BACKBONES.get(name)(3, 224, **options).pretrained_on == data


def test_names_of_imagenet_classes() -> None:
    names = class_names("ImageNet-1k")
    assert {
        "house finch",
        "golden retriever",
        "n01440764",
    } <= names and "greek small letter alpha" not in names
    assert normalized("Golden_Retriever ") == normalized("golden-retriever") == "golden retriever"
