"""Which weights of the encoders are trained: all, none, those of their last blocks, or LoRA adapters."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vlfew.core.config import LoraConfig
from vlfew.encoders.lora import add_lora
from vlfew.encoders.text.base import TextEncoder
from vlfew.encoders.unfreeze import unfreeze_last_blocks
from vlfew.models.spec import ModelSpec


def set_trainable(
    spec: ModelSpec, image: Tensor, backbones: dict[str, nn.Module | None], text_encoder: TextEncoder | None
) -> dict[str, list[nn.Module]]:
    """Sets which weights of a model's encoders are trained.

    Args:
        spec: of the model.
        image: an example of what the backbones take, `[1, C, H, W]`.
        backbones: by their names in the model.
        text_encoder: of the model.

    Returns:
        The trained modules of each frozen encoder, by its name in the model.

    Raises:
        ModelError: an encoder has fewer blocks than shall be trained, or LoRA matches no layer.
    """
    options = (spec.backbone_frozen, spec.backbone_unfreeze_last, spec.backbone_lora)
    trained = {
        name: set_encoder_trainable(backbone, *options, image, "image")
        for name, backbone in backbones.items()
        if backbone is not None
    }
    if text_encoder is not None and (t := spec.text) is not None:
        tokens = text_encoder.tokenize(["a"]) if t.unfreeze_last else {}
        options = (t.frozen, t.unfreeze_last, t.lora)
        trained["text_encoder"] = set_encoder_trainable(text_encoder, *options, tokens, "text")
    return {name: parts for name, parts in trained.items() if parts is not None}


def set_encoder_trainable(
    encoder: nn.Module, frozen: bool, unfreeze_last: int, lora: LoraConfig | None, example: Any, section: str
) -> list[nn.Module] | None:
    """Sets `requires_grad` of an encoder's weights, and adds LoRA adapters where configured.

    Args:
        encoder: a backbone or a text encoder.
        frozen: whether its weights are fixed, apart from the next two.
        unfreeze_last: number of last blocks to train.
        lora: adapters to train, if any.
        example: an input of the encoder, from which it is found what depends on the last blocks.
        section: of the configuration, for messages (`image`).

    Returns:
        The trained modules of a frozen encoder; None for one that is trained completely.
    """
    encoder.requires_grad_(not frozen)
    if not frozen:
        return None
    if lora is not None:
        return add_lora(encoder, lora, f"{section}.lora")
    if not unfreeze_last:
        return []

    def embed() -> Tensor:
        embedding: Tensor = encoder(example).embedding
        return embedding

    training = encoder.training
    blocks = unfreeze_last_blocks(encoder.eval(), unfreeze_last, embed, f"{section}.unfreeze_last")
    encoder.train(training)
    return blocks
