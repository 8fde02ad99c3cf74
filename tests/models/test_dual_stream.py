"""The dual-stream model: built, saved, loaded and used."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import pytest
import sklearn.base
import timm
import torch
from PIL import Image

import vlfew
from tests.compare import assert_close
from tests.encoders import towers
from vlfew.classifiers.support import SupportSet
from vlfew.core.errors import DataError, ModelError
from vlfew.core.features import Features
from vlfew.models import DualStream, DualStreamOutput, FewShotClassifier, ModelSpec, load, save_model
from vlfew.models.serialization import fingerprint_of, parameter_counts
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
    built = DualStream.from_spec(SPEC)
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


def test_both_streams_embed_into_one_space(model):
    image, text = model.encode_image(images()), model.encode_text(["a cat", "a mug"])
    assert image.shape == (5, 16) and text.shape == (2, 16)
    assert image.dtype == text.dtype == torch.float32
    assert image.device == text.device == model.device
    assert not image.requires_grad and not text.requires_grad
    for embedding, unit in (
        (image, model.encode_image(images(), normalize=True)),
        (text, model.encode_text(["a cat", "a mug"], normalize=True)),
    ):
        assert_close(unit, torch.nn.functional.normalize(embedding, dim=1))


def test_forward_is_what_training_and_hooks_see(model):
    outputs = []
    hook = model.register_forward_hook(lambda _, inputs, output: outputs.append(output))
    x, tokens = images(), model.tokenize(["a cat", "a mug"])
    try:
        output = model(x, tokens)
    finally:
        hook.remove()
    assert isinstance(output, DualStreamOutput) and outputs == [output]
    assert_close(output.image.embedding, model.encode_image(x))
    assert_close(output.text, model.encode_text(["a cat", "a mug"]))
    assert output.image.embedding.requires_grad and output.text.requires_grad
    encoded = model.text_encoder.encode(["a cat", "a mug"])
    assert_close(model(text=encoded).text, output.text)
    assert_close(model.encode_text(model.tokenize(["a mug"])["input_ids"]), model.encode_text(["a mug"]))
    assert model(x).text is None and model(text=encoded).image is None


def test_forward_has_neither_test_time_augmentation_nor_centering():
    torch.manual_seed(0)
    model = DualStream.from_spec(SPEC.model_copy(update={"tta": "d4", "center_embeddings": True})).eval()
    assert model(images(), torch.zeros(2, 384)).image.embedding.shape == (5, 16)
    assert model(text=torch.zeros(2, 384)).text.shape == (2, 16)
    assert model.encode_image(images()).shape == (5, 8 * 16)


def test_paths_pillow_images_and_arrays_are_preprocessed(model, tmp_path):
    gray = Image.new("RGB", (30, 20), (90, 90, 90))
    gray.save(tmp_path / "gray.png")
    inputs = [tmp_path / "gray.png", gray, np.asarray(gray), np.asarray(gray)[:, :, 0]]
    pixels = model.preprocess(inputs)
    assert pixels.shape == (4, 1, 16, 16) and pixels.dtype == torch.uint8 and bool((pixels == 90).all())
    assert torch.equal(model.encode_image(inputs), model.encode_image(pixels))
    assert torch.equal(model.encode_image(np.stack([np.asarray(gray)] * 2)), model.encode_image(pixels[:2]))
    assert model.preprocess([]).shape == (0, 1, 16, 16) and model.encode_image([]).shape == (0, 16)


def test_many_images_are_encoded_in_batches(model):
    pillow = [Image.fromarray(image[0].numpy()) for image in images(130)]
    assert_close(model.encode_image(pillow), model.image_features(images(130)).embedding)


def test_open_clip_s_zero_shot_classifier_takes_the_model(model):
    names, templates = ["cat", "green mug", "dog"], ["a photo of a {}", "a {}"]
    weights = open_clip.build_zero_shot_classifier(model, model.tokenize, names, templates)
    for column, name in zip(weights.T, names, strict=True):
        texts = [template.format(name) for template in templates]
        expected = torch.nn.functional.normalize(model.encode_text(texts, normalize=True).mean(0), dim=0)
        assert_close(column, expected)


def test_scikit_learn_s_clones_share_the_model(model):
    assert sklearn.base.clone(model) is model


def test_texts_in_place_of_images_and_the_reverse_are_one_line_errors(model, tmp_path, monkeypatch):
    Image.new("L", (8, 8)).save(tmp_path / "mug.png")
    monkeypatch.chdir(tmp_path)
    mug, classifier = Path("mug.png"), partial(FewShotClassifier.from_classes, model)
    wrong = [
        (lambda: model.encode_text("a cat"), "expected a list of texts"),
        (lambda: model.encode_text(["a cat", " "]), "empty text"),
        (lambda: model.encode_text([mug]), "a text must be a str, got"),
        (lambda: model.encode_text(["mug.png"]), r"pass the image as Path\('mug.png'\)"),
        (lambda: classifier({"a": "a cat", "mug": "mug.png"}), "class 'mug': 'mug.png' is a text"),
        (lambda: classifier({"cat": Path("a photo of a cat")}), "class 'cat': there is no image 'a photo"),
        (lambda: classifier({"cat": torch.zeros(3, 8, 8)}), r"got a Tensor of shape \[3, 8, 8\]"),
        (
            lambda: classifier({"cat": 3}),
            "class 'cat': an image must be a path, a Pillow image or an array, got 3",
        ),
        (
            lambda: classifier({"cat": mug}).predict(["a cat"]),
            "there is no image 'a cat'; texts are taken by",
        ),
        (lambda: classifier({"cat": mug}).predict([]), "no images"),
        (lambda: model.encode_image(mug), "expected a list of images"),
        (lambda: model.encode_image(np.zeros((8, 8, 3), np.uint8)), "expected a list of images"),
        (lambda: model.encode_image([np.zeros((8, 8))]), "an array must be uint8"),
        (lambda: model.image_features([mug]), r"takes uint8 \[B, 1, 16, 16\], got .*mug.png"),
        (lambda: model.preprocess([tmp_path / "none.png"]), "there is no image '.*none.png'"),
    ]
    for attempt, message in wrong:
        with pytest.raises(DataError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    # Where only images are meant, a str is a path.
    assert_close(model.encode_image(["mug.png"]), model.encode_image([mug]))
    # There is no such image: this is a text, however it ends.
    assert model.encode_text(["other.png"]).shape == (1, 16)


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (torch.zeros(2, 1, 16, 16), r"float32 \[2, 1, 16, 16\]"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), r"uint8 \[2, 3, 16, 16\]"),
        (torch.zeros(1, 16, 16, dtype=torch.uint8), r"uint8 \[1, 16, 16\]"),
    ],
)
def test_tensors_of_another_type_or_size_are_one_line_errors(model, pixels, found):
    for encode in (model.image_features, model.encode_image):
        with pytest.raises(
            DataError, match=rf"got {found}; preprocess images with model.preprocess"
        ) as caught:
            encode(pixels)
        assert "\n" not in str(caught.value)


def test_pixels_are_normalized_by_the_training_statistics(model):
    x = images()
    expected = model.image_projection(model.backbone((x.float() - 200) / 50).embedding)
    assert_close(model.encode_image(x), expected.detach())


def test_loaded_gives_what_was_saved_without_network_or_package(saved, model, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    again = load(saved)
    assert torch.equal(again.encode_image(images()), model.encode_image(images()))
    texts = ["greek small letter alpha", "A Cat!"]
    assert_close(again.encode_text(texts), model.encode_text(texts))


def test_the_fingerprint_identifies_the_weights_until_training(saved, model):
    assert model.fingerprint is None
    again = load(saved)
    assert again.fingerprint == load(saved).fingerprint
    described = json.loads((saved / "model.json").read_text())
    described["model"]["tta"] = "hflip"
    (saved / "model.json").write_text(json.dumps(described))
    assert load(saved).fingerprint != again.fingerprint
    assert again.metadata["trained_on"] == "nothing" and again.path == saved
    assert again.eval().fingerprint is not None
    assert again.train().eval().fingerprint is None


def test_saved_files_are_readable_by_others(saved):
    mode = (saved / "model.json").stat().st_mode
    assert (saved / "model.safetensors").stat().st_mode == mode


def test_parameters_are_counted_without_loading_weights(model, saved, tmp_path):
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert parameter_counts(saved) == (trained, frozen) and frozen > trained > 0
    changed = SPEC.model_copy(deep=True, update={"backbone_frozen": True})
    assert changed.text is not None
    changed.text.frozen = False
    other = DualStream.from_spec(changed)
    save_model(other, tmp_path)
    assert parameter_counts(tmp_path)[1] == sum(p.numel() for p in other.backbone.parameters())
    assert sum(parameter_counts(tmp_path)) == trained + frozen
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
        parameter_counts(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "bit flip", "gone", "json cut", "json format"])
def test_damaged_files_are_one_line_errors(saved, tmp_path, damage):
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights, described = tmp_path / "model.safetensors", tmp_path / "model.json"
    content = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(content[:-100])
    elif damage == "bit flip":
        weights.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    elif damage == "gone":
        weights.unlink()
    elif damage == "json cut":
        described.write_bytes(described.read_bytes()[:1000])
    else:
        described.write_text(json.dumps(json.loads(described.read_text()) | {"format": 99}))
    with pytest.raises(ModelError, match=r"model\.(json|safetensors)") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_load_lists_where_it_looked(tmp_path):
    with pytest.raises(ModelError, match="holds no model"):
        vlfew.load(tmp_path)
    with pytest.raises(
        ModelError, match="neither a run folder, nor the folder of a published model, nor a hub id"
    ):
        vlfew.load("nowhere")
    with pytest.raises(ModelError, match="hub"):
        vlfew.load("nobody/nothing")


def test_frozen_parts_stay_in_evaluation_mode_and_untrained(model):
    model.train()
    assert model.backbone.training and not model.text_encoder.training
    assert not any(p.requires_grad for p in model.text_encoder.parameters())
    model.eval()


def test_texts_need_a_text_stream():
    plain = DualStream.from_spec(SPEC.model_copy(update={"text": None}))
    assert not plain.has_text
    with pytest.raises(ModelError, match="no text stream"):
        plain.encode_text(["a cat"])
    with pytest.raises(ModelError, match="no text stream"):
        FewShotClassifier.from_classes(plain, {"cat": "a cat"})


def test_projection_none_needs_equal_widths():
    text = TextSpec(encoder="minilm", projection="none")
    with pytest.raises(ModelError, match=r"384 dimensions and the image encoder 16"):
        DualStream.from_spec(SPEC.model_copy(update={"text": text}))
    joined = DualStream.from_spec(SPEC.model_copy(update={"text": text, "embedding_dim": 384})).eval()
    vectors = joined.encode_text(["a cat"])
    assert_close(vectors, joined.text_encoder.encode(["a cat"]))


def test_weighted_l1_is_trained_and_saved_with_the_model(tmp_path):
    torch.manual_seed(0)
    spec = SPEC.model_copy(update={"text": None, "similarity": "weighted_l1", "embedding_dim": None})
    koch = DualStream.from_spec(spec).eval()
    save_model(koch, tmp_path)
    x = koch.image_features(images(4))
    expected = koch.similarity.pairwise(x[:2], x[2:]).detach()
    assert_close(load(tmp_path).similarity_by_name().pairwise(x[:2], x[2:]).detach(), expected)
    with pytest.raises(ModelError, match="no trained weighted_l1"):
        DualStream.from_spec(SPEC.model_copy(update={"text": None})).few_shot_method("weighted_l1")


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_options_of_a_similarity_are_used(similarity, tmp_path):
    """A model trained with `reduce: max` uses nearest neighbors after loading, too."""
    spec = SPEC.model_copy(update={"text": None, "similarity": similarity})
    nearest = DualStream.from_spec(spec.model_copy(update={"similarity_options": {"reduce": "max"}}))
    assert type(DualStream.from_spec(spec).few_shot_method()) is type(nearest.few_shot_method("prototypes"))
    save_model(nearest, tmp_path)
    features = nearest.encode_image(images(7))
    one, other = (Features(features[rows]) for rows in ([5] * 5 + [6] * 5, [*range(5)] * 2))
    similarities = nearest.similarity.pairwise(one, other).view(2, 5)  # two queries, five items
    expected = torch.stack([similarities[:, :3].amax(1), similarities[:, 3:].amax(1)], dim=1)
    support = SupportSet(Features(features[:5]), torch.tensor([0, 0, 0, 1, 1]), 2)
    for model in (nearest, load(tmp_path)):
        for name in ("default", similarity):
            scores = model.few_shot_method(name).fit(support).logits(Features(features[5:]))
            assert_close(scores, expected)


def test_classifier_of_texts_images_and_both(model, tmp_path):
    shots = []
    for number, image in enumerate(images(3)):
        shots.append(Image.fromarray(image[0].numpy()))
        shots[-1].save(tmp_path / f"{number}.png")
    classes = {"first": shots[0], "second": tmp_path / "1.png", "third": [shots[2], "a third thing"]}
    classifier = FewShotClassifier.from_classes(model, classes, text_weight=0.0)
    found = classifier.classify([tmp_path / "0.png", shots[1], shots[2]])
    assert [p.label for p in found] == ["first", "second", "third"]
    assert all(p.score == pytest.approx(1.0, abs=1e-5) and p.margin >= 0 for p in found)
    (found,) = FewShotClassifier.from_classes(model, {"only": "a text"}).classify([shots[0]])
    assert found.label == "only" and found.margin == 0.0


@pytest.mark.parametrize(
    ("classes", "message"),
    [({}, "classes must be a dict"), ({"a": []}, "'a' has no items"), ({"a": " "}, "empty text")],
)
def test_classes_without_items_are_one_line_errors(model, classes, message):
    with pytest.raises(DataError, match=message):
        FewShotClassifier.from_classes(model, classes)


def test_open_clip_towers_from_a_folder_load_and_save(clip_folder, tmp_path):
    """Both towers of a tiny random open_clip model."""
    folder = Path(shutil.copytree(clip_folder, tmp_path / "tower"))
    model = vlfew.load(f"open_clip:{folder}")
    size = model.spec.image_size
    x = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    assert model.encode_image(x).shape[1] == model.encode_text(["a cat"]).shape[1]
    assert model.spec.outside_data
    save_model(model, tmp_path / "run")
    shutil.rmtree(folder)
    again = load(tmp_path / "run")
    assert_close(again.encode_image(x), model.encode_image(x))
    assert_close(again.encode_text(["a cat"]), model.encode_text(["a cat"]))


def test_a_model_and_what_is_saved_of_it_have_one_fingerprint(model, tmp_path):
    save_model(model, tmp_path)
    assert model.fingerprint is None
    assert fingerprint_of(model) == load(tmp_path).fingerprint == fingerprint_of(load(tmp_path).train())
    other = load(tmp_path).train()
    with torch.no_grad():
        other.image_projection.bias.add_(1)
    assert fingerprint_of(other) != fingerprint_of(model)


@pytest.mark.parametrize("library", ["open_clip", "transformers", "timm"])
def test_the_folder_of_a_published_model_needs_no_prefix(library, clip_folder, tmp_path, monkeypatch):
    if library == "open_clip":
        shutil.copytree(clip_folder, tmp_path, dirs_exist_ok=True)
    elif library == "transformers":
        towers.save("ViT", tmp_path)
    else:
        timm.models.save_for_hf(timm.create_model("test_vit"), tmp_path, model_config={})
    monkeypatch.chdir(tmp_path.parent)
    model = vlfew.load(tmp_path.name)
    assert model.spec.backbone == f"{library}:{tmp_path}"
    # Wherever the same files lie, and however their folder is written.
    names = (f"{library}:{tmp_path}", f"{library}:./{tmp_path.name}")
    assert {model.fingerprint} == {vlfew.load(name).fingerprint for name in names}
    save_model(model, tmp_path / "run")
    assert load(tmp_path / "run").fingerprint == model.fingerprint


def test_a_folder_of_a_text_model_says_where_it_belongs(bert_folder):
    with pytest.raises(ModelError, match=rf"a model of text alone; .*text\.encoder=hf:{bert_folder}"):
        vlfew.load(bert_folder)


def test_a_folder_of_two_libraries_needs_a_prefix(clip_folder, tmp_path):
    shutil.copytree(clip_folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    message = f"open_clip and of transformers; give open_clip:{tmp_path} or transformers:{tmp_path}"
    with pytest.raises(ModelError, match=message):
        vlfew.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot read .*config\.json"):
        vlfew.load(tmp_path)
