"""Images seen several ways: cosines and distances are those of the views, together."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from vlfew.models import ModelSpec, build_model
from vlfew.models.spec import TextSpec

TURNS = [lambda x: x, *(lambda x, k=k: x.rot90(k, (2, 3)) for k in (1, 2, 3))]
MIRROR = [lambda x: x, lambda x: x.flip(3)]
SYMMETRIES = [lambda x, turn=turn, side=side: side(turn(x)) for side in MIRROR for turn in TURNS]


def build(tta: str, similarity: str = "cosine", text: TextSpec | None = None):
    torch.manual_seed(0)
    spec = ModelSpec(
        backbone="conv4",
        backbone_options={"width": 8},
        embedding_dim=16,
        image_size=16,
        tta=tta,
        similarity=similarity,
        text=text,
    )
    return build_model(spec).eval()


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (6, 1, 16, 16), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("views, ways", [("hflip", MIRROR), ("rot90", TURNS), ("d4", SYMMETRIES)])
def test_the_cosine_is_the_mean_over_views_of_one_kind(views, ways, images):
    plain, several = build("none"), build(views)
    whole = normalize(several.encode_images(images).embedding, dim=1)
    expected = torch.zeros(6, 6)
    for way in ways:
        own = normalize(plain.encode_images(way(images)).embedding, dim=1)
        expected += own @ own.T / len(ways)
    torch.testing.assert_close(whole @ whole.T, expected)


def test_squared_distances_are_summed_over_views(images):
    plain, several = build("none", "euclidean"), build("hflip", "euclidean")
    whole = several.encode_images(images).embedding
    expected = sum(
        torch.cdist(e, e) ** 2 for way in MIRROR for e in [plain.encode_images(way(images)).embedding]
    )
    torch.testing.assert_close(torch.cdist(whole, whole) ** 2, expected, atol=1e-4, rtol=1e-4)


def test_words_meet_every_view(images):
    text = TextSpec(encoder="minilm", projection="linear")
    plain, several = build("none", text=text), build("hflip", text=text)
    words = normalize(plain.encode_texts(["a cat", "a mug"]), dim=1)
    expected = (
        sum(normalize(plain.encode_images(way(images)).embedding, dim=1) @ words.T for way in MIRROR) / 2
    )
    found = (
        normalize(several.encode_images(images).embedding, dim=1)
        @ normalize(several.encode_texts(["a cat", "a mug"]), dim=1).T
    )
    torch.testing.assert_close(found, expected)
