"""Results say what outside data the weights come from, and what these share with the evaluated split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import make_data
from vlfew.data.labeled_images import LabeledImages
from vlfew.evaluation import PROTOCOLS
from vlfew.evaluation.context import EvaluationContext, ProtocolResult
from vlfew.evaluation.outside_data import overlap
from vlfew.evaluation.results import Result, read_results
from vlfew.evaluation.run_protocol import run_protocol
from vlfew.report.formatting import extras, outside_data
from vlfew.workflows.evaluate import print_results

NAMES = ("Golden_Retriever", "house finch", "my mug", "mug of mine")
DATA = make_data(classes=12)
TEST = DATA.classes("test").tolist()
CODES = [f"s{number}" for number in range(12)]


def named(names: list[str], text: bool = True) -> LabeledImages:
    """The data with these names for the classes of the test split, the others being codes."""
    all_names = [*CODES]
    for number, name in zip(TEST, names, strict=True):
        all_names[number] = name
    texts = tuple((name,) if text and name not in CODES else () for name in all_names)
    return replace(DATA, class_names=tuple(all_names), class_texts=texts)


def result(**fields: object) -> Result:
    known = dict(protocol="few-shot", data="d", split="test", accuracy=0.5, ci95=None, episodes=1, seed=0)
    return Result.model_validate(known | dict(outside_data="", input_size=[3, 8, 8], command="") | fields)


def test_classes_with_the_name_of_one_that_was_trained_on() -> None:
    data = named(["Golden_Retriever", "house finch", "my mug", "mug of mine"])
    expected = "2 of 4 classes have the name of a class of ImageNet-1k: Golden_Retriever, house finch"
    assert overlap("ImageNet-1k", data, "test") == expected
    assert overlap("not known + ImageNet-1k", data, "test") == expected
    other = named(["blue mug", "red mug", "my mug", "mug of mine"])
    assert overlap("ImageNet-1k", other, "test") == "none of 4 classes has the name of a class of ImageNet-1k"
    numbers = named(["n01440764", "n00000001", "n00000002", "n00000003"], text=False)
    assert overlap("ImageNet-1k", numbers, "test").startswith("1 of 4 classes")


@pytest.mark.parametrize("outside", ["", "not known", "LAION-2B", "glyphs/train"])
def test_nothing_is_expected_where_nothing_is_known(outside: str) -> None:
    assert overlap(outside, named([*NAMES]), "test") == ""


def test_accuracy_over_known_and_over_new_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def scored(context: EvaluationContext, *, split: str = "test") -> ProtocolResult:
        return ProtocolResult(0.5, None, 4, per_class=([9, 7, 3, 1], [10, 10, 10, 10]))

    def measured(data: LabeledImages, outside: str = "ImageNet-1k") -> Result:
        context = EvaluationContext(None, data)
        return run_protocol(context, "zero-shot", {}, outside_data=outside)[0]

    monkeypatch.setattr(PROTOCOLS, "get", lambda name: scored)
    monkeypatch.setattr(PROTOCOLS, "checked", lambda name, options: {"split": "test"})
    both = measured(named(["blue mug", "Golden_Retriever", "house finch", "mug of mine"]))
    assert (both.get("known_names"), both.get("new_names")) == (0.5, 0.5)
    both = measured(named(["Golden_Retriever", "house finch", "my mug", "mug of mine"]))
    assert (both.get("known_names"), both.get("new_names")) == (0.8, 0.2)
    assert both.get("known_names_classes") == both.get("new_names_classes") == 2
    assert both.get("known_names_ci95") > 0 and "known names 80.0" in extras(both)
    for nothing in (
        measured(named(["blue mug", "red mug", "my mug", "mug of mine"])),
        measured(named([*NAMES]), "LAION-2B"),
    ):
        assert nothing.get("known_names") is None


def test_codes_are_not_compared() -> None:
    assert overlap("ImageNet-1k", named([CODES[number] for number in TEST]), "test") == ""


def test_images_of_the_outside_data() -> None:
    part = replace(DATA, images_from="ImageNet-1k")
    for outside in ("ImageNet-1k", "ImageNet-21k", "LAION-2B + ImageNet-1k"):
        assert overlap(outside, part, "test") == "contains the test images"
    assert overlap("LAION-2B", part, "test") == ""


@pytest.mark.parametrize(
    ("old", "new"), [(True, "not known"), (False, ""), (None, ""), ("LAION-2B", "LAION-2B")]
)
def test_results_that_say_yes_or_no_are_read(old: object, new: str, tmp_path: Path) -> None:
    entry = result().model_dump() | {"outside_data": old}
    (tmp_path / "results.json").write_text(json.dumps([entry]), "utf-8")
    (found,) = read_results(tmp_path / "results.json")
    assert found.outside_data == new


def test_how_it_is_shown() -> None:
    assert outside_data(result(outside_data="")) == "no"
    known = result(outside_data="ImageNet-1k", outside_data_overlap="contains the test images")
    assert outside_data(known) == "ImageNet-1k (contains the test images)"


def test_the_terminal_names_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    known = result(outside_data="ImageNet-1k", outside_data_overlap="contains the test images")
    print_results([known, known])
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("outside    ImageNet-1k (contains the test images)") == 1
    print_results([result()])
    printed = capsys.readouterr()
    assert "outside" not in printed.out + printed.err
