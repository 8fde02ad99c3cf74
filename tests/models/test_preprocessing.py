"""Preprocessing in front of the backbone is part of the model: applied, saved and loaded with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.compare import assert_close
from vlfew.core.errors import VlfewError
from vlfew.models import DualStream, FewShotClassifier, ModelSpec, load, save_model
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
    spec = ModelSpec(**fields | {"preprocessing": preprocessing, "preprocessing_options": options} | more)
    model = DualStream.from_spec(spec).eval()
    model.set_pixel_statistics(torch.tensor([120.0, 130.0, 140.0]), torch.tensor([50.0, 60.0, 70.0]))
    if model.preprocessing is not None:
        model.preprocessing.fit([model.normalize_pixels(images(40, seed=2))])
    return model


def images(count: int = 5, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("name", "options"), PREPROCESSING)
def test_preprocessing_is_applied_before_the_backbone(name: str, options: dict[str, object]) -> None:
    model, x = build(name, options), images()
    processed = model.preprocessing((x.float() - model.pixel_mean) / model.pixel_std)
    assert processed.shape == (
        5,
        21 if name == "wavelet" else 3,
        17 if name == "wavelet" else 32,
        processed.shape[2],
    )
    features = model.backbone(processed)
    assert model.feature_spec.map == features.map.shape[1:]
    expected = model.image_projection(features.embedding)
    assert_close(model.encode_image(x), expected.detach())


@pytest.mark.parametrize(("name", "options"), PREPROCESSING)
def test_loaded_gives_what_was_saved_without_pywavelets(
    name: str, options: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(name, options)
    save_model(model, tmp_path)
    monkeypatch.setitem(sys.modules, "pywt", None)
    again = load(tmp_path)
    assert torch.equal(again.encode_image(images()), model.encode_image(images()))
    pillow = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images(3)]
    classifier = FewShotClassifier.from_classes(again, {str(n): image for n, image in enumerate(pillow)})
    assert [*classifier.predict(pillow)] == ["0", "1", "2"]
    # Saving the loaded model writes the same description.
    save_model(again, tmp_path / "again")
    assert (tmp_path / "again/model.json").read_text() == (tmp_path / "model.json").read_text()


@pytest.mark.parametrize(("name", "options"), PREPROCESSING)
def test_buffers_are_no_parameters(name: str, options: dict[str, object], tmp_path: Path) -> None:
    model = build(name, options)
    save_model(model, tmp_path)
    assert parameter_counts(tmp_path) == (sum(p.numel() for p in model.parameters()), 0)


@pytest.mark.parametrize(("name", "options"), PREPROCESSING)
def test_preprocessing_is_never_in_half_precision(name: str, options: dict[str, object]) -> None:
    model, x = build(name, options), images()
    received = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    with torch.no_grad():
        model(x)
        with torch.autocast("cpu", torch.bfloat16):
            features = model(x).image
    assert features.embedding.dtype == torch.bfloat16
    assert torch.equal(received[0], received[1]) and received[1].dtype == torch.float32


def test_pixel_statistics_are_per_image_channel() -> None:
    """The statistics of a backbone for 12 bands are not those of the 3 image channels."""
    pretrained = {
        "backbone": "timm:mobilenetv3_small_050",
        "backbone_options": {"pretrained": True, "load": False},
    }
    wavelet, pca = build("wavelet", {}, **pretrained), build("pca", {"components": 4}, **pretrained)
    plain = build(None, {}, **pretrained)
    assert torch.equal(pca.pixel_mean, plain.pixel_mean) and plain.pixel_mean.std() > 0
    assert_close(wavelet.pixel_mean, plain.pixel_mean.mean().expand(3, 1, 1))
    assert wavelet.encode_image(images()).shape == (5, 16)


def test_each_view_is_preprocessed() -> None:
    one, four = build("wavelet", {}), build("wavelet", {}, tta="rot90")
    rotated = one.encode_image(images().rot90(1, (2, 3)))
    found = four.encode_image(images())[:, 16:32]
    assert_close(found, torch.nn.functional.normalize(rotated, dim=1))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wavelet", {"level": 2, "keep": "approximation"}, "conv4 needs images of at least 16 x 16"),
        ("wavelte", {}, r"unknown preprocessing 'wavelte'; did you mean 'wavelet'\?"),
        ("pca", {"components": 5000}, "images of 3 x 32 x 32 have from 1 to 3,072"),
    ],
)
def test_options_that_do_not_fit_are_one_line_errors(
    name: str, options: dict[str, object], message: str
) -> None:
    spec = ModelSpec(
        backbone="conv4", preprocessing=name, preprocessing_options=options, image_size=32, channels=3
    )
    with pytest.raises(VlfewError, match=message) as error:
        DualStream.from_spec(spec)
    assert "\n" not in str(error.value)
