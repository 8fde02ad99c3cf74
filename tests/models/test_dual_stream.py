"""The dual stream: built, saved, loaded and used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import vlfew
from vlfew.classifiers import Support
from vlfew.core.errors import DataError, ModelError
from vlfew.core.features import Features
from vlfew.models import DualStream, ModelSpec, build_model, load_model, save_model
from vlfew.models.serialization import parameter_counts
from vlfew.models.spec import TextSpec

SPEC = ModelSpec(
    backbone="conv4",
    backbone_options={"width": 8},
    text=TextSpec(encoder="minilm", projection="mlp", hidden=32),
    embedding_dim=16,
    image_size=16,
)


@pytest.fixture(scope="module")
def model() -> DualStream:
    torch.manual_seed(0)
    built = build_model(SPEC)
    built.set_pixel_statistics(torch.tensor([200.0]), torch.tensor([50.0]))
    return built.eval()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_model(model, folder, {"trained_on": "nothing"})
    return folder


def images(count: int = 5, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, channels, 16, 16), generator=generator, dtype=torch.uint8)


def test_both_streams_meet_in_one_space(model):
    image, words = model.encode_images(images()), model.encode_texts(["a cat", "a mug"])
    assert image.embedding.shape == (5, 16) and words.shape == (2, 16)
    assert image.embedding.dtype == words.dtype == torch.float32
    assert not image.embedding.requires_grad


def test_paths_and_pillow_images_are_read_as_the_model_wants_them(model, tmp_path):
    shade = Image.new("RGB", (30, 20), (90, 90, 90))
    shade.save(tmp_path / "shade.png")
    pixels = model.read([tmp_path / "shade.png", shade])
    assert pixels.shape == (2, 1, 16, 16) and pixels.dtype == torch.uint8 and bool((pixels == 90).all())
    assert model.encode_images(pixels).embedding.shape == (2, 16)
    assert model.read([]).shape == (0, 1, 16, 16)


def test_words_in_the_place_of_images_and_the_reverse_get_one_line(model, tmp_path, monkeypatch):
    Image.new("L", (8, 8)).save(tmp_path / "mug.png")
    monkeypatch.chdir(tmp_path)
    mug = Path("mug.png")
    wrong = [
        (lambda: model.encode_texts("a cat"), "texts come in a list"),
        (lambda: model.encode_texts(["a cat", " "]), "an empty text"),
        (lambda: model.encode_texts([mug]), "words are given as str; got"),
        (lambda: model.encode_texts(["mug.png"]), r"as an image it is Path\('mug.png'\)"),
        (
            lambda: model.classifier({"a": "a cat", "mug": "mug.png"}),
            "class 'mug': 'mug.png' is given as words",
        ),
        (
            lambda: model.classifier({"cat": Path("a photo of a cat")}),
            "class 'cat': there is no image 'a photo",
        ),
        (
            lambda: model.classifier({"cat": torch.zeros(3, 8, 8)}),
            r"a Pillow image; got a Tensor of shape \[3, 8, 8\]",
        ),
        (lambda: model.classifier(["cat", "mug"]), "told as a dict, .* got \\['cat', 'mug'\\]"),
        (lambda: model.classifier({"cat": 3}), "class 'cat': an image is a Path or a Pillow image; got 3"),
        (lambda: model.classifier({"cat": mug}).predict(["mug.png"]), "'mug.png' is a str, which is words"),
        (lambda: model.classifier({"cat": mug}).predict(mug), "images come in a list"),
        (lambda: model.classifier({"cat": mug}).predict([]), "no images"),
        (lambda: model.encode_images([mug]), r"sees uint8 \[B, 1, 16, 16\], and got .*mug.png"),
        (lambda: model.read([tmp_path / "none.png"]), "there is no image '.*none.png'"),
    ]
    for attempt, message in wrong:
        with pytest.raises(DataError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    # No such image is there: these are words, however they end.
    assert model.encode_texts(["other.png"]).shape == (1, 16)


@pytest.mark.parametrize(
    ("pixels", "got"),
    [
        (torch.zeros(2, 1, 16, 16), r"float32 \[2, 1, 16, 16\]"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), r"uint8 \[2, 3, 16, 16\]"),
        (torch.zeros(1, 16, 16, dtype=torch.uint8), r"uint8 \[1, 16, 16\]"),
    ],
)
def test_pixels_of_another_kind_or_size_get_one_line(model, pixels, got):
    with pytest.raises(DataError, match=rf"got {got}; model.read makes it") as caught:
        model.encode_images(pixels)
    assert "\n" not in str(caught.value)


def test_pixels_are_normalized_by_the_training_statistics(model):
    x = images()
    expected = model.image_projection(model.backbone((x.float() - 200) / 50).embedding)
    torch.testing.assert_close(model.encode_images(x).embedding, expected.detach())


def test_loaded_gives_what_was_saved_without_network_or_package(saved, model, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    again = load_model(saved)
    assert torch.equal(again.encode_images(images()).embedding, model.encode_images(images()).embedding)
    texts = ["greek small letter alpha", "A Cat!"]
    torch.testing.assert_close(again.encode_texts(texts), model.encode_texts(texts))


def test_a_model_is_known_by_its_weights_until_it_is_trained(saved, model):
    assert model.fingerprint is None
    again = load_model(saved)
    assert again.fingerprint == load_model(saved).fingerprint
    described = json.loads((saved / "model.json").read_text())
    described["model"]["tta"] = "hflip"
    (saved / "model.json").write_text(json.dumps(described))
    assert load_model(saved).fingerprint != again.fingerprint
    assert again.metadata["trained_on"] == "nothing" and again.home == saved
    assert again.eval().fingerprint is not None
    assert again.train().eval().fingerprint is None


def test_saved_files_are_readable_by_others(saved):
    umask_says = (saved / "model.json").stat().st_mode
    assert (saved / "model.safetensors").stat().st_mode == umask_says


def test_parameters_are_counted_without_the_weights_being_read(model, saved, tmp_path):
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert parameter_counts(saved) == (trained, frozen) and frozen > trained > 0
    turned = SPEC.model_copy(deep=True, update={"backbone_frozen": True})
    assert turned.text is not None
    turned.text.frozen = False
    other = build_model(turned)
    save_model(other, tmp_path)
    assert parameter_counts(tmp_path)[1] == sum(p.numel() for p in other.backbone.parameters())
    assert sum(parameter_counts(tmp_path)) == trained + frozen
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
        parameter_counts(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "hflip", "gone", "json cut", "json format"])
def test_damaged_models_are_refused(saved, tmp_path, damage):
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights, described = tmp_path / "model.safetensors", tmp_path / "model.json"
    whole = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(whole[:-100])
    elif damage == "hflip":
        weights.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    elif damage == "gone":
        weights.unlink()
    elif damage == "json cut":
        described.write_bytes(described.read_bytes()[:1000])
    else:
        described.write_text(json.dumps(json.loads(described.read_text()) | {"format": 99}))
    with pytest.raises(ModelError, match=r"model\.(json|safetensors)") as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


def test_load_says_where_it_looked(tmp_path):
    with pytest.raises(ModelError, match="holds no model"):
        vlfew.load(tmp_path)
    with pytest.raises(ModelError, match="neither a run folder, nor a hub id"):
        vlfew.load("nowhere")
    with pytest.raises(ModelError, match="hub"):
        vlfew.load("nobody/nothing")


def test_frozen_parts_stay_in_evaluation_mode_and_untrained(model):
    model.train()
    assert model.backbone.training and not model.text_encoder.training
    assert not any(p.requires_grad for p in model.text_encoder.parameters())
    model.eval()


def test_without_a_text_stream_words_are_refused():
    plain = build_model(SPEC.model_copy(update={"text": None}))
    assert not plain.has_text
    with pytest.raises(ModelError, match="no text stream"):
        plain.encode_texts(["a cat"])
    with pytest.raises(ModelError, match="no text stream"):
        plain.classifier({"cat": "a cat"})


def test_projection_none_needs_equal_widths():
    text = TextSpec(encoder="minilm", projection="none")
    with pytest.raises(ModelError, match=r"384 numbers and the image stream 16"):
        build_model(SPEC.model_copy(update={"text": text}))
    joined = build_model(SPEC.model_copy(update={"text": text, "embedding_dim": 384})).eval()
    vectors = joined.encode_texts(["a cat"])
    torch.testing.assert_close(vectors, joined.text_encoder.encode(["a cat"]))


def test_weighted_l1_is_trained_and_saved_with_the_model(tmp_path):
    torch.manual_seed(0)
    spec = SPEC.model_copy(update={"text": None, "similarity": "weighted_l1", "embedding_dim": None})
    koch = build_model(spec).eval()
    save_model(koch, tmp_path)
    x = koch.encode_images(images(4))
    expected = koch.similarity.pair(x[:2], x[2:]).detach()
    torch.testing.assert_close(load_model(tmp_path).method().pair(x[:2], x[2:]).detach(), expected)
    with pytest.raises(ModelError, match="no trained weighted_l1"):
        build_model(SPEC.model_copy(update={"text": None})).method("weighted_l1")


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_options_of_a_similarity_are_used(similarity, tmp_path):
    """Nearest neighbors, asked for in training, are what the saved model goes by."""
    spec = SPEC.model_copy(update={"text": None, "similarity": similarity})
    nearest = build_model(spec.model_copy(update={"similarity_options": {"reduce": "max"}}))
    assert type(build_model(spec).method()) is type(nearest.method("prototypes"))
    save_model(nearest, tmp_path)
    features = nearest.encode_images(images(7)).embedding
    one, other = (Features(features[rows]) for rows in ([5] * 5 + [6] * 5, [*range(5)] * 2))
    alike = nearest.similarity.pair(one, other).view(2, 5)  # two queries, five items
    expected = torch.stack([alike[:, :3].amax(1), alike[:, 3:].amax(1)], dim=1)
    support = Support(Features(features[:5]), torch.tensor([0, 0, 0, 1, 1]), 2)
    for model in (nearest, load_model(tmp_path)):
        for name in ("default", similarity):
            scores = model.method(name).fit(support).score(Features(features[5:]))
            torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-4)


def test_classifier_by_words_images_and_both(model, tmp_path):
    shots = []
    for number, image in enumerate(images(3)):
        shots.append(Image.fromarray(image[0].numpy()))
        shots[-1].save(tmp_path / f"{number}.png")
    clf = model.classifier(
        {"first": shots[0], "second": tmp_path / "1.png", "third": [shots[2], "a third thing"]},
        text_weight=0.0,
    )
    answers = clf.predict([tmp_path / "0.png", shots[1], shots[2]])
    assert [a.label for a in answers] == ["first", "second", "third"]
    assert all(a.score == pytest.approx(1.0, abs=1e-5) and a.margin >= 0 for a in answers)
    by_words = model.classifier({"only": "words"}).predict([shots[0]])
    assert by_words[0].label == "only" and by_words[0].margin == 0.0


@pytest.mark.parametrize(
    ("classes", "message"),
    [({}, "at least one class"), ({"a": []}, "described by nothing"), ({"a": " "}, "empty text")],
)
def test_classes_said_by_nothing(model, classes, message):
    with pytest.raises(DataError, match=message):
        model.classifier(classes)


def test_open_clip_towers_from_a_folder_load_and_save(clip_folder, tmp_path):
    """Both towers of a tiny random open_clip model, by the name that hub models have too."""
    folder = Path(shutil.copytree(clip_folder, tmp_path / "tower"))
    model = vlfew.load(f"open_clip:{folder}")
    size = model.spec.image_size
    x = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    assert model.encode_images(x).embedding.shape[1] == model.encode_texts(["a cat"]).shape[1]
    assert model.spec.outside_data
    save_model(model, tmp_path / "run")
    shutil.rmtree(folder)
    again = load_model(tmp_path / "run")
    torch.testing.assert_close(again.encode_images(x).embedding, model.encode_images(x).embedding)
    torch.testing.assert_close(again.encode_texts(["a cat"]), model.encode_texts(["a cat"]))
