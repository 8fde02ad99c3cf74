"""Models that start from the weights of a trained one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.compare import assert_close
from vlfew.core.config import LoraConfig
from vlfew.core.errors import ModelError
from vlfew.models import DualStream, ModelSpec
from vlfew.models.initialize_from import copy_weights
from vlfew.models.spec import TextSpec

IMAGES = torch.randint(0, 256, (3, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
TEXTS = ["a cat", "a green mug"]


def built(seed: int, text: dict[str, Any] | None = None, **spec: Any) -> DualStream:
    torch.manual_seed(seed)
    options = {"backbone": "conv4", "backbone_options": {"width": 4}, "embedding_dim": 8, "image_size": 16}
    text_spec = None if text is None else TextSpec(**({"encoder": "minilm"} | text))
    model = DualStream.from_spec(ModelSpec(**(options | spec), text=text_spec))
    channels, side = model.spec.channels, model.spec.image_size
    model.set_pixel_statistics(torch.full((channels,), 100.0 + seed), torch.full((channels,), 50.0 + seed))
    model.train()(torch.rand(3, channels, side, side) * 255)  # BatchNorm statistics of its own
    return model.eval()


def test_the_image_stream_is_copied() -> None:
    model, other = built(0), built(1)
    assert copy_weights(model, other) == []
    assert torch.equal(model.encode_image(IMAGES), other.encode_image(IMAGES))


def test_parts_that_differ_keep_their_new_weights() -> None:
    model = built(0, {"projection": "linear"}, embedding_dim=6)
    other = built(1, {"projection": "linear"})
    before = model.encode_text(TEXTS)
    assert copy_weights(model, other) == ["image_projection", "text_projection"]  # the encoder is the same
    assert torch.equal(model.encode_text(TEXTS), before)
    assert copy_weights(built(0, image_size=32), other) == ["image_projection"]
    pixels = other.normalize_pixels(IMAGES)
    assert_close(model.backbone(pixels).embedding, other.backbone(pixels).embedding)


def test_the_text_stream_is_copied() -> None:
    model, other = (built(seed, {"projection": "linear"}) for seed in (0, 1))
    assert copy_weights(model, other) == []
    assert torch.equal(model.encode_text(TEXTS), other.encode_text(TEXTS))


def test_a_learned_similarity_is_copied() -> None:
    model, other = (built(seed, similarity="weighted_l1") for seed in (0, 1))
    with torch.no_grad():
        for parameter in other.similarity.parameters():
            parameter.add_(1)
    assert copy_weights(model, other) == []
    for own, given in zip(model.similarity.parameters(), other.similarity.parameters(), strict=True):
        assert torch.equal(own, given)
    assert copy_weights(built(0, similarity="weighted_l1"), built(1)) == ["similarity"]


def test_weights_under_lora_are_copied() -> None:
    model, other = built(0, backbone_frozen=True, backbone_lora=LoraConfig(rank=2, layers="*")), built(1)
    assert copy_weights(model, other) == []
    assert torch.equal(model.encode_image(IMAGES), other.encode_image(IMAGES))


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"backbone_options": {"width": 6}}, "backbone .*is 6 x 1 x 3 x 3 here and 4 x 1 x 3 x 3 there"),
        ({"backbone_options": {"widths": [4, 4]}}, "backbone .*the trained model also has"),
        ({"backbone_options": {"widths": [4] * 4, "norm": "none"}}, "backbone .*the trained model also has"),
        (
            {"channels": 3},
            "takes images of 1 channel.s., not 3; the trained model has image.backbone=conv4",
        ),
        ({"backbone_options": {"width": 4, "activation": "gelu"}}, "activation is gelu here and relu there"),
        ({"share_weights": False}, "right_backbone .*the trained model has no"),
    ],
)
def test_another_network_is_a_one_line_error_and_nothing_changes(spec: dict[str, Any], named: str) -> None:
    model = built(0, **spec)
    before = {n: w.clone() for n, w in model.state_dict().items()}
    with pytest.raises(ModelError, match=named):
        copy_weights(model, built(1))
    assert all(torch.equal(w, before[n]) for n, w in model.state_dict().items())
