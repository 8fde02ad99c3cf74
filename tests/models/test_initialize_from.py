"""A model that starts from the weights of another."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vlfew.core.config import Lora
from vlfew.core.errors import ModelError
from vlfew.models import DualStream, ModelSpec, build_model
from vlfew.models.initialize_from import copy_weights
from vlfew.models.spec import TextSpec

IMAGES = torch.randint(0, 256, (3, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
TEXTS = ["a cat", "a green mug"]


def built(seed: int, text: dict[str, Any] | None = None, **spec: Any) -> DualStream:
    torch.manual_seed(seed)
    options = {"backbone": "conv4", "backbone_options": {"width": 4}, "embedding_dim": 8, "image_size": 16}
    words = None if text is None else TextSpec(**({"encoder": "minilm"} | text))
    model = build_model(ModelSpec(**(options | spec), text=words))
    channels, side = model.spec.channels, model.spec.image_size
    model.set_pixel_statistics(torch.full((channels,), 100.0 + seed), torch.full((channels,), 50.0 + seed))
    model.train().forward_images(torch.rand(3, channels, side, side) * 255)  # BatchNorm statistics of its own
    return model.eval()


def test_the_image_stream_is_the_other_s_to_the_bit() -> None:
    model, other = built(0), built(1)
    assert copy_weights(model, other) == []
    assert torch.equal(model.encode_images(IMAGES).embedding, other.encode_images(IMAGES).embedding)


def test_what_differs_after_the_network_starts_anew_and_is_named() -> None:
    model = built(0, {"projection": "linear"}, embedding_dim=6)
    other = built(1, {"projection": "linear"})
    before = model.encode_texts(TEXTS)
    assert copy_weights(model, other) == ["image_projection", "text_projection"]  # the encoder is the same
    assert torch.equal(model.encode_texts(TEXTS), before)
    assert copy_weights(built(0, image_size=32), other) == ["image_projection"]
    same = other.normalized(IMAGES)
    torch.testing.assert_close(model.backbone(same).embedding, other.backbone(same).embedding)


def test_words_come_along_where_they_are_read_alike() -> None:
    model, other = (built(seed, {"projection": "linear"}) for seed in (0, 1))
    assert copy_weights(model, other) == []
    assert torch.equal(model.encode_texts(TEXTS), other.encode_texts(TEXTS))


def test_a_learned_similarity_comes_along() -> None:
    model, other = (built(seed, similarity="weighted_l1") for seed in (0, 1))
    with torch.no_grad():
        for parameter in other.similarity.parameters():
            parameter.add_(1)
    assert copy_weights(model, other) == []
    for own, given in zip(model.similarity.parameters(), other.similarity.parameters(), strict=True):
        assert torch.equal(own, given)
    assert copy_weights(built(0, similarity="weighted_l1"), built(1)) == ["similarity"]


def test_under_lora_the_weights_beside_it_are_the_other_s() -> None:
    model, other = built(0, backbone_frozen=True, backbone_lora=Lora(rank=2, layers="*")), built(1)
    assert copy_weights(model, other) == []
    assert torch.equal(model.encode_images(IMAGES).embedding, other.encode_images(IMAGES).embedding)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"backbone_options": {"width": 6}}, "backbone .*is 6 x 1 x 3 x 3 here and 4 x 1 x 3 x 3 there"),
        ({"backbone_options": {"widths": [4, 4]}}, "backbone .*that one has .* too"),
        ({"backbone_options": {"widths": [4] * 4, "norm": "none"}}, "backbone .*that one has"),
        ({"channels": 3}, "images have 1 channel.s., and here are 3; that one has image.backbone=conv4"),
        ({"backbone_options": {"width": 4, "activation": "gelu"}}, "activation is gelu here and relu there"),
        ({"share_weights": False}, "right_backbone .*that one has no"),
    ],
)
def test_another_network_is_refused_and_nothing_is_changed(spec: dict[str, Any], named: str) -> None:
    model = built(0, **spec)
    before = {n: w.clone() for n, w in model.state_dict().items()}
    with pytest.raises(ModelError, match=named):
        copy_weights(model, built(1))
    assert all(torch.equal(w, before[n]) for n, w in model.state_dict().items())
