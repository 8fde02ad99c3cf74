"""Texts represented by the classes that an image encoder was pretrained on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import normalize

import vlfew
from tests.compare import assert_close
from tests.conftest import make_data
from tests.encoders.test_packaged import PALACE
from vlfew.core.errors import ModelError
from vlfew.encoders.image.backbone import PretrainedClassifier
from vlfew.encoders.image.conv4 import Conv4
from vlfew.models import DualStream, ModelSpec
from vlfew.models.loading import load
from vlfew.models.serialization import save_model
from vlfew.models.spec import TextSpec
from vlfew.training.data_statistics import fit_training_means
from vlfew.workflows.train import train

NAMES = [["cat", "house cat"], ["fire engine"], ["lighthouse"]]


@pytest.fixture
def pretrained(monkeypatch: pytest.MonkeyPatch) -> nn.Linear:
    """Conv4 as if it had been pretrained on three classes."""
    torch.manual_seed(0)
    layer = nn.Linear(8, 3)
    monkeypatch.setattr(Conv4, "pretrained_classifier", lambda self: PretrainedClassifier(NAMES, layer))
    return layer


def model_of(projection: str, temperature: float = 0.02, **spec: object) -> DualStream:
    neighbors = {"temperature": temperature, "classes": "pretraining"}
    text = TextSpec(encoder="minilm", projection=projection, class_neighbors=neighbors)
    options = {"width": 8}
    settings = {"backbone": "conv4", "backbone_options": options, "image_size": 16, "embedding_dim": None}
    model = DualStream.from_spec(ModelSpec(**(settings | {"text": text} | spec)))
    model.fit_pretraining_classes()
    return model.eval()


@pytest.mark.parametrize("projection", ["none", "linear", "mlp"])
def test_the_name_of_a_known_class_becomes_its_weights(pretrained: nn.Linear, projection: str) -> None:
    model = model_of(projection)
    found = model.encode_text(["a cat", "a fire engine", "a lighthouse"])
    assert_close(found, normalize(pretrained.weight, dim=1), tolerance=1e-2)
    assert (model.text_projection is None) is (projection == "none")


def test_a_text_between_two_classes_is_their_mixture(pretrained: nn.Linear) -> None:
    model = model_of("none", temperature=0.5)
    weights = normalize(pretrained.weight.detach(), dim=1)
    texts = ["a red vehicle of firemen", "a tower by the sea"]
    assert model.text_encoder is not None

    def mean_text(texts: list[str]) -> torch.Tensor:
        return normalize(normalize(model.text_encoder.encode(texts), dim=1).mean(0), dim=0)

    known = torch.stack([mean_text([*own, f"a photo of a {own[0]}"]) for own in NAMES])
    center = known.mean(0)
    cosines = (
        normalize(normalize(model.text_encoder.encode(texts), dim=1) - center, dim=1)
        @ normalize(known - center, dim=1).T
    )
    expected = normalize((cosines / 0.5).softmax(1) @ weights, dim=1)
    assert_close(model.encode_text(texts), expected)


def test_the_projection_is_added_and_trained(pretrained: nn.Linear) -> None:
    model = model_of("mlp").train()
    tokens = model.tokenize(["a cat", "a lighthouse"])
    model(None, dict(tokens)).text.sum().backward()
    gradients = [p.grad for p in model.text_projection.parameters() if p.grad is not None]
    assert any(gradient.norm() > 0 for gradient in gradients)
    with torch.no_grad():
        model.text_projection.linear.bias += 1
    before = model_of("mlp").encode_text(["a cat"])
    assert_close(model.encode_text(["a cat"]), before + 1)


def test_a_saved_model_needs_no_classifier(
    pretrained: nn.Linear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("linear", tta="hflip", center_embeddings=True)
    save_model(model, tmp_path)
    monkeypatch.undo()
    again = load(tmp_path)
    assert torch.equal(again.encode_text(["a cat"]), model.encode_text(["a cat"]))
    assert again.spec.text.num_classes == 3 and again.encode_text(["a cat"]).shape == (1, 16)


@pytest.mark.parametrize("tta", ["none", "hflip"])
@pytest.mark.parametrize("whiten", [None, {"power": 0.5, "shrinkage": 0.4}])
def test_probabilities_of_known_classes_are_part_of_the_similarity(
    pretrained: nn.Linear,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tta: str,
    whiten: dict[str, float] | None,
) -> None:
    options = {"tta": tta, "center_embeddings": True, "whiten_embeddings": whiten}
    plain, model = (model_of("none", 0.5, **options, class_probability_weight=share) for share in (0.0, 0.3))
    model.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randint(
        0, 256, (12, 1, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    labels, texts = torch.arange(12) % 3, ["a cat", "a truck", "a tower"]
    for each in (plain, model):
        each.fit_training_means(images.split(5), labels, [[text] for text in texts])

    def probabilities(pixels: torch.Tensor) -> torch.Tensor:
        return torch.stack(
            [pretrained(model.backbone_output(p[None]).embedding[0]).softmax(0) for p in pixels]
        )

    with torch.no_grad():
        views = [images] if tta == "none" else [images, images.flip(3)]
        mean = probabilities(images).sqrt().mean(0)
        known = torch.stack([normalize(probabilities(view).sqrt() - mean, dim=1) for view in views]).mean(0)
        encoded = model.text_encoder.encode(texts)
        named = normalize(model.class_neighbors.shares(encoded).sqrt() - mean, dim=1)
    image, text = model.encode_image(images, normalize=True), model.encode_text(texts, normalize=True)
    assert image.shape == (12, model.embedding_size) == (12, 8 * len(views) + 3)
    own, own_text = plain.encode_image(images, normalize=True), plain.encode_text(texts, normalize=True)
    known = normalize(known, dim=1)
    assert_close(image @ image.T, 0.7 * own @ own.T + 0.3 * known @ known.T)
    assert_close(image @ text.T, 0.7 * own @ own_text.T + 0.3 * known @ named.T)
    save_model(model, tmp_path)
    monkeypatch.undo()
    again = load(tmp_path)
    assert torch.equal(again.encode_image(images), model.encode_image(images))
    assert torch.equal(again.encode_text(texts), model.encode_text(texts))


def test_a_model_without_text_compares_probabilities_too(pretrained: nn.Linear) -> None:
    model = model_of("none", text=None, class_probability_weight=0.5)
    image = model.encode_image(torch.zeros(2, 1, 16, 16, dtype=torch.uint8))
    assert image.shape == (2, 11) and not model.has_text


def test_what_cannot_be(pretrained: nn.Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="image encoder's own embedding; set embedding_dim=null"):
        model_of("none", embedding_dim=8)
    with pytest.raises(
        ModelError, match=r"image\.class_probability_weight takes the image encoder's own embedding"
    ):
        model_of("none", text=None, embedding_dim=8, class_probability_weight=0.5)
    monkeypatch.undo()
    with pytest.raises(ModelError, match="Conv4 comes without a classifier over classes of known names"):
        model_of("none")


def test_a_photograph_is_recognized_by_names_alone() -> None:
    classes = {name: f"a photo of a {name}" for name in ("palace", "dog", "pizza", "airplane")}
    classifier = vlfew.FewShotClassifier.from_classes("efficientnet_lite0", classes)
    (found,) = classifier.classify([PALACE])
    assert found.label == "palace" and found.margin > 0.1


def test_statistics_of_known_classes_are_fitted_without_centering(pretrained: nn.Linear) -> None:
    model, data = model_of("none", text=None, class_probability_weight=0.5), make_data(3, 4)
    assert model.class_probabilities is not None and not model.class_probabilities.mean.any()
    fit_training_means(model, data)
    assert model.class_probabilities.mean.all()


@pytest.mark.parametrize("classes", [4, 6])
def test_the_recipe_for_photographs(tmp_path: Path, classes: int) -> None:
    """Four classes leave none for validation."""
    names = ("cat", "fire engine", "lighthouse", "pizza", "violin", "tractor")[:classes]
    for number, name in enumerate(names):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for n in range(3):
            color = (40 * number, 255 - 40 * number, 80 * n)
            Image.new("RGB", (64, 48), color).save(tmp_path / "photos" / name / f"{n}.png")
    small = ["data.image_size=32", "optim.steps=2", "optim.warmup_steps=1", "training.eval_every=1"]
    sampling = ["sampling.classes_per_batch=2", "sampling.images_per_class=2"]
    run = train("photos", [f"data.root={tmp_path / 'photos'}", *small, *sampling], tmp_path / "runs")
    assert run.state == "finished"
    model = load(run.path)
    assert model.backbone.model.global_pool.fraction == 0.7
    assert model.uses_pretraining_classes and model.spec.outside_data == "ImageNet-1k"
    assert model.encode_text(["a cat"]).shape == (1, model.embedding_size) == (1, 1280 + 1000)
