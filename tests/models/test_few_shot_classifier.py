"""`FewShotClassifier`: scikit-learn's own checks, images with texts, probabilities, files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import tests.encoders.conftest as tiny_models
import vlfew
from tests.compare import assert_close, relative_difference
from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.multimodal_prototypes import ScoreMixture, multimodal_method
from vlfew.classifiers.support import IMAGE, TEXT, SupportSet, append_texts
from vlfew.classifiers.temperature import fit_temperature
from vlfew.core.errors import ConfigError, DataError, ModelError, VlfewError
from vlfew.core.features import Features, FeatureSpec
from vlfew.models import DualStream, FewShotClassifier, ModelSpec, save_model
from vlfew.models.spec import TextSpec

bert_folder, clip_folder = tiny_models.bert_folder, tiny_models.clip_folder
WITHOUT_TEXT = [
    "default",
    *(
        n
        for n in CLASSIFIERS.names()
        if not any(getattr(CLASSIFIERS.get(n), need) for need in ("needs_text", "learned"))
    ),
]
WITH_TEXT = [name for name in CLASSIFIERS.names() if CLASSIFIERS.get(name).needs_text]
FAST = {"am3": {"steps": 5}, "clip_adapter": {"epochs": 2}, "tip_adapter_f": {"epochs": 2}}
TEXTS = {"cat": "a cat", "dog": ["a dog", "a hound"], "owl": "an owl"}


@parametrize_with_checks(
    [FewShotClassifier(method=name) for name in ("default", "euclidean", "linear_probe")]
)
def test_scikit_learn_s_checks(estimator, check) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def model(bert_folder: Path) -> DualStream:
    torch.manual_seed(0)
    text = TextSpec(encoder=f"hf:{bert_folder}", projection="linear", dropout=0.0)
    spec = ModelSpec(
        backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16, text=text
    )
    return DualStream.from_spec(spec).eval()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[str]]:
    """Four images of each of three classes, as files: a pattern with noise."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    files, labels = [], []
    for label in ("cat", "dog", "owl"):
        pattern = rng.uniform(0, 255, (16, 16))
        for number in range(4):
            files.append(folder / f"{label}{number}.png")
            labels.append(label)
            pixels = 0.7 * pattern + 0.3 * rng.uniform(0, 255, (16, 16))
            Image.fromarray(pixels.astype(np.uint8)).save(files[-1])
    return files, labels


def blobs(count: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_blobs(count, centers=3, n_features=6, cluster_std=4.0, random_state=seed)
    return X, np.array(["cat", "dog", "owl"])[y]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("name", [*WITHOUT_TEXT[1:], *WITH_TEXT])
def test_logits_are_those_of_the_registered_method(name: str) -> None:
    X, y = blobs()
    centers = {label: X[y == label][:2] for label in ("cat", "dog", "owl")}
    classifier = FewShotClassifier(method=name, method_params=FAST.get(name)).fit(X, y, texts=centers)
    method = CLASSIFIERS.get(name)(FeatureSpec(6), **FAST.get(name, {}))
    images = Features(torch.tensor(X))
    class_id = torch.tensor([["cat", "dog", "owl"].index(label) for label in y])
    if method.needs_images and not method.needs_text:  # it ignores texts
        support = SupportSet(images, class_id, 3)
    else:
        texts = torch.tensor(np.concatenate([*centers.values()]))
        modality = torch.tensor([IMAGE] * len(y) + [TEXT] * 6)
        class_id = torch.cat([class_id, torch.arange(3).repeat_interleave(2)])
        support = SupportSet(append_texts(images, texts), class_id, 3, modality)
    expected = method.fit(support).logits(images).numpy()
    np.testing.assert_array_equal(classifier.decision_function(X), expected)
    assert classifier.predict(X).tolist() == [["cat", "dog", "owl"][i] for i in expected.argmax(1)]


def test_a_class_may_have_texts_alone(model, paths) -> None:
    files, labels = paths
    classifier = FewShotClassifier(model).fit(files[:8], labels[:8], texts={"owl": "an owl"})
    assert classifier.classes_.tolist() == ["cat", "dog", "owl"]
    images = model.encode_image(files)
    text = model.encode_text(["an owl"])
    expected = torch.cosine_similarity(images, text)
    assert relative_difference(torch.from_numpy(classifier.decision_function(files)[:, 2]), expected) < 1e-4
    alone = FewShotClassifier(model).fit(texts=TEXTS)
    assert alone.predict_proba(files).shape == (12, 3) and not alone.calibrated_
    with pytest.raises(VlfewError, match=r"class 'owl' .*has no images"):
        FewShotClassifier(model, method="linear_probe").fit(files[:8], labels[:8], texts={"owl": "an owl"})


def test_images_and_texts_are_mixed_by_text_weight(model, paths) -> None:
    files, labels = paths
    for weight in (0.0, 0.3, 1.0):
        classifier = FewShotClassifier(model, text_weight=weight).fit(files, labels, texts=TEXTS)
        named = FewShotClassifier(model, "multimodal_prototypes", text_weight=weight).fit(
            files, labels, TEXTS
        )
        own = model.few_shot_method("multimodal_prototypes", text_weight=weight).fit(classifier.support_)
        expected = own.logits(model.image_features(model.preprocess(files))).numpy()
        for fitted in (classifier, named):
            np.testing.assert_array_equal(fitted.decision_function(files), expected)


def test_a_learned_similarity_is_mixed_with_texts(bert_folder, paths) -> None:
    torch.manual_seed(0)
    text = TextSpec(encoder=f"hf:{bert_folder}", projection="linear", dropout=0.0)
    options = {"backbone": "conv4", "backbone_options": {"widths": [8, 8]}, "image_size": 16}
    spec = ModelSpec(**options, embedding_dim=None, text=text, similarity="cross_attention")
    model = DualStream.from_spec(spec).eval()
    files, labels = paths
    classifier = FewShotClassifier(model, text_weight=0.3).fit(files, labels, texts=TEXTS)
    assert isinstance(classifier.method_, ScoreMixture)
    features = model.image_features(model.preprocess(files))
    method = multimodal_method(model.few_shot_method(), model.feature_spec, 0.3).fit(classifier.support_)
    np.testing.assert_array_equal(classifier.decision_function(files), method.logits(features).numpy())
    # A class of texts alone has no feature map: everything is compared by embeddings.
    some = FewShotClassifier(model).fit(files[:8], labels[:8], texts={"owl": "an owl"})
    assert not some.method_.needs_map and some.predict(files).shape == (12,)


def test_from_classes_is_fit(model, paths) -> None:
    files, _ = paths
    classes = {"dog": ["a dog", files[4], files[5]], "cat": files[0], "owl": "an owl"}
    classifier = FewShotClassifier.from_classes(model, classes, text_weight=0.2)
    images, image_labels = [files[4], files[5], files[0]], ["dog", "dog", "cat"]
    same = FewShotClassifier(model, text_weight=0.2).fit(
        images, image_labels, {"dog": "a dog", "owl": "an owl"}
    )
    np.testing.assert_array_equal(classifier.decision_function(files), same.decision_function(files))


def test_paths_images_and_arrays_are_the_same(model, paths) -> None:
    files, labels = paths
    pillow = [Image.open(file).copy() for file in files]
    classifier = FewShotClassifier(model).fit(files, np.array(labels))
    expected = classifier.decision_function(files)
    column = np.empty(len(files), dtype=object)
    column[:] = files
    arrays = np.stack([np.asarray(image) for image in pillow])[..., None]
    for images in (pillow, column, arrays, [*arrays], model.preprocess(files)):
        np.testing.assert_array_equal(classifier.decision_function(images), expected)


def test_cross_validation_on_image_paths_with_texts(model, paths) -> None:
    files, labels = paths
    classifier = FewShotClassifier(model, texts=TEXTS, text_weight=0.1)
    scores = cross_val_score(classifier, files, labels, cv=4)
    assert scores.shape == (4,) and scores.mean() > 0.6  # chance is 1/3
    assert clone(classifier).model is model


def test_parameter_search_and_pipelines(model, paths) -> None:
    files, labels = paths
    grid = {"method": ["prototypes", "linear_probe"], "text_weight": [0.5]}
    search = GridSearchCV(FewShotClassifier(model), grid, cv=2).fit(files, labels)
    assert search.best_params_["method"] in grid["method"]
    X, y = blobs()
    pipeline = make_pipeline(StandardScaler(), FewShotClassifier(method="euclidean"))
    assert pipeline.fit(X, y).score(X, y) > 0.8


def test_the_temperature_is_fitted_on_held_out_images() -> None:
    X, y = blobs(30)
    classifier = FewShotClassifier(method="linear_probe").fit(X, y)
    assert classifier.calibrated_
    logits = classifier.decision_function(X)
    np.testing.assert_allclose(
        classifier.predict_proba(X), softmax(logits / classifier.temperature_), rtol=1e-6
    )
    # The classifier is sure of the images that it was fitted on; on other images its probabilities are honest.
    other, labels = blobs(600, seed=0)[0], blobs(600, seed=0)[1]
    probabilities = classifier.predict_proba(other)
    right = (classifier.classes_[probabilities.argmax(1)] == labels).mean()
    uncalibrated = softmax(classifier.decision_function(other)).max(1).mean()
    assert abs(probabilities.max(1).mean() - right) < 0.1
    assert abs(probabilities.max(1).mean() - right) <= abs(uncalibrated - right)


def test_probabilities_without_held_out_images_are_not_called_calibrated() -> None:
    X, y = blobs(30)
    keep = np.concatenate([np.flatnonzero(y != "owl"), np.flatnonzero(y == "owl")[:1]])
    single = FewShotClassifier().fit(X[keep], y[keep])
    assert not single.calibrated_ and single.temperature_ == 0.01
    assert FewShotClassifier(method="euclidean").fit(X[keep], y[keep]).temperature_ == 1.0
    np.testing.assert_allclose(
        single.predict_proba(X), softmax(single.decision_function(X) / 0.01), rtol=1e-6
    )
    keep = np.concatenate([keep, np.flatnonzero(y == "owl")[1:2]])
    assert FewShotClassifier().fit(X[keep], y[keep]).calibrated_


def test_few_images_that_are_all_right_do_not_give_certainty() -> None:
    logits, class_id = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).double(), torch.tensor([0, 1])
    temperature = fit_temperature(logits, class_id)
    probability = torch.softmax(logits / temperature, 1).gather(1, class_id[:, None])
    assert_close(probability.mean(), torch.tensor(0.75).double(), tolerance=0.02)  # (M + 1) / (M + 2)
    flat = torch.zeros(2, 2).double()
    assert fit_temperature(flat, class_id) > 0


def test_predictions_have_margins_probabilities_and_a_threshold() -> None:
    X, y = blobs()
    classifier = FewShotClassifier().fit(X, np.unique(y, return_inverse=True)[1])
    probabilities, logits = classifier.predict_proba(X), classifier.decision_function(X)
    threshold = float(np.median(probabilities.max(1)))
    for n, found in enumerate(classifier.classify(X, threshold=threshold)):
        ordered = np.sort(logits[n])[::-1]
        assert found.label == logits[n].argmax() and found.score == pytest.approx(ordered[0])
        assert found.margin == pytest.approx(ordered[0] - ordered[1])
        assert found.probability == pytest.approx(probabilities[n].max())
        assert found.accepted == (found.probability >= threshold)
    assert {found.accepted for found in classifier.classify(X, threshold)} == {True, False}
    assert all(found.accepted for found in classifier.classify(X))


@pytest.mark.parametrize("name", ["default", *WITH_TEXT])
def test_saved_and_loaded_it_is_the_same(name: str, model, paths, tmp_path) -> None:
    files, labels = paths
    classifier = FewShotClassifier(model, name, FAST.get(name), text_weight=0.3)
    classifier.fit(files, labels, texts=TEXTS).save(tmp_path / "animals.safetensors")
    again = FewShotClassifier.load(tmp_path / "animals.safetensors", model)
    np.testing.assert_array_equal(again.predict_proba(files), classifier.predict_proba(files))
    assert again.classes_.tolist() == ["cat", "dog", "owl"] and again.calibrated_ == classifier.calibrated_
    assert again.get_params()["method"] == name and again.text_weight == 0.3


@pytest.mark.parametrize("labels", [["a", "b"], [3, 7], [True, False], [1.0, 2.0]])
def test_labels_keep_their_type_in_a_file(labels: list, tmp_path) -> None:
    X = np.random.default_rng(0).normal(size=(2, 4))
    types = [np.asarray(labels).dtype, *([object] if isinstance(labels[0], str) else [])]
    for dtype in types:
        classifier = FewShotClassifier(method="prototypes", method_params={"metric": "euclidean"})
        classifier.fit(X, np.array(labels, dtype=dtype)).save(tmp_path / "features.safetensors")
        again = FewShotClassifier.load(tmp_path / "features.safetensors")
        assert again.classes_.dtype == dtype and again.predict(X).tolist() == labels
        assert again.n_features_in_ == 4


def test_a_file_is_bound_to_its_model(model, paths, tmp_path) -> None:
    files, labels = paths
    file, features = tmp_path / "animals.safetensors", tmp_path / "features.safetensors"
    FewShotClassifier(model).fit(files, labels).save(file)
    FewShotClassifier().fit(*blobs()).save(features)
    other = DualStream.from_spec(model.spec)
    (tmp_path / "text.safetensors").write_text("no classifier")
    for path, given, message in (
        (
            file,
            other,
            r"animals\.safetensors was fitted with the model of fingerprint \w+ and cannot be used with",
        ),
        (file, None, r"cannot be used with features \(no model\)"),
        (features, model, r"was fitted with features \(no model\)"),
        (tmp_path / "text.safetensors", model, "text.safetensors cannot be read"),
        (tmp_path / "none.safetensors", model, "none.safetensors cannot be read"),
    ):
        with pytest.raises(ModelError, match=message) as error:
            FewShotClassifier.load(path, given)
        assert "\n" not in str(error.value)


def test_a_model_by_name(model, paths, tmp_path) -> None:
    files, labels = paths
    save_model(model, tmp_path / "run")
    classifier = FewShotClassifier(str(tmp_path / "run")).fit(files, labels)
    expected = FewShotClassifier(model).fit(files, labels).decision_function(files)
    np.testing.assert_array_equal(classifier.decision_function(files), expected)
    assert classifier.model == str(tmp_path / "run")
    classifier.save(tmp_path / "c.safetensors")
    again = FewShotClassifier.load(tmp_path / "c.safetensors", tmp_path / "run")
    np.testing.assert_array_equal(again.decision_function(files), expected)
    # Fitted with the model before it was saved, it is still the same model.
    FewShotClassifier(model).fit(files, labels).save(tmp_path / "unsaved.safetensors")
    again = FewShotClassifier.load(tmp_path / "unsaved.safetensors", tmp_path / "run")
    np.testing.assert_array_equal(again.decision_function(files), expected)


def test_a_fitted_classifier_can_be_pickled(model, paths) -> None:
    files, labels = paths
    for name in ("default", "cosine", "tip_adapter"):
        classifier = FewShotClassifier(model, method=name).fit(files, labels, texts=TEXTS)
        again = pickle.loads(pickle.dumps(classifier))
        np.testing.assert_array_equal(again.predict_proba(files), classifier.predict_proba(files))


@pytest.mark.parametrize("name", ["coop", "lora"])
def test_methods_that_train_through_the_model(name: str, clip_folder: Path, paths, tmp_path: Path) -> None:
    if name == "lora":
        pytest.importorskip("peft")
    model = vlfew.load(f"open_clip:{clip_folder}")
    files, labels = paths
    names = {"cat": "cat", "dog": ["dog", "hound"], "owl": "owl"}
    classifier = FewShotClassifier(model, name, {"steps": 5, "scale": 50.0}, texts=names).fit(files, labels)
    assert classifier.temperature_ == pytest.approx(1 / 50) and not classifier.calibrated_
    assert classifier.predict_proba(files).sum(1) == pytest.approx(np.ones(len(files)))
    assert set(classifier.predict(files)) <= set(names)
    if name == "lora":
        assert classifier.model_ is not model
        with pytest.raises(ModelError, match="'lora' changed the model"):
            classifier.save(tmp_path / "c.safetensors")
        return
    classifier.save(tmp_path / "c.safetensors")
    again = FewShotClassifier.load(tmp_path / "c.safetensors", model)
    np.testing.assert_array_equal(again.predict_proba(files), classifier.predict_proba(files))


def test_mistakes_are_one_line_errors(model, paths) -> None:
    files, labels = paths
    X, y = blobs()
    plain = FewShotClassifier()
    for attempt, kind, message in (
        (lambda: plain.predict(X), NotFittedError, "not fitted"),
        (lambda: FewShotClassifier(model).fit(), DataError, "nothing to fit"),
        (lambda: FewShotClassifier(model).fit(files), DataError, "nothing to fit"),
        (lambda: FewShotClassifier(model).fit(files, labels[:3]), DataError, "12 images and 3 labels"),
        (
            lambda: FewShotClassifier(model).fit(files, labels, texts=["a cat"]),
            DataError,
            "texts must be a dict",
        ),
        (
            lambda: FewShotClassifier(model).fit(files, range(12), texts=TEXTS),
            DataError,
            "use the same labels",
        ),
        (
            lambda: FewShotClassifier(model, text_weight=2.0).fit(files, labels),
            ConfigError,
            "text_weight is 2",
        ),
        (lambda: FewShotClassifier("nowhere").fit(X, y), ModelError, "no model 'nowhere'"),
        (
            lambda: plain.fit(X, y, texts=TEXTS),
            DataError,
            "without a model, texts must be embeddings",
        ),
        (lambda: plain.fit(X, y, texts={"cat": [1.0, 2.0]}), DataError, "the same width"),
        (lambda: FewShotClassifier(method="nearest").fit(X, y), VlfewError, "unknown method 'nearest'"),
        (lambda: FewShotClassifier(method="zero_shot").fit(X, y), VlfewError, "class 'cat' .*has no texts"),
        (lambda: FewShotClassifier(method="coop").fit(X, y), ConfigError, "'coop' trains through a model"),
        (
            lambda: FewShotClassifier(method="weighted_l1").fit(X, y),
            ConfigError,
            "needs a model that was trained",
        ),
        (
            lambda: FewShotClassifier(method_params={"c": 1}).fit(X, y),
            ConfigError,
            "'default' has no options",
        ),
        (lambda: FewShotClassifier(None, "linear_probe", {"cc": 1}).fit(X, y), ConfigError, "no option 'cc'"),
        (
            lambda: FewShotClassifier(model, "weighted_l1").fit(files, labels),
            ModelError,
            "no trained weighted_l1",
        ),
    ):
        with pytest.raises(kind, match=message) as error:
            attempt()
        assert isinstance(error.value, ValueError) or "\n" not in str(error.value)


def test_texts_of_a_misspelled_class_are_a_warning():
    x, y = np.random.default_rng(0).normal(size=(8, 4)), ["cat", "dog"] * 4
    vectors = {"CAT": x[0], "dog": x[1]}
    with pytest.warns(
        UserWarning, match="texts are given for 'CAT', which has no images; did you mean 'cat'"
    ):
        FewShotClassifier().fit(x, y, texts=vectors)


def test_images_without_a_model_are_named():
    with pytest.raises(DataError, match="there is no model to encode them; give model="):
        FewShotClassifier().fit([Path("a.png"), Path("b.png")], ["a", "b"])
