"""Image processors of transformers with their default sizes: vlfew gives the model the very pixels that they give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vlfew.data.decode import read_image
from vlfew.encoders.image.transformers_models import _pixel_statistics, _preprocessor
from vlfew.workflows.check_model.check import PIXELS, largest_difference
from vlfew.workflows.check_model.samples import TRANSPARENT, write_images

PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("Beit", {}),
    ("Bit", {}),
    ("Blip", {}),
    ("CLIP", {}),
    ("ChineseCLIP", {"size": {"shortest_edge": 250}}),
    ("ConvNext", {}),
    ("ConvNext", {"size": {"shortest_edge": 224}}),
    ("DeiT", {}),
    ("EfficientNet", {}),
    ("EfficientNet", {"resample": 0, "do_center_crop": True, "rescale_offset": True, "include_top": False}),
    ("Flava", {}),
    ("Levit", {}),
    ("MobileNetV2", {}),
    ("MobileViT", {}),
    ("PoolFormer", {}),
    ("Pvt", {}),
    ("Segformer", {}),
    ("Siglip", {"rescale_factor": 1 / 127.5}),
    ("ViT", {"resample": 1}),
    ("ViT", {"do_normalize": False}),
]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [path for path in write_images(tmp_path_factory.mktemp("images")) if path.name != TRANSPARENT]


@pytest.mark.parametrize(
    ("kind", "options"), PROCESSORS, ids=[f"{kind}{options or ''}" for kind, options in PROCESSORS]
)
def test_pixels(kind: str, options: dict[str, Any], paths: list[Path]) -> None:
    import transformers
    from transformers.image_utils import load_image

    processor = getattr(transformers, f"{kind}ImageProcessor")(**options)
    images = [load_image(str(path)) for path in paths]
    expected = processor(images=images, return_tensors="pt")["pixel_values"]
    if getattr(processor, "do_flip_channel_order", False):
        expected = expected.flip(1)
    how = _preprocessor(processor)
    mean, std = (torch.tensor(values).view(-1, 1, 1) * 255 for values in _pixel_statistics(processor))
    found = torch.stack([(read_image(path, how).float() - mean) / std for path in paths])
    # MobileViT's pixels are no deviations but 0..1, and EfficientNet's reach 20.
    limit = PIXELS * max(1.0, expected.abs().max().item() / 3)
    assert largest_difference(found, expected) <= limit
