"""timm's own transform and network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlfew.encoders.hub import local_or_hub_folder
from vlfew.encoders.image.timm_models import WEIGHTS
from vlfew.encoders.library_errors import library_errors
from vlfew.workflows.check_model.reference import LibraryReference
from vlfew.workflows.check_model.samples import ROTATED, TRANSPARENT, upright_and_opaque


class TimmReference(LibraryReference):
    """`create_model` without a classifier, and `create_transform`.

    Args:
        name: of published weights; with a slash, a folder or hub repository.

    Raises:
        ModelError: a model that timm itself cannot load.
    """

    library = "timm"
    reads = "timm's transform, of the files"
    encodes_images = "timm's network without classifier"

    def __init__(self, name: str) -> None:
        import timm

        super().__init__()
        who = f"timm:{name}"
        source = name
        if "/" in name:
            source = f"local-dir:{local_or_hub_folder(name, WEIGHTS, ('config.json',), who)}"
        with library_errors(f"{who}: timm itself cannot load it"):
            model = timm.create_model(source, pretrained=True, num_classes=0)
            config = timm.data.resolve_model_data_config(model)
            self._transform = timm.data.create_transform(**config, is_training=False)
        self._model: Any = model.eval()
        self.notes.append(
            f"timm reads neither EXIF orientation nor transparency: {ROTATED} and {TRANSPARENT} were turned upright "
            "and put on white first"
        )

    def pixels(self, paths: Sequence[Path]) -> Tensor:
        from PIL import Image

        own = (ROTATED, TRANSPARENT)
        images = [upright_and_opaque(p) if p.name in own else Image.open(p).convert("RGB") for p in paths]
        return torch.stack([self._transform(image) for image in images])

    def image_outputs(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"image embeddings": self._model(pixels)}
