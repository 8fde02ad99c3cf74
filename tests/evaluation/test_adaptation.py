"""Comparison of few-shot methods: accuracies against loops, and what they must not depend on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.compare import relative_difference
from tests.conftest import make_data
from tests.evaluation.fakes import FakeModel
from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.support import IMAGE, TEXT, SupportSet
from vlfew.core.errors import ConfigError, DataError, VlfewError
from vlfew.core.features import Features, FeatureSpec
from vlfew.data.labeled_images import InMemory, LabeledImages
from vlfew.evaluation.adaptation.compare import compare_methods
from vlfew.evaluation.adaptation.methods import frozen_methods
from vlfew.evaluation.adaptation.result import AdaptationResult, MethodResult
from vlfew.evaluation.adaptation.support_sampling import Splits, draw_images
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.statistics import mean_ci95

IMAGES = 12


@pytest.fixture(autouse=True)
def knob(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLASSIFIERS.entries, "knob", "tests.evaluation.knob:Knob")


def hard(has_text: bool = True) -> LabeledImages:
    """Seven classes a split, with so much noise that methods err."""
    data = make_data(classes=21, images=IMAGES, has_text=has_text)
    noise = torch.rand(len(data.labels), 1, 16, 16, generator=torch.Generator().manual_seed(1))
    images = data.images.batch(torch.arange(len(data.labels)))
    return replace(data, images=InMemory((0.85 * images + 0.15 * 255 * noise).to(torch.uint8)))


def run(data: LabeledImages | None = None, has_text: bool = True, **options: Any) -> AdaptationResult:
    options = {"methods": ["prototypes"], "shots": [1, 2, 4], "repeats": 3} | options
    return compare_methods(EvaluationContext(FakeModel(has_text), data or hard()), **options)


def figures(cell: MethodResult) -> MethodResult:
    """Without the times."""
    return replace(cell, seconds=0.0, tuning_seconds=0.0)


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def test_accuracy_matches_a_loop() -> None:
    data, found = hard(), run(tune_on="none")
    model, classes = FakeModel(), data.classes("test")
    bank = model.image_features(data.images.batch(data.indices("test"))).embedding
    for k in (1, 4):
        values = []
        for seed in range(3):
            draw = draw_images(Splits(data, "test", "test"), classes, 4, 0, seed)
            right = 0
            means = [unit(sum((unit(bank[p]) for p in row[:k]), torch.zeros(3))) for row in draw.support]
            for position, target in zip(draw.query.tolist(), draw.target.tolist(), strict=True):
                scores = [float(unit(bank[position]) @ mean) for mean in means]
                right += scores.index(max(scores)) == target
            values.append(right / len(draw.query))
        assert found.cell("prototypes", k).accuracy.values == pytest.approx(values)
        mean, ci95 = mean_ci95(values)
        assert (found.cell("prototypes", k).accuracy.mean, found.cell("prototypes", k).accuracy.ci95) == (
            mean,
            ci95,
        )
    assert found.queries == [7 * (IMAGES - 4)] * 3 and found.classes == 7 and found.chance == 1 / 7


def test_a_method_does_not_depend_on_other_methods_or_shots() -> None:
    together = run(methods=["multimodal_prototypes", "prototypes"])
    for name in ("prototypes", "multimodal_prototypes"):
        alone = run(methods=[name])
        for k in (1, 2, 4):
            assert figures(together.cell(name, k)) == figures(alone.cell(name, k))
    assert together.cell("prototypes", 1).accuracy != together.cell("multimodal_prototypes", 1).accuracy
    more_repeats = run(repeats=4, tune_on="none").cell("prototypes", 2).accuracy.values
    assert more_repeats[:3] == run(tune_on="none").cell("prototypes", 2).accuracy.values
    assert run(tune_on="none", shots=[4]).cell("prototypes", 4) is not None


def test_an_option_can_make_a_method_need_text() -> None:
    text = {"linear_probe": {"start": "text"}}
    found = run(methods=["linear_probe"], fixed=text, tune_on="none", shots=[1])
    assert (
        found.cells[0].accuracy != run(methods=["linear_probe"], tune_on="none", shots=[1]).cells[0].accuracy
    )
    with pytest.raises(ConfigError, match="method 'linear_probe' needs text"):
        run(hard(has_text=False), methods=["linear_probe"], fixed=text)


@pytest.mark.parametrize("tune_on", ["val-classes", "held-out-images"])
def test_tuning_helps_and_never_uses_queries(tune_on: str) -> None:
    data = hard()
    found = run(data, methods=["knob"], tune_on=tune_on)
    fixed = run(data, methods=["knob"], tune_on="none")
    # Every image that is a query and nothing else is made another one.
    used = set()
    for seed in range(3):
        held = 4 if tune_on == "held-out-images" else 0
        draw = draw_images(Splits(data, "test", "test"), data.classes("test"), 4, held, seed)
        used |= {*draw.support.flatten().tolist(), *draw.held_out.flatten().tolist()}
    test = data.indices("test")
    others = torch.tensor([int(n) for p, n in enumerate(test) if p not in used])
    images = data.images.batch(torch.arange(len(data.labels))).clone()
    images[others] = 255 - images[others]
    changed = run(replace(data, images=InMemory(images)), methods=["knob"], tune_on=tune_on)
    for k in (1, 2, 4):
        cell, worse, same = found.cell("knob", k), fixed.cell("knob", k), changed.cell("knob", k)
        assert all(options["factor"] > 0 for options in cell.options)
        assert worse.options == [{"factor": -1.0}] * 3
        assert cell.accuracy.mean > worse.accuracy.mean
        assert same.options == cell.options and same.temperatures == cell.temperatures
    assert changed.cell("knob", 4).accuracy != found.cell("knob", 4).accuracy
    assert ("split 'val'" in found.tuning) == (tune_on == "val-classes")


def test_tuning_draws_many_classes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "in each of 3 draws" in run(shots=[1]).tuning
    monkeypatch.setattr("vlfew.evaluation.adaptation.compare.TUNING_CLASSES", 7)
    once = run(shots=[1])
    assert "in one draw" in once.tuning and len(once.cell("prototypes", 1).accuracy.values) == 3


def test_a_fixed_option_is_not_tuned() -> None:
    cell = run(methods=["knob"], fixed={"knob": {"factor": -3.0}}).cell("knob", 2)
    assert [options["factor"] for options in cell.options] == [-3.0] * 3


def test_temperature_scaling() -> None:
    """Cosines are underconfident; a temperature tuned on other classes corrects that."""
    cell = run(shots=[4]).cell("prototypes", 4)
    assert cell.ece_scaled is not None and cell.ece_scaled.mean < cell.ece.mean
    assert len(set(cell.temperatures)) == 1 and cell.temperatures[0] < 1
    by_seed = run(shots=[4], tune_on="held-out-images").cell("prototypes", 4)
    assert len(by_seed.temperatures) == 3
    none = run(shots=[4], tune_on="none").cell("prototypes", 4)
    assert none.ece_scaled is None and none.temperatures == []
    assert none.ece == cell.ece


def test_methods_with_text_are_skipped_without_text() -> None:
    known = frozen_methods()
    alone = {"prototypes", "linear_probe", "knob"}
    needy = [n for n in known if n not in alone]
    assert {"zero_shot", "multimodal_prototypes", "tip_adapter"} <= set(needy)
    for found in (run(methods=["all"], has_text=False), run(hard(has_text=False), methods=["all"])):
        assert found.skipped_methods == needy
        assert found.methods == [n for n in known if n not in needy]


def test_a_method_that_needs_text() -> None:
    with pytest.raises(
        ConfigError, match=r"'multimodal_prototypes' needs text, and this model has no text.*prototypes"
    ):
        run(methods=["multimodal_prototypes"], has_text=False)
    with pytest.raises(
        ConfigError, match=r"needs text, and class names of tiny are codes.*without text: .*prototypes"
    ):
        run(hard(has_text=False), methods=["multimodal_prototypes"])
    assert "multimodal_prototypes" in run(methods=["all"], has_text=False, shots=[1]).skipped_methods


def test_new_classes_by_text_alone() -> None:
    data, model = hard(), FakeModel()
    found = run(data, methods=["prototypes", "multimodal_prototypes"], base_to_new=True, shots=[1, 2])
    assert found.cell("prototypes", 1).new is None and found.cell("prototypes", 1).harmonic is None
    cell = found.cell("multimodal_prototypes", 2)
    assert cell.new is not None and cell.harmonic is not None
    for base, new, both in zip(cell.accuracy.values, cell.new.values, cell.harmonic.values, strict=True):
        assert both == pytest.approx(2 / (1 / base + 1 / new) if base and new else 0.0)
    # Three of the seven classes are new; they are classified by text alone, whatever the shots.
    once = found.cell("multimodal_prototypes", 1).new
    assert once == cell.new
    possible = set()
    test = data.indices("test")
    for seed in range(3):
        draw = draw_images(Splits(data, "test", "test"), data.classes("test"), 2, 0, seed)
        text_embeddings = torch.stack([unit(model.text(data.class_names[c])) for c in draw.classes.tolist()])
        bank = model.image_features(data.images.batch(test)).embedding
        scores = bank[draw.query] @ text_embeddings.T
        possible.add(_best_of_threes(scores, draw.target, cell.new.values[seed]))
    assert possible == {True}
    assert found.chance == 1 / 4


def test_methods_that_transfer_to_new_classes() -> None:
    found = run(methods=["all"], base_to_new=True, shots=[2], repeats=1, tune_on="none")
    without = {"prototypes", "linear_probe", "tip_adapter_f", "lp_plus_plus", "knob"}
    assert {c.method for c in found.cells if c.new is None} == without
    # CLIP-Adapter keeps what it learned from the base classes: otherwise it would be zero-shot.
    data, method = hard(), CLASSIFIERS.get("clip_adapter")(FeatureSpec(3), ratio=0.6, lr=0.1)
    bank = FakeModel().image_features(data.images.batch(data.indices("test"))).embedding
    texts = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    support = SupportSet(
        Features(torch.cat([bank[:16], texts[:2]])),
        torch.tensor([0] * 8 + [1] * 8 + [0, 1]),
        2,
        torch.tensor([IMAGE] * 16 + [TEXT] * 2),
    )
    other = SupportSet(Features(texts[2:]), torch.arange(3), 3, torch.full((3,), TEXT))
    transferred = method.fit(support).transfer(other).logits(Features(bank))
    zero_shot = CLASSIFIERS.get("zero_shot")(FeatureSpec(3)).fit(other).logits(Features(bank))
    assert transferred.shape == (len(bank), 3)
    assert (
        relative_difference(transferred / transferred.abs().max(), zero_shot / zero_shot.abs().max()) > 1e-3
    )


def _best_of_threes(scores: Tensor, target: Tensor, accuracy: float) -> bool:
    """Whether some three of the seven classes, classified among themselves, give this accuracy."""
    for rows in torch.combinations(torch.arange(7), 3):
        shown = torch.isin(target, rows)
        answers = rows[scores[shown][:, rows].argmax(1)]
        if math.isclose(float((answers == target[shown]).double().mean()), accuracy):
            return True
    return False


def test_ways_limit_the_classes() -> None:
    found = run(ways=3, tune_on="none")
    assert found.classes == 3 and found.queries == [3 * (IMAGES - 4)] * 3 and found.chance == 1 / 3


def test_data_split_by_image() -> None:
    data = hard()
    numbers = torch.arange(len(data.labels))
    splits = {"train": numbers[numbers % 2 == 0], "test": numbers[numbers % 2 == 1]}
    parted = replace(data, splits=splits, split_by="image")
    found = run(parted, shots=[1, 3])
    assert (found.tune_on, found.support_split, found.split) == ("held-out-images", "train", "test")
    assert found.queries == [len(splits["test"])] * 3
    with pytest.raises(ConfigError, match="support comes from 'train'"):
        run(parted, split="train", shots=[1])
    with pytest.raises(ConfigError, match="split by image: all splits have the same classes"):
        run(parted, tune_on="val-classes", shots=[1])


def test_saved_as_json(tmp_path: Path) -> None:
    found = replace(run(repeats=1), model="runs/x", command="vlfew adapt runs/x")
    found.save(tmp_path / "adapt.json")
    read = json.loads((tmp_path / "adapt.json").read_text())
    assert read["command"] == "vlfew adapt runs/x" and read["data_fingerprint"] == "tiny"
    assert len(read["cells"]) == 3 and read["cells"][0]["accuracy"]["ci95"] is None
    assert read["cells"][0]["options"] == [{"metric": "cosine"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["protoypes"]}, "unknown method 'protoypes'; did you mean 'prototypes'?"),
        ({"shots": [2, 1]}, "ascending numbers from 1 up, such as 1,2,4,8,16, not '2,1'"),
        ({"shots": [1, 1]}, "ascending"),
        ({"shots": [0, 1]}, "from 1 up"),
        ({"shots": []}, "ascending"),
        ({"repeats": 0}, "repeats is 0; it must be at least 1"),
        ({"ways": 1}, "ways is 1; it must be at least 2"),
        ({"ways": 3, "base_to_new": True}, "ways is 3; it must be at least 4"),
        ({"ways": 8}, "has 7 classes with enough images, and ways is 8"),
        ({"split": "tset"}, "no split 'tset'; did you mean 'test'?"),
        (
            {"shots": [1, 16]},
            r"class 'word2 thing' has 12 images in split 'test', but 16 shots and 1 query need 17 \(and 6 more",
        ),
        ({"tune_on": "val-classes", "split": "val"}, "'val' is the evaluated split itself"),
        ({"fixed": {"linear_prob": {}}}, "fixed for 'linear_prob', which is not compared"),
        ({"base_to_new": True, "has_text": False}, "by text alone, and this model has no text encoder"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(VlfewError, match=message) as error:
        run(**options)
    assert "\n" not in str(error.value)


def test_errors_come_before_anything_is_encoded() -> None:
    model = FakeModel()
    with pytest.raises(DataError):
        compare_methods(EvaluationContext(model, hard()), shots=[16])
    assert model.encoded == 0


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"konb": {"factor": 1}}, "fixed for 'konb', which is not compared; did you mean 'knob'?"),
        ({"knob": {"facto": 1}}, "knob has no option 'facto'; did you mean 'factor'?"),
        ({"knob": {"factor": "much"}}, "knob: factor='much'"),
    ],
)
def test_options_that_cannot_be_fixed(fixed: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(methods=["knob"], fixed=fixed)


def test_fixed_options_are_converted() -> None:
    cell = run(methods=["knob"], fixed={"knob": {"factor": "-3"}}, shots=[1]).cells[0]
    assert cell.options == [{"factor": -3.0}] * 3


def test_a_table_has_a_row_per_method_and_shots() -> None:
    found = run(methods=["prototypes", "multimodal_prototypes"], base_to_new=True, shots=[1, 2])
    table = found.to_frame()
    assert list(zip(table["method"], table["shots"], strict=True)) == [
        (c.method, c.shots) for c in found.cells
    ]
    assert table["accuracy"].tolist() == [c.accuracy.mean for c in found.cells]
    assert table["new"].isna().tolist() == [True, True, False, False]
    assert (table["accuracy_ci95"] > 0).all()
