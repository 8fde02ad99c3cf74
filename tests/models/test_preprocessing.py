"""What stands before the backbone is a part of the model: applied, saved and loaded with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from vlfew.core.errors import VlfewError
from vlfew.models import DualStream, ModelSpec, build_model, load_model, save_model
from vlfew.models.serialization import parameter_counts

PREPROCESSING = [("wavelet", {"wavelet": "db2", "level": 2}), ("pca", {"components": 20, "whiten": True})]


def build(preprocessing: str | None, options: dict[str, object], **more: object) -> DualStream:
    """A small color model of 32 x 32 pixels, its PCA fitted to noise."""
    torch.manual_seed(0)
    fields = {
        "backbone": "conv4",
        "backbone_options": {"width": 8},
        "embedding_dim": 16,
        "image_size": 32,
        "channels": 3,
    }
    spec = ModelSpec(**fields | {"preprocessing": preprocessing, "front_end_options": options} | more)
    model = build_model(spec).eval()
    model.set_pixel_statistics(torch.tensor([120.0, 130.0, 140.0]), torch.tensor([50.0, 60.0, 70.0]))
    if model.preprocessing is not None:
        model.preprocessing.fit([model.normalized(images(40, seed=2))])
    return model


def images(count: int = 5, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("name", "options"), PREPROCESSING)
def test_stands_between_the_pixels_and_the_backbone(name: str, options: dict[str, object]) -> None:
    model, x = build(name, options), images()
    seen = model.preprocessing((x.float() - model.pixel_mean) / model.pixel_std)
    assert seen.shape == (5, 21 if name == "wavelet" else 3, 17 if name == "wavelet" else 32, seen.shape[2])
    features = model.backbone(seen)
    assert model.feature_spec.map == features.map.shape[1:]
    expected = model.image_projection(features.embedding)
    torch.testing.assert_close(model.encode_images(x).embedding, expected.detach())


@pytest.mark.parametrize(("name", "options"), PREPROCESSING)
def test_loaded_gives_what_was_saved_without_pywavelets(
    name: str, options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(name, options)
    save_model(model, tmp_path)
    monkeypatch.setitem(sys.modules, "pywt", None)
    again = load_model(tmp_path)
    assert torch.equal(again.encode_images(images()).embedding, model.encode_images(images()).embedding)
    shown = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images(3)]
    answers = again.classifier({str(number): image for number, image in enumerate(shown)}).predict(shown)
    assert [answer.label for answer in answers] == ["0", "1", "2"]
    # Saved again it is the same again.
    save_model(again, tmp_path / "again")
    assert (tmp_path / "again/model.json").read_text() == (tmp_path / "model.json").read_text()


@pytest.mark.parametrize(("name", "options"), PREPROCESSING)
def test_buffers_are_no_parameters(name: str, options: dict[str, object], tmp_path: Path) -> None:
    model = build(name, options)
    save_model(model, tmp_path)
    assert parameter_counts(tmp_path) == (sum(p.numel() for p in model.parameters()), 0)


@pytest.mark.parametrize(("name", "options"), PREPROCESSING)
def test_half_precision_begins_behind_it(name: str, options: dict[str, object]) -> None:
    model, x = build(name, options), images()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.forward_images(x)
        with torch.autocast("cpu", torch.bfloat16):
            features = model.forward_images(x)
    assert features.embedding.dtype == torch.bfloat16
    assert torch.equal(seen[0], seen[1]) and seen[1].dtype == torch.float32


def test_images_are_normalized_in_their_own_channels() -> None:
    """A pretrained backbone that sees 12 bands says what its weights expect of 12 channels."""
    pretrained = {
        "backbone": "timm:mobilenetv3_small_050",
        "backbone_options": {"pretrained": True, "load": False},
    }
    wavelet, pca = build("wavelet", {}, **pretrained), build("pca", {"components": 4}, **pretrained)
    plain = build(None, {}, **pretrained)
    assert torch.equal(pca.pixel_mean, plain.pixel_mean) and plain.pixel_mean.std() > 0
    torch.testing.assert_close(wavelet.pixel_mean, plain.pixel_mean.mean().expand(3, 1, 1))
    assert wavelet.encode_images(images()).embedding.shape == (5, 16)


def test_views_go_through_it_each() -> None:
    one, four = build("wavelet", {}), build("wavelet", {}, tta="rot90")
    turned = one.encode_images(images().rot90(1, (2, 3))).embedding
    found = four.encode_images(images()).embedding[:, 16:32]
    torch.testing.assert_close(found, torch.nn.functional.normalize(turned, dim=1))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wavelet", {"level": 2, "keep": "approximation"}, "conv4 needs images of at least 16 x 16"),
        ("wavelte", {}, r"unknown front end 'wavelte'; did you mean 'wavelet'\?"),
        ("pca", {"components": 5000}, "images of 3 x 32 x 32 have from 1 to 3,072"),
    ],
)
def test_what_does_not_fit_is_one_line(name: str, options: dict[str, object], message: str) -> None:
    spec = ModelSpec(
        backbone="conv4", preprocessing=name, front_end_options=options, image_size=32, channels=3
    )
    with pytest.raises(VlfewError, match=message) as error:
        build_model(spec)
    assert "\n" not in str(error.value)
