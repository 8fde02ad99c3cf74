"""What protocols refuse: in one line, and before anything is encoded or trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import make_data
from tests.evaluation.fakes import FakeModel, run
from vlfew.core.errors import ConfigError, DataError, ModelError, VlfewError
from vlfew.core.features import Features
from vlfew.data.labeled_images import LabeledImages
from vlfew.encoders import TEXT_ENCODERS
from vlfew.evaluation import PROTOCOLS
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.run_protocol import check_protocol, save_per_episode

WRONG: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("few-shot", {"way": 5}, ConfigError, "few-shot has no option 'way'; did you mean 'ways'"),
    ("few-shot", {"ways": "five"}, ConfigError, "few-shot: ways='five'"),
    ("omniglot-runs", {}, ConfigError, "omniglot-runs needs the option 'runs'"),
    ("few-shot", {"shots": 0}, ConfigError, "shots is 0"),
    ("few-shot", {"split": "tset"}, DataError, "no split 'tset'; did you mean 'test'"),
    ("few-shot", {"queries": 15}, DataError, "class 'word2 thing' has 8 images"),
    ("few-shot", {"ways": 8, "queries": 1}, DataError, "the split has 7"),
    ("zero-shot", {"templates": ["an image"]}, ConfigError, "template 'an image' has no {}"),
    ("zero-shot", {"templates": "sevne"}, ConfigError, "no set of that name; did you mean 'seven'"),
    ("zero-shot", {"templates": ["{}", " "]}, ConfigError, "template ' ' has no {}"),
    ("zero-shot", {"ways": 1}, ConfigError, "ways is 1"),
    ("omniglot-trials", {}, DataError, "no two here drew more than 7; set ways=7 or fewer"),
    ("few-shot", {"ways": 1}, ConfigError, "ways is 1; it must be at least 2"),
    ("few-shot", {"queries": 3, "episodes": 0}, ConfigError, "episodes is 0"),
    ("few-shot", {"queries": 3, "episodes": "every"}, ConfigError, "episodes='every'.*'each'"),
    ("few-shot", {"ways": "all", "shots": 2, "episodes": "each"}, ConfigError, "shots must be 1, not 2"),
    ("few-shot", {"queries": 3, "episodes": "each"}, ConfigError, "all 7 classes .* use ways=all"),
    (
        "few-shot",
        {"ways": "all", "queries": 15, "episodes": "each"},
        DataError,
        "1 shot and 15 queries need 16",
    ),
    ("zero-shot", {"ways": 3, "episodes": "each"}, ConfigError, "zero-shot: episodes='each'"),
    ("few-shot", {"queries": 3, "method": "cosin"}, VlfewError, "did you mean 'cosine'"),
    ("few-shot", {"queries": 3, "method": "am3"}, ConfigError, "am3 needs text, .*: cosine, .*prototypes"),
    ("verification", {"pairs": 60, "folds": 3, "similarity": "cosin"}, VlfewError, "did you mean 'cosine'"),
    ("threshold", {"far": 1.0}, ConfigError, "false-accept rate of 1.0 was asked for"),
    ("threshold", {}, DataError, "false-accept rate of 0.01 needs at least 300 impostor trials in tiny"),
    ("asif", {}, ConfigError, "2000 anchors, and tiny has 56 training images"),
    ("asif", {"anchors": 50, "sparsity": 51}, ConfigError, "51"),
    ("asif", {"anchors": 50, "sparsity": 0}, ConfigError, "asif's sparsity is 0"),
    ("asif", {"split": "train"}, ConfigError, "'train', which cannot be evaluated"),
    ("asif", {"ways": 8}, DataError, "the split has 7"),
    ("asif", {"templates": ["an image"]}, ConfigError, "template 'an image' has no {}"),
    (
        "asif",
        {"anchors": 50, "sparsity": 5, "text_encoder": "minilmm"},
        VlfewError,
        "unknown text encoder 'minilmm'; did you mean 'minilm'",
    ),
    ("few-shot", {"split": "blank"}, DataError, "split 'blank' has no images"),
    ("few-shot", {"split": "single", "ways": "all", "queries": 3}, DataError, "one class, 'word2 thing'"),
    ("multimodal", {"ways": 1}, ConfigError, "ways is 1; it must be at least 2"),
    ("multimodal", {"shots": 0}, ConfigError, "shots is 0"),
    ("multimodal", {"queries": 3, "text_weight": 2.0}, ConfigError, "text_weight is 2.0"),
    (
        "multimodal",
        {"queries": 3, "text_weight": "validated", "validation_split": "test"},
        ConfigError,
        "the split that is evaluated",
    ),
    ("multimodal", {"queries": 3, "templates": []}, ConfigError, "templates is empty"),
    ("zero-shot", {"split": "single"}, DataError, "one class, 'word2 thing'"),
    ("zero-shot", {"ways": 8}, DataError, "the split has 7"),
    ("zero-shot", {"descriptions": "/none.json"}, DataError, "/none.json: cannot be read: No such file"),
    ("omniglot-trials", {"ways": 1}, ConfigError, "ways is 1; it must be at least 2"),
    ("omniglot-trials", {"ways": 5, "trials": 0}, ConfigError, "trials is 0"),
    ("omniglot-trials", {"split": "blank"}, DataError, "split 'blank' has no images"),
    ("omniglot-runs", {"runs": "/none"}, DataError, "/none: no such folder"),
]


class Untouchable(FakeModel):
    """Fails when anything is encoded."""

    def image_features(self, images: Tensor) -> Features:
        raise AssertionError("encoded before the options were checked")


@pytest.mark.parametrize(("protocol", "options", "error", "message"), WRONG)
def test_wrong_options_are_one_line_before_anything_is_encoded(
    data: LabeledImages, protocol: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    test = data.indices("test")
    few = replace(data, splits={**data.splits, "single": test[:8], "blank": test[:0]})
    with pytest.raises(error, match=message) as running:
        run(EvaluationContext(Untouchable(), few), protocol, **options)
    with pytest.raises(error) as checking:
        check_protocol(protocol, options, few)
    assert str(checking.value) == str(running.value) and "\n" not in str(running.value)


def test_what_can_run_passes_the_check(
    context: EvaluationContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = context.data.images.tensor
    runs = [SimpleNamespace(name="run01", train=images[:4], test=images[:4], answer=torch.arange(4))]
    monkeypatch.setattr("vlfew.data.sources.omniglot.load_runs", lambda *_: runs)
    monkeypatch.setitem(TEXT_ENCODERS.entries, "fake", "tests.evaluation.fakes:FakeText")
    options: dict[str, dict[str, Any]] = {
        "few-shot": {"queries": 3, "episodes": 9, "episodes_file": tmp_path / "e.safetensors"},
        "zero-shot": {},
        "asif": {"anchors": 50, "sparsity": 5, "text_encoder": "fake"},
        "multimodal": {"queries": "all", "episodes": 9},
        "retrieval": {},
        "verification": {"pairs": 60, "folds": 3},
        "identification": {"repeats": 2},
        "threshold": {"far": 0.2, "repeats": 2, "resamples": 20},
        "omniglot-trials": {"ways": 5, "trials": 9},
        "omniglot-runs": {"runs": tmp_path},
    }
    # Needs a backbone that was pretrained: tests/evaluation/test_conse.py.
    assert options.keys() == set(PROTOCOLS.names()) - {"conse"}
    for protocol, given in options.items():
        check_protocol(protocol, given, context.data)
        assert not list(tmp_path.iterdir())
    for protocol, given in options.items():
        run(context, protocol, **given)
    check_protocol("few-shot", options["few-shot"], context.data)  # which now reads the file
    with pytest.raises(ConfigError, match="name another file"):
        check_protocol("few-shot", options["few-shot"] | {"episodes": 8}, context.data)


def test_asif_needs_class_names_but_no_text_encoder() -> None:
    with pytest.raises(DataError, match="codes, not text"):
        check_protocol(
            "asif", {"anchors": 20, "sparsity": 5}, make_data(classes=21, images=8, has_text=False)
        )


@pytest.mark.parametrize("protocol", ["zero-shot", "multimodal"])
def test_class_names_and_a_text_encoder_are_needed(protocol: str, data: LabeledImages) -> None:
    coded = make_data(classes=21, has_text=False)
    for attempt in (
        lambda: run(EvaluationContext(FakeModel(), coded), protocol, queries=3, episodes=5),
        lambda: check_protocol(protocol, {"queries": 3}, coded),
    ):
        with pytest.raises(DataError, match="codes, not text"):
            attempt()
    with pytest.raises(ModelError, match="no text encoder"):
        run(EvaluationContext(FakeModel(has_text=False), data), protocol, queries=3, episodes=5)


def test_a_class_with_an_empty_name_has_no_prompt(data: LabeledImages) -> None:
    texts = tuple((name, " ") if name == "word2 thing" else (name,) for name in data.class_names)
    empty = replace(data, class_texts=texts)
    with pytest.raises(DataError, match="class 'word2 thing' has an empty text"):
        check_protocol("zero-shot", {}, empty)


def test_trials_need_alphabets() -> None:
    for attempt in (
        lambda: run(EvaluationContext(Untouchable(), make_data()), "omniglot-trials"),
        lambda: check_protocol("omniglot-trials", {}, make_data()),
    ):
        with pytest.raises(DataError, match="alphabets and drawers"):
            attempt()


def test_no_file_of_episodes_without_episodes(context: EvaluationContext, tmp_path: Path) -> None:
    _, outcome = run(context, "zero-shot")
    with pytest.raises(
        VlfewError, match=r"no episodes to write to .*e\.npy.*give a number of ways"
    ) as caught:
        save_per_episode(tmp_path / "e.npy", [outcome.per_episode])
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
