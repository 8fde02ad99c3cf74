"""Tiny random models of transformers, as `save_pretrained` leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIZE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
TEXT = {**SIZE, "vocab_size": 32, "max_position_embeddings": 20, "eos_token_id": 3, "pad_token_id": 0}
VISION = {**SIZE, "image_size": 16, "patch_size": 4}
CONFIGS: dict[str, dict[str, Any]] = {
    "CLIP": {"text_config": TEXT, "vision_config": VISION, "projection_dim": 12},
    "Siglip": {"text_config": TEXT, "vision_config": VISION},
    "CLIPVision": VISION,
    "ViT": VISION,
    "Dinov2": VISION,
    "ConvNext": {"hidden_sizes": [4, 8, 8, 8], "depths": [1, 1, 1, 1]},
    "ResNet": {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]},
    "Swin": {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}
    | {"window_size": 2},
}
MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
PROCESSORS = {
    "CLIP": {"size": {"shortest_edge": 20}, "crop_size": {"height": 16, "width": 16}, "do_center_crop": True},
    "Siglip": {"size": {"height": 16, "width": 16}},
}


def save(kind: str, folder: Path, form: str = "Model", bert_folder: Path | None = None) -> Any:
    """Writes a model of a kind with its image processor, and BERT's tokenizer where that is given.

    Args:
        kind: key of `CONFIGS`.
        folder: where to.
        form: the model's class after its kind.
        bert_folder: whose tokenizer to take.

    Returns:
        The model, in evaluation mode.
    """
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**CONFIGS[kind])
    model = getattr(transformers, kind + form)(config)
    model.save_pretrained(folder)
    family = "Siglip" if kind == "Siglip" else "CLIP"
    processor = getattr(transformers, f"{family}ImageProcessor")
    processor(image_mean=MEAN, image_std=STD, resample=3, **PROCESSORS[family]).save_pretrained(folder)
    if bert_folder is not None:
        tokenizer = transformers.AutoTokenizer.from_pretrained(bert_folder)
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
        tokenizer.save_pretrained(folder)
    return model.eval()
