"""Whatever is passed to the public functions, what comes out is an answer or a VlfewError of one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vlfew
from tests.conftest import make_data
from tests.models.conftest import tiny_text_model
from vlfew.core.errors import DataError, VlfewError

IMAGE = np.full((16, 16), 90, np.uint8)
IMAGES, LABELS = [IMAGE, IMAGE + 90], ["cat", "owl"]
DATA = make_data()
PREPROCESSOR = vlfew.ImagePreprocessor(16, 1)

single = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.just(float("nan")),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.just(Path("no such file")),
    st.sampled_from(
        [np.int64(2), np.float32("nan"), np.str_("a"), np.array(3), torch.tensor(2), object(), dict]
    ),
)
few = st.lists(single, max_size=3)
values: st.SearchStrategy[Any] = st.one_of(
    single,
    few,
    few.map(tuple),
    few.map(iter),
    st.lists(few, max_size=2),
    st.lists(st.sampled_from(["a", 1, None]), max_size=3).map(lambda own: np.array(own, dtype=object)),
    st.dictionaries(st.text(max_size=2), st.one_of(single, few), max_size=2),
    st.sampled_from(
        [np.zeros((2, 3)), torch.zeros(2, 3), torch.zeros(1, 2, dtype=torch.int64), {1, 2}, range(2)]
    ),
)


@pytest.fixture(scope="module")
def model() -> vlfew.DualStream:
    return tiny_text_model(center_embeddings=False)


Call = Callable[[vlfew.DualStream, Any], Any]


def fitted(model: vlfew.DualStream) -> vlfew.FewShotClassifier:
    return vlfew.FewShotClassifier(model).fit(IMAGES, LABELS)


MODEL_CALLS: dict[str, Call] = {
    "encode_image": lambda m, v: m.encode_image(v),
    "encode_image of one": lambda m, v: m.encode_image([v]),
    "encode_text": lambda m, v: m.encode_text(v),
    "encode_text of one": lambda m, v: m.encode_text([v]),
    "encode_text of tokens": lambda m, v: m.encode_text({"input_ids": v}),
    "preprocess": lambda m, v: m.preprocess(v),
    "tokenize": lambda m, v: m.tokenize(v),
    "load": lambda _, v: vlfew.load(v),
}
CLASSIFIER_CALLS: dict[str, Call] = {
    "model": lambda _, v: vlfew.FewShotClassifier(object() if v is None else v).fit(IMAGES, LABELS),
    "method": lambda m, v: vlfew.FewShotClassifier(m, method=v).fit(IMAGES, LABELS),
    "method_params": lambda m, v: vlfew.FewShotClassifier(m, "ridge", method_params=v).fit(IMAGES, LABELS),
    "text_weight": lambda m, v: vlfew.FewShotClassifier(m, text_weight=v).fit(IMAGES, LABELS),
    "X": lambda m, v: vlfew.FewShotClassifier(m).fit(v, LABELS),
    "y": lambda m, v: vlfew.FewShotClassifier(m).fit(IMAGES, v),
    "a label": lambda m, v: vlfew.FewShotClassifier(m).fit(IMAGES, ["cat", v]),
    "texts": lambda m, v: vlfew.FewShotClassifier(m).fit(IMAGES, LABELS, texts=v),
    "texts of a class": lambda m, v: vlfew.FewShotClassifier(m).fit(IMAGES, LABELS, texts={"cat": v}),
    "texts of features": lambda _, v: vlfew.FewShotClassifier().fit(np.eye(2), LABELS, texts={"cat": v}),
    "texts of coop": lambda m, v: vlfew.FewShotClassifier(m, "coop").fit(IMAGES, LABELS, texts=v),
    "from_classes": lambda m, v: vlfew.FewShotClassifier.from_classes(m, v),
    "from_classes, one": lambda m, v: vlfew.FewShotClassifier.from_classes(m, {"cat": v, "owl": IMAGE}),
    "predict": lambda m, v: fitted(m).predict(v),
    "predict of one": lambda m, v: fitted(m).predict([v]),
    "predict_proba": lambda m, v: fitted(m).predict_proba(v),
    "classify": lambda m, v: fitted(m).classify(v),
    "threshold": lambda m, v: fitted(m).classify(IMAGES, threshold=v),
    "load": lambda m, v: vlfew.FewShotClassifier.load(v, m),
}
WORKFLOW_CALLS: dict[str, Call] = {
    "model": lambda _, v: vlfew.evaluate(v, DATA),
    "data": lambda m, v: vlfew.evaluate(m, v),
    "protocol": lambda m, v: vlfew.evaluate(m, DATA, v),
    "ways": lambda m, v: vlfew.evaluate(m, DATA, ways=v, queries=2, episodes=3),
    "split": lambda m, v: vlfew.evaluate(m, DATA, split=v),
    "root": lambda m, v: vlfew.evaluate(m, "folder", root=v),
    "data_options": lambda m, v: vlfew.evaluate(m, "folder", root="no such folder", data_options=v),
    "model of adapt": lambda _, v: vlfew.adapt(v, DATA),
    "data of adapt": lambda m, v: vlfew.adapt(m, v),
    "methods": lambda m, v: vlfew.adapt(m, DATA, methods=v, shots=1, repeats=1, cache=False),
    "shots": lambda m, v: vlfew.adapt(m, DATA, methods="prototypes", shots=v, repeats=1, cache=False),
    "fixed": lambda m, v: vlfew.adapt(
        m, DATA, methods="prototypes", shots=1, repeats=1, fixed=v, cache=False
    ),
    "load_data": lambda _, v: vlfew.load_data(v),
    "preprocessor": lambda _, v: vlfew.load_data("folder", "no such folder", v),
    "from_huggingface": lambda _, v: vlfew.from_huggingface(v, PREPROCESSOR),
    "from_torchvision": lambda _, v: vlfew.from_torchvision(v, PREPROCESSOR),
    "train": lambda _, v: vlfew.train(v),
    "overrides": lambda _, v: vlfew.train("no such recipe", v),
    "results_frame": lambda _, v: vlfew.results_frame(v),
}


def check(call: Call, model: vlfew.DualStream, value: Any) -> None:
    try:
        call(model, value)
    except VlfewError as error:
        assert str(error).strip() and all(len(line) < 1000 for line in str(error).splitlines())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODEL_CALLS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(value=values)
def test_models(name: str, model: vlfew.DualStream, value: Any) -> None:
    check(MODEL_CALLS[name], model, value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CLASSIFIER_CALLS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(value=values)
def test_classifiers(name: str, model: vlfew.DualStream, value: Any) -> None:
    check(CLASSIFIER_CALLS[name], model, value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WORKFLOW_CALLS)
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(value=values)
def test_workflows(name: str, model: vlfew.DualStream, value: Any) -> None:
    check(WORKFLOW_CALLS[name], model, value)


def test_generators_columns_and_single_numbers_are_lists(model: vlfew.DualStream) -> None:
    expected = model.encode_image(IMAGES)
    column = np.empty(2, dtype=object)
    column[:] = IMAGES
    for images in ((image for image in IMAGES), tuple(IMAGES), column, np.stack(IMAGES)[..., None]):
        assert torch.equal(model.encode_image(images), expected)
    texts = ["a cat", "an owl"]
    for given_texts in ((text for text in texts), tuple(texts), np.array(texts)):
        assert torch.equal(model.encode_text(given_texts), model.encode_text(texts))
    classifier = vlfew.FewShotClassifier(model).fit(IMAGES, LABELS, texts={"cat": ["a cat"]})
    again = vlfew.FewShotClassifier(model).fit(iter(IMAGES), iter(LABELS), texts={"cat": iter(["a cat"])})
    assert np.array_equal(again.predict_proba(iter(IMAGES)), classifier.predict_proba(IMAGES))
    items = vlfew.FewShotClassifier.from_classes(model, {"cat": iter(["a cat", IMAGE]), "owl": "an owl"})
    assert items.classes_.tolist() == LABELS
    tables = [
        vlfew.adapt(model, DATA, methods=iter(["prototypes"]), shots=shots, repeats=1, cache=False)
        for shots in (1, [1], (1,), iter([1]), np.int64(1), np.array([1]), range(1, 2))
    ]
    assert len({table.to_frame().drop(columns="seconds").to_csv() for table in tables}) == 1
    assert all("--shots 1" in table.command for table in tables)


def test_nothing_is_no_text(model: vlfew.DualStream) -> None:
    with pytest.raises(
        VlfewError, match="class 'owl' has an empty list of texts; add a text, or leave it out"
    ):
        vlfew.FewShotClassifier(model).fit(IMAGES, LABELS, texts={"cat": "a cat", "owl": []})
    with pytest.raises(VlfewError, match="there are no texts to tokenize"):
        model.tokenize([])


def test_labels_are_those_of_one_class_each(model: vlfew.DualStream) -> None:
    for labels, what in (
        (["cat", None], "1 of 2 images has no label (first: image 1); give each image"),
        ([float("nan"), 1.0], "1 of 2 images has no label (first: image 0)"),
        (["cat", 1], "labels are of several kinds: image 0 is 'cat', a text and image 1 is 1, a number"),
        ([0.5, 1.5], "image 0 is 0.5"),
        (["cat"], "2 images and 1 label: give one label per image"),
        ("cat", "expected a list of labels, got 'cat'"),
    ):
        with pytest.raises(DataError) as caught:
            vlfew.FewShotClassifier(model).fit(IMAGES, labels)
        assert what in str(caught.value)
    for labels in ([0.0, 1.0], [True, False], np.array(["b", "a"]), [[3], [4]]):
        assert len(vlfew.FewShotClassifier(model).fit(IMAGES, np.array(labels)).classes_) == 2
