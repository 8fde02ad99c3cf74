"""transformers' own processor and model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from vlfew.encoders import transformers_files as hf_files
from vlfew.encoders.hub import local_or_hub_folder
from vlfew.encoders.library_errors import library_errors
from vlfew.workflows.check_model.reference import LibraryReference
from vlfew.workflows.check_model.samples import TRANSPARENT, upright_and_opaque


class TransformersReference(LibraryReference):
    """The processor and the model of a folder; `get_image_features` and `get_text_features` where it has them.

    Args:
        name: a folder or hub repository.

    Raises:
        ModelError: a model that transformers itself cannot load.
    """

    library = "transformers"
    reads = "transformers' processor, of the files"
    encodes_images = "transformers' model"
    tokenizes = "transformers' tokenizer"
    encodes_texts = "transformers' model"

    def __init__(self, name: str) -> None:
        import transformers

        super().__init__()
        who = f"transformers:{name}"
        self._folder = local_or_hub_folder(name, hf_files.WEIGHTS, ("*.json",), who)
        with library_errors(f"{who}: transformers itself cannot load it"), hf_files.quiet():
            config = transformers.AutoConfig.from_pretrained(self._folder, local_files_only=True)
            architecture = (config.architectures or [""])[0]
            projected = architecture.endswith("WithProjection")
            model_class = getattr(transformers, architecture) if projected else transformers.AutoModel
            self._model, report = model_class.from_pretrained(
                self._folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
        self._model.eval()
        self._has_pooler = not any("pooler" in key for key in report["missing_keys"])
        self._who = who
        if hasattr(self._model, "get_image_features"):
            self.encodes_images = "transformers' get_image_features"
        if hasattr(self._model, "get_text_features"):
            self.encodes_texts = "transformers' get_text_features"

    def _load(self, auto_class: str) -> Any:
        import transformers

        with (
            library_errors(f"{self._who}: transformers itself cannot load its {auto_class}"),
            hf_files.quiet(),
        ):
            return getattr(transformers, auto_class).from_pretrained(self._folder, local_files_only=True)

    def pixels(self, paths: Sequence[Path]) -> Tensor:
        from transformers.image_utils import load_image

        processor = self._load("AutoImageProcessor")
        images = [upright_and_opaque(p) if p.name == TRANSPARENT else load_image(str(p)) for p in paths]
        self.notes.append(
            f"transformers' load_image drops transparency: {TRANSPARENT} was put on white first"
        )
        if type(processor).__name__.startswith("DINOv3"):
            # It resizes in floating point; torchvision's resizing of 8 bits is within one level of that.
            self.pixel_limit = 1.01 / 255 / min(processor.image_std)
            self.embedding_limit = 1e-2
            self.notes.append(
                "this processor resizes in floating point, vlfew in 8 bits: a level of 256 is allowed"
            )
        pixels: Tensor = processor(images=images, return_tensors="pt")["pixel_values"]
        self._flipped = bool(getattr(processor, "do_flip_channel_order", False))
        return pixels.flip(1) if self._flipped else pixels

    def image_outputs(self, pixels: Tensor) -> dict[str, Tensor]:
        if self._flipped:
            pixels = pixels.flip(1)
        if hasattr(self._model, "get_image_features"):
            return {"image embeddings": _embedding(self._model.get_image_features(pixel_values=pixels))}
        output = self._model(pixel_values=pixels)
        embedding = getattr(output, "image_embeds", None)
        if embedding is None and self._has_pooler:
            embedding = getattr(output, "pooler_output", None)
        if embedding is not None:
            return {"image embeddings": embedding.flatten(1)}
        return {"image tokens": output.last_hidden_state}

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        tokenizer = self._load("AutoTokenizer")
        padding: dict[str, Any] = {"padding": True}
        if "siglip" in self._model.config.model_type:  # as in transformers' zero-shot pipeline
            padding = {"padding": "max_length"}
        positions = hf_files.text_positions(self._model)
        if positions is not None and tokenizer.model_max_length > positions:  # not set: there is no limit
            padding["max_length"] = positions
        return dict(tokenizer(list(texts), truncation=True, return_tensors="pt", **padding))

    def text_outputs(self, tokens: dict[str, Any]) -> dict[str, Tensor]:
        if hasattr(self._model, "get_text_features"):
            return {"text embeddings": _embedding(self._model.get_text_features(**tokens))}
        output = self._model(**tokens)
        if (embedding := getattr(output, "text_embeds", None)) is not None:
            return {"text embeddings": embedding}
        mask = rearrange(tokens["attention_mask"], "t l -> t l 1")
        return {"text tokens": output.last_hidden_state * mask}


def _embedding(output: Any) -> Tensor:
    """The embedding that `get_image_features` or `get_text_features` returns, by itself or in an output object."""
    embedding: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return embedding[:, 0] if embedding.ndim == 3 else embedding  # FLAVA projects all tokens
