"""open_clip's own transform, tokenizer and towers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlfew.core.errors import ModelError
from vlfew.core.paths import user_path
from vlfew.encoders.hub import read_json
from vlfew.encoders.library_errors import library_errors
from vlfew.encoders.open_clip_towers import CONFIG
from vlfew.workflows.check_model.reference import LibraryReference
from vlfew.workflows.check_model.samples import PALETTE, ROTATED, TRANSPARENT, upright_and_opaque


class OpenClipReference(LibraryReference):
    """`create_model_and_transforms` and `get_tokenizer`.

    Args:
        name: a folder, or `ARCH/TAG`.

    Raises:
        ModelError: weights drawn at random, or a model that open_clip itself cannot load.
    """

    library = "open_clip"
    reads = "open_clip's transform, of the files"
    encodes_images = "open_clip's encode_image"
    tokenizes = "open_clip's get_tokenizer"
    encodes_texts = "open_clip's encode_text"

    def __init__(self, name: str) -> None:
        import open_clip

        super().__init__()
        folder = user_path(name)
        who, arguments = f"open_clip:{name}", dict[str, Any]()
        if folder.is_dir():
            source = f"local-dir:{folder}"
            arguments = _inner_config(folder, who)
        else:
            source, _, tag = name.partition("/")
            if not tag:
                raise ModelError(
                    f"{who} has random weights, drawn anew each time: nothing to compare with; name published weights "
                    f"(open_clip:{name}/TAG) or a folder"
                )
            # The activation belongs to the weights; open_clip takes it from the architecture, and warns.
            quick_gelu = (open_clip.get_pretrained_cfg(source, tag) or {}).get("quick_gelu", False)
            arguments = {"pretrained": tag, "quick_gelu": quick_gelu}
        with library_errors(f"{who}: open_clip itself cannot load it"):
            model, _, self._transform = open_clip.create_model_and_transforms(source, **arguments)
            self._tokenizer = open_clip.get_tokenizer(source)
        self._model: Any = model.eval()
        self.notes.append(
            f"open_clip reads no EXIF orientation, drops transparency and resizes palettes without interpolation: "
            f"{ROTATED}, {TRANSPARENT} and {PALETTE} were turned upright, put on white and changed to RGB first"
        )

    def pixels(self, paths: Sequence[Path]) -> Tensor:
        from PIL import Image

        own = (ROTATED, TRANSPARENT, PALETTE)
        images = [upright_and_opaque(p) if p.name in own else Image.open(p) for p in paths]
        return torch.stack([self._transform(image) for image in images])

    def image_outputs(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"image embeddings": self._model.encode_image(pixels, normalize=False)}

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        return {"input_ids": self._tokenizer(list(texts))}

    def text_outputs(self, tokens: dict[str, Any]) -> dict[str, Tensor]:
        return {"text embeddings": self._model.encode_text(tokens["input_ids"], normalize=False)}


def _inner_config(folder: Path, who: str) -> dict[str, Any]:
    """Where a text tower of transformers has its configuration next to the weights; open_clip would ask the hub."""
    text = read_json(folder / CONFIG, who).get("model_cfg", {}).get("text_cfg", {})
    if "hf_model_name" not in text or not (folder / "config.json").is_file():
        return {}
    return {"text_cfg": {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}}
