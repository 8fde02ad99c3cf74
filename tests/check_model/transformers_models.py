"""Image-text models of transformers with random weights, as folders; tiny."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**SIZE, "vocab_size": 32, "max_position_embeddings": 24, "eos_token_id": 3, "pad_token_id": 0}
VISION = {**SIZE, "image_size": 32, "patch_size": 8}
EFFICIENTNET = {
    "image_size": 32,
    "kernel_sizes": [3, 3],
    "in_channels": [32, 8],
    "out_channels": [8, 16],
    "depthwise_padding": [],
    "strides": [1, 2],
    "num_block_repeats": [1, 1],
    "expand_ratios": [1, 1],
    "hidden_dim": 16,
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
}
GROUPS = {"depths": [1, 1, 0], "num_group_tokens": [4, 2, 0], "num_output_groups": [4, 2, 0]}
CONFIGS: dict[str, dict[str, Any]] = {
    "CLIP": {"text_config": TEXT, "vision_config": VISION, "projection_dim": 12},
    "Siglip": {"text_config": TEXT | {"projection_size": 16}, "vision_config": VISION},
    "Align": {"text_config": TEXT, "vision_config": EFFICIENTNET, "projection_dim": 16},
    "AltCLIP": {"text_config": TEXT | {"project_dim": 12}, "vision_config": VISION, "projection_dim": 12},
    "Blip": {"text_config": TEXT, "vision_config": VISION, "projection_dim": 12},
    "ChineseCLIP": {"text_config": TEXT, "vision_config": VISION, "projection_dim": 12},
    "CLIPSeg": {"text_config": TEXT, "vision_config": VISION, "projection_dim": 12},
    "Flava": {"text_config": TEXT, "image_config": VISION, "multimodal_config": SIZE, "projection_dim": 12},
    "GroupViT": {"text_config": TEXT, "vision_config": VISION | GROUPS, "projection_dim": 12}
    | {"projection_intermediate_dim": 16},
    "MetaClip2": {"text_config": TEXT, "vision_config": VISION, "projection_dim": 12},
    "Aimv2": {"text_config": TEXT, "vision_config": VISION, "projection_dim": 12},
    "OwlViT": {"text_config": TEXT, "vision_config": VISION, "projection_dim": 12},
}
"""By the start of the names of their classes."""
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "CLIP": ("CLIP", {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}),
    "Siglip": ("Siglip", {"size": {"height": 32, "width": 32}}),
    "Align": (
        "EfficientNet",
        {
            "size": {"height": 37, "width": 37},
            "crop_size": {"height": 32, "width": 32},
            "do_center_crop": True,
        },
    ),
    "Blip": ("Blip", {"size": {"height": 32, "width": 32}}),
    "ChineseCLIP": ("ChineseCLIP", {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}),
    "CLIPSeg": ("ViT", {"size": {"height": 32, "width": 32}}),
    "Flava": ("Flava", {"size": {"height": 32, "width": 32}, "crop_size": {"height": 32, "width": 32}}),
    "OwlViT": ("OwlViT", {"size": {"height": 32, "width": 32}, "do_center_crop": False}),
}
"""Kind and options of the image processors; CLIP's where there is none."""


def save(kind: str, folder: Path, bert_folder: Path) -> None:
    """Writes a model of a kind, its image processor, and BERT's tokenizer."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**CONFIGS[kind])
    model = getattr(transformers, f"{kind}Model")(config)
    with torch.no_grad():
        for value in model.parameters():  # far from symmetric, so that mistakes are seen
            value.add_(0.02 * torch.randn_like(value))
    model.save_pretrained(folder)
    processor, options = PROCESSORS.get(kind, PROCESSORS["CLIP"])
    getattr(transformers, f"{processor}ImageProcessor")(**options).save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert_folder)
    takes_types = "token_type_ids" in transformers.AutoModel._model_mapping[type(config)].forward.__doc__
    tokenizer.model_input_names = ["input_ids", "attention_mask"] + ["token_type_ids"] * takes_types
    tokenizer.save_pretrained(folder)


IMAGE_MODELS = {
    "Beit": "Beit",
    "Bit": "Bit",
    "ConvNext": "ConvNext",
    "ConvNextV2": "ConvNext",
    "Data2VecVision": "Beit",
    "DeiT": "DeiT",
    "Dinov2": "Bit",
    "Dinov2WithRegisters": "Bit",
    "DINOv3ConvNext": "DINOv3ViT",
    "DINOv3ViT": "DINOv3ViT",
    "EfficientNet": "EfficientNet",
    "FocalNet": "Bit",
    "Hiera": "Bit",
    "IJepa": "ViT",
    "Levit": "Levit",
    "MobileNetV1": "MobileNetV1",
    "MobileNetV2": "MobileNetV2",
    "MobileViT": "MobileViT",
    "MobileViTV2": "MobileViT",
    "PoolFormer": "PoolFormer",
    "Pvt": "Pvt",
    "PvtV2": "Pvt",
    "RegNet": "ConvNext",
    "ResNet": "ConvNext",
    "Segformer": "Segformer",
    "SiglipVision": "Siglip",
    "SwiftFormer": "ViT",
    "Swin": "ViT",
    "Swinv2": "ViT",
    "ViT": "ViT",
    "ViTMSN": "ViT",
}
"""Image models of transformers, and the image processors that they are published with."""


SMALLER: dict[str, dict[str, Any]] = {
    "EfficientNet": {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}
}
"""Options of those whose default is a large one; B0 in place of B7."""


def save_image_model(kind: str, folder: Path) -> None:
    """Writes an image model in its default width, with two layers, and its image processor with its default sizes."""
    import transformers

    torch.manual_seed(0)
    config_class = getattr(transformers, f"{kind}Config")
    default = config_class().to_dict()
    has_layers = default.get("num_hidden_layers", 0) > 2 and "depths" not in default
    options = SMALLER.get(kind, {"num_hidden_layers": 2} if has_layers else {})
    model = getattr(transformers, f"{kind}Model")(config_class(**options))
    for value in model.parameters():  # by default, convolutions make images vanish
        if value.ndim == 4:
            torch.nn.init.kaiming_normal_(value)
    model.save_pretrained(folder)
    processor = getattr(transformers, f"{IMAGE_MODELS[kind]}ImageProcessor")()
    processor.save_pretrained(folder)
