"""Test-time augmentation: cosines and distances are means and sums over the views."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from tests.compare import assert_close
from vlfew.models import DualStream, ModelSpec
from vlfew.models.spec import TextSpec

ROT90 = [lambda x: x, *(lambda x, k=k: x.rot90(k, (2, 3)) for k in (1, 2, 3))]
HFLIP = [lambda x: x, lambda x: x.flip(3)]
D4 = [lambda x, rotation=rotation, flip=flip: flip(rotation(x)) for flip in HFLIP for rotation in ROT90]


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
    return DualStream.from_spec(spec).eval()


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (6, 1, 16, 16), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    "tta, views",
    [("hflip", HFLIP), ("rot90", ROT90), ("d4", D4)],
)
def test_the_cosine_is_the_mean_over_views_of_one_kind(tta, views, images):
    plain, several = build("none"), build(tta)
    assert several.embedding_size == len(views) * plain.embedding_size
    joined = normalize(several.encode_image(images), dim=1)
    expected = torch.zeros(6, 6)
    for view in views:
        own = normalize(plain.encode_image(view(images)), dim=1)
        expected += own @ own.T / len(views)
    assert_close(joined @ joined.T, expected)
    assert joined.shape == (6, several.embedding_size)


def test_squared_distances_are_summed_over_views(images):
    plain, several = build("none", "euclidean"), build("hflip", "euclidean")
    joined = several.encode_image(images)
    expected = sum(torch.cdist(e, e) ** 2 for view in HFLIP for e in [plain.encode_image(view(images))])
    assert_close(torch.cdist(joined, joined) ** 2, expected)


def test_texts_are_compared_with_every_view(images):
    text = TextSpec(encoder="minilm", projection="linear")
    plain, several = build("none", text=text), build("hflip", text=text)
    texts = normalize(plain.encode_text(["a cat", "a mug"]), dim=1)
    expected = sum(normalize(plain.encode_image(view(images)), dim=1) @ texts.T for view in HFLIP) / 2
    found = (
        normalize(several.encode_image(images), dim=1)
        @ normalize(several.encode_text(["a cat", "a mug"]), dim=1).T
    )
    assert_close(found, expected)
