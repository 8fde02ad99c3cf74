"""Texts that the encoder cannot tell apart, and incomplete model folders, are found at every door."""

from __future__ import annotations

import json
import shutil
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vlfew
from tests.conftest import make_data
from tests.encoders.towers import save
from tests.models.conftest import tiny_text_model
from vlfew.cli import main
from vlfew.core.errors import DataError, ModelError
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.run_protocol import run_protocol
from vlfew.models import DualStream, save_model

UNKNOWN = {"apple": "🍎", "pear": "🍐"}
"""MiniLM's vocabulary has neither."""


@pytest.fixture(scope="module")
def model() -> DualStream:
    return tiny_text_model(center_embeddings=False)


def image(shade: int) -> np.ndarray:
    return np.full((16, 16), shade, np.uint8)


def test_texts_of_the_same_tokens_in_a_classifier(model: DualStream) -> None:
    with pytest.raises(DataError, match=r"classes 'apple' and 'pear' have the same tokens .*'🍎' and '🍐'"):
        vlfew.FewShotClassifier.from_classes(model, UNKNOWN)
    with pytest.raises(DataError, match="have the same text 'a cat'; change the text of one"):
        vlfew.FewShotClassifier.from_classes(model, {"a": "a cat", "b": "a cat"})
    long = "the letter in black ink on white paper, " * 60
    with pytest.raises(DataError, match="cuts texts before they differ") as error:
        vlfew.FewShotClassifier.from_classes(model, {"a": f"{long} A", "b": f"{long} B"})
    assert len(str(error.value)) < 400
    # With images the classes differ all the same.
    both = {"a": ["a cat", image(0)], "b": ["a cat", image(200)]}
    both = {name: [text, Image.fromarray(pixels)] for name, (text, pixels) in both.items()}
    assert vlfew.FewShotClassifier.from_classes(model, both).classes_.tolist() == ["a", "b"]


@pytest.mark.parametrize("protocol", ["zero-shot", "multimodal", "asif"])
def test_texts_of_the_same_tokens_in_an_evaluation(model: DualStream, protocol: str, tmp_path: Path) -> None:
    data = make_data()
    own = [data.class_names[c] for c in data.classes("test").tolist()]
    described = {name: f"thing {n}" for n, name in enumerate(data.class_names)} | dict(
        zip(own, UNKNOWN.values(), strict=False)
    )
    (tmp_path / "d.json").write_text(json.dumps(described))
    options = {"descriptions": tmp_path / "d.json", "ways": "all", "queries": 2, "episodes": 5}
    options |= {"anchors": 8, "sparsity": 4} if protocol == "asif" else {}
    known = {k: v for k, v in options.items() if protocol != "zero-shot" or k == "descriptions"}
    with pytest.raises(DataError, match=f"classes '{own[0]}' and '{own[1]}' have the same tokens"):
        run_protocol(EvaluationContext(model, data), protocol, known)


def test_a_folder_without_tokenizer_files(bert_folder: Path, tmp_path: Path) -> None:
    """transformers makes an empty tokenizer then, and every text has one and the same vector."""
    save("CLIP", tmp_path, bert_folder=bert_folder)
    assert vlfew.load(tmp_path).has_text
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=f"{tmp_path} has no tokenizer files; put the model's there"):
        vlfew.load(tmp_path)


def test_weights_of_nan_are_no_answer(model: DualStream) -> None:
    broken = deepcopy(model)
    classifier = vlfew.FewShotClassifier.from_classes(broken, {"a": "a cat", "b": "a dog"})
    with torch.no_grad():
        next(broken.backbone.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN or infinity for 1 of 1 images; its weights are damaged"):
        classifier.predict([image(0)])


def test_weights_that_are_cut_short(bert_folder: Path, tmp_path: Path) -> None:
    save("CLIP", tmp_path, bert_folder=bert_folder)
    (weights,) = tmp_path.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=f"{weights} is damaged or cut short .*; download or copy it again"):
        vlfew.load(tmp_path)


@pytest.mark.parametrize("library", ["transformers", "open_clip", "run"])
def test_a_git_lfs_pointer_is_called_one(
    library: str, model: DualStream, bert_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    if library == "transformers":
        save("CLIP", tmp_path, bert_folder=bert_folder)
    elif library == "open_clip":
        shutil.copytree(clip_folder, tmp_path, dirs_exist_ok=True)
    else:
        save_model(model, tmp_path)
    (weights,) = tmp_path.glob("*.safetensors")
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(
        ModelError, match=r"is a Git LFS pointer, not the file itself; run: git -C .* lfs pull"
    ):
        vlfew.load(tmp_path)


def test_the_same_image_twice_is_a_warning(model: DualStream, tmp_path: Path) -> None:
    images = [image(n) for n in range(4)]
    with pytest.warns(UserWarning, match="identical images: 1 image in two classes, such as 'a' and 'b'"):
        vlfew.FewShotClassifier(model).fit([*images, images[0]], ["a", "a", "b", "b", "b"])
    with pytest.warns(UserWarning, match="identical images: 1 image twice in a class, such as 'a'"):
        vlfew.FewShotClassifier(model).fit([*images, images[0]], ["a", "a", "b", "b", "a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vlfew.FewShotClassifier(model).fit(images, ["a", "a", "b", "b"])


def test_the_same_image_in_two_classes_of_a_class_file(
    model: DualStream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(model, tmp_path / "model")
    for n in range(2):
        Image.fromarray(image(n)).save(tmp_path / f"{n}.png")
    (tmp_path / "classes.yaml").write_text("a: {images: 0.png}\nb: {images: [0.png, 1.png]}\n")
    command = ["classify", str(tmp_path / "model"), "--classes", str(tmp_path / "classes.yaml")]
    with pytest.raises(SystemExit) as done:
        main([*command, str(tmp_path / "1.png")])
    assert done.value.code == 0
    assert "warning: identical images: 1 image in two classes, such as 'a' and 'b'" in capsys.readouterr().err
