"""Few-shot methods compared: what the figures are, and what they may not depend on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import make_data
from tests.evaluation.fakes import FakeModel
from vlfew.classifiers import CLASSIFIERS, IMAGE, TEXT, Support
from vlfew.core.errors import ConfigError, DataError, VlfewError
from vlfew.core.features import Features, FeatureSpec
from vlfew.data.labeled_images import InMemory, LabeledImages
from vlfew.evaluation.adaptation.compare import Adaptation, Cell, adapt, write_adaptation
from vlfew.evaluation.adaptation.methods import cheap_methods, parse_fixed
from vlfew.evaluation.adaptation.support_sampling import Sides, draw_images
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.results import mean_ci95

IMAGES = 12


@pytest.fixture(autouse=True)
def knob(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLASSIFIERS.entries, "knob", "tests.evaluation.knob:Knob")


def hard(words: bool = True) -> LabeledImages:
    """Seven classes a split, with so much noise that methods err."""
    data = make_data(classes=21, images=IMAGES, words=words)
    noise = torch.rand(len(data.labels), 1, 16, 16, generator=torch.Generator().manual_seed(1))
    images = data.images.batch(torch.arange(len(data.labels)))
    return replace(data, images=InMemory((0.85 * images + 0.15 * 255 * noise).to(torch.uint8)))


def run(data: LabeledImages | None = None, has_text: bool = True, **options: Any) -> Adaptation:
    options = {"methods": ["prototypes"], "shots": [1, 2, 4], "repeats": 3} | options
    return adapt(EvaluationContext(FakeModel(has_text), data or hard()), **options)


def figures(cell: Cell) -> Cell:
    """Without the times."""
    return replace(cell, seconds=0.0, choosing_seconds=0.0)


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def test_accuracy_is_what_loops_say() -> None:
    data, found = hard(), run(tune_on="none")
    model, classes = FakeModel(), data.classes("test")
    bank = model.encode_images(data.images.batch(data.indices("test"))).embedding
    for k in (1, 4):
        values = []
        for seed in range(3):
            draw = draw_images(Sides(data, "test", "test"), classes, 4, 0, seed)
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


def test_a_method_does_not_depend_on_the_others_nor_on_the_shots_beside() -> None:
    together = run(methods=["multimodal_prototypes", "prototypes"])
    for name in ("prototypes", "multimodal_prototypes"):
        alone = run(methods=[name])
        for k in (1, 2, 4):
            assert figures(together.cell(name, k)) == figures(alone.cell(name, k))
    assert together.cell("prototypes", 1).accuracy != together.cell("multimodal_prototypes", 1).accuracy
    more_repeats = run(repeats=4, tune_on="none").cell("prototypes", 2).accuracy.values
    assert more_repeats[:3] == run(tune_on="none").cell("prototypes", 2).accuracy.values
    assert run(tune_on="none", shots=[4]).cell("prototypes", 4) is not None


def test_an_option_may_make_a_method_one_of_words() -> None:
    text = {"linear_probe": {"start": "text"}}
    found = run(methods=["linear_probe"], fixed=text, tune_on="none", shots=[1])
    assert (
        found.cells[0].accuracy != run(methods=["linear_probe"], tune_on="none", shots=[1]).cells[0].accuracy
    )
    with pytest.raises(ConfigError, match="method 'linear_probe' needs words"):
        run(hard(words=False), methods=["linear_probe"], fixed=text)


@pytest.mark.parametrize("tune_on", ["val-classes", "held-out-images"])
def test_what_is_chosen_is_better_and_never_seen_in_the_test(tune_on: str) -> None:
    data = hard()
    found = run(data, methods=["knob"], tune_on=tune_on)
    fixed = run(data, methods=["knob"], tune_on="none")
    # Every image that is a query and nothing else is made another one.
    used = set()
    for seed in range(3):
        held = 4 if tune_on == "held-out-images" else 0
        draw = draw_images(Sides(data, "test", "test"), data.classes("test"), 4, held, seed)
        used |= {*draw.support.flatten().tolist(), *draw.held.flatten().tolist()}
    test = data.indices("test")
    others = torch.tensor([int(n) for p, n in enumerate(test) if p not in used])
    images = data.images.batch(torch.arange(len(data.labels))).clone()
    images[others] = 255 - images[others]
    spoilt = run(replace(data, images=InMemory(images)), methods=["knob"], tune_on=tune_on)
    for k in (1, 2, 4):
        cell, worse, same = found.cell("knob", k), fixed.cell("knob", k), spoilt.cell("knob", k)
        assert all(options["factor"] > 0 for options in cell.options)
        assert worse.options == [{"factor": -1.0}] * 3
        assert cell.accuracy.mean > worse.accuracy.mean
        assert same.options == cell.options and same.temperatures == cell.temperatures
    assert spoilt.cell("knob", 4).accuracy != found.cell("knob", 4).accuracy
    assert ("split 'val'" in found.chosen_by) == (tune_on == "val-classes")


def test_many_other_classes_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "in each of 3 draws" in run(shots=[1]).chosen_by
    monkeypatch.setattr("vlfew.evaluation.adaptation.compare.ENOUGH", 7)
    once = run(shots=[1])
    assert "in one draw" in once.chosen_by and len(once.cell("prototypes", 1).accuracy.values) == 3


def test_an_option_that_is_fixed_is_not_chosen() -> None:
    cell = run(methods=["knob"], fixed={"knob": {"factor": -3.0}}).cell("knob", 2)
    assert [options["factor"] for options in cell.options] == [-3.0] * 3


def test_temperature_scaling() -> None:
    """Cosines say too little; by other classes a temperature is found under which they say more."""
    cell = run(shots=[4]).cell("prototypes", 4)
    assert cell.ece_scaled is not None and cell.ece_scaled.mean < cell.ece.mean
    assert len(set(cell.temperatures)) == 1 and cell.temperatures[0] < 1
    by_seed = run(shots=[4], tune_on="held-out-images").cell("prototypes", 4)
    assert len(by_seed.temperatures) == 3
    none = run(shots=[4], tune_on="none").cell("prototypes", 4)
    assert none.ece_scaled is None and none.temperatures == []
    assert none.ece == cell.ece


def test_words_are_left_out_where_there_are_none() -> None:
    known = cheap_methods()
    alone = {"prototypes", "linear_probe", "knob"}
    needy = [n for n in known if n not in alone]
    assert {"zero_shot", "multimodal_prototypes", "tip_adapter"} <= set(needy)
    for found in (run(methods=["all"], has_text=False), run(hard(words=False), methods=["all"])):
        assert found.left_out == needy
        assert found.methods == [n for n in known if n not in needy]


def test_a_method_that_needs_words() -> None:
    with pytest.raises(
        ConfigError, match=r"'multimodal_prototypes' needs words, and this model has no text.*prototypes"
    ):
        run(methods=["multimodal_prototypes"], has_text=False)
    with pytest.raises(
        ConfigError, match=r"needs words, and class names of tiny are codes.*remain: .*prototypes"
    ):
        run(hard(words=False), methods=["multimodal_prototypes"])
    assert "multimodal_prototypes" in run(methods=["all"], has_text=False, shots=[1]).left_out


def test_new_classes_by_words_alone() -> None:
    data, model = hard(), FakeModel()
    found = run(data, methods=["prototypes", "multimodal_prototypes"], base_to_new=True, shots=[1, 2])
    assert found.cell("prototypes", 1).new is None and found.cell("prototypes", 1).harmonic is None
    cell = found.cell("multimodal_prototypes", 2)
    assert cell.new is not None and cell.harmonic is not None
    for base, new, both in zip(cell.accuracy.values, cell.new.values, cell.harmonic.values, strict=True):
        assert both == pytest.approx(2 / (1 / base + 1 / new) if base and new else 0.0)
    # The new ones are three of seven; whichever they are, words alone answer, whatever the shots.
    once = found.cell("multimodal_prototypes", 1).new
    assert once == cell.new
    possible = set()
    test = data.indices("test")
    for seed in range(3):
        draw = draw_images(Sides(data, "test", "test"), data.classes("test"), 2, 0, seed)
        words = torch.stack([unit(model.text(data.class_names[c])) for c in draw.classes.tolist()])
        bank = model.encode_images(data.images.batch(test)).embedding
        scores = bank[draw.query] @ words.T
        possible.add(_best_of_threes(scores, draw.target, cell.new.values[seed]))
    assert possible == {True}
    assert found.chance == 1 / 4


def test_which_methods_answer_for_new_classes() -> None:
    found = run(methods=["all"], base_to_new=True, shots=[2], repeats=1, tune_on="none")
    without = {"prototypes", "linear_probe", "tip_adapter_f", "lp_plus_plus", "knob"}
    assert {c.method for c in found.cells if c.new is None} == without
    # What CLIP-Adapter learned from the base classes is kept: else it would be zero-shot.
    data, problem = hard(), CLASSIFIERS.get("clip_adapter")(FeatureSpec(3), ratio=0.6, lr=0.1)
    bank = FakeModel().encode_images(data.images.batch(data.indices("test"))).embedding
    said = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    support = Support(
        Features(torch.cat([bank[:16], said[:2]])),
        torch.tensor([0] * 8 + [1] * 8 + [0, 1]),
        2,
        torch.tensor([IMAGE] * 16 + [TEXT] * 2),
    )
    other = Support(Features(said[2:]), torch.arange(3), 3, torch.full((3,), TEXT))
    carried = problem.fit(support).transfer(other).score(Features(bank))
    zero_shot = CLASSIFIERS.get("zero_shot")(FeatureSpec(3)).fit(other).score(Features(bank))
    assert carried.shape == (len(bank), 3)
    assert not torch.allclose(carried / carried.abs().max(), zero_shot / zero_shot.abs().max(), atol=1e-2)


def _best_of_threes(scores: Tensor, target: Tensor, accuracy: float) -> bool:
    """Whether some three of the seven classes, told apart among themselves, give this accuracy."""
    for rows in torch.combinations(torch.arange(7), 3):
        asked = torch.isin(target, rows)
        answers = rows[scores[asked][:, rows].argmax(1)]
        if math.isclose(float((answers == target[asked]).double().mean()), accuracy):
            return True
    return False


def test_ways_are_drawn_by_the_seed() -> None:
    found = run(ways=3, tune_on="none")
    assert found.classes == 3 and found.queries == [3 * (IMAGES - 4)] * 3 and found.chance == 1 / 3


def test_data_that_are_split_by_image() -> None:
    data = hard()
    numbers = torch.arange(len(data.labels))
    splits = {"train": numbers[numbers % 2 == 0], "test": numbers[numbers % 2 == 1]}
    parted = replace(data, splits=splits, split_by="image")
    found = run(parted, shots=[1, 3])
    assert (found.tune_on, found.support_split, found.split) == ("images", "train", "test")
    assert found.queries == [len(splits["test"])] * 3
    with pytest.raises(ConfigError, match="support comes from 'train'"):
        run(parted, split="train", shots=[1])
    with pytest.raises(ConfigError, match="split by image: all splits have the same classes"):
        run(parted, tune_on="val-classes", shots=[1])


def test_written_whole(tmp_path: Path) -> None:
    found = run(repeats=1, model="runs/x", command="vlfew adapt runs/x")
    write_adaptation(tmp_path / "adapt.json", found)
    read = json.loads((tmp_path / "adapt.json").read_text())
    assert read["command"] == "vlfew adapt runs/x" and read["data_fingerprint"] == "tiny"
    assert len(read["cells"]) == 3 and read["cells"][0]["accuracy"]["ci95"] is None
    assert read["cells"][0]["options"] == [{"metric": "cosine"}]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": ["protoypes"]}, "unknown method 'protoypes'; did you mean 'prototypes'?"),
        ({"shots": [2, 1]}, "numbers from 1 up that ascend, such as 1,2,4,8,16, not '2,1'"),
        ({"shots": [1, 1]}, "ascend"),
        ({"shots": [0, 1]}, "from 1 up"),
        ({"shots": []}, "ascend"),
        ({"repeats": 0}, "repeats is 0; at least one"),
        ({"ways": 1}, "ways is 1; it must be at least 2"),
        ({"ways": 3, "base_to_new": True}, "ways is 3; it must be at least 4"),
        ({"ways": 8}, "has 7 classes that can be told apart, and ways is 8"),
        ({"split": "tset"}, "no split 'tset'; did you mean 'test'?"),
        (
            {"shots": [1, 16]},
            r"class 'word2 thing' has 12 images in split 'test' \(and 6 more .*16 shots and a query",
        ),
        ({"tune_on": "val-classes", "split": "val"}, "the classes of 'val' themselves"),
        ({"fixed": {"linear_prob": {}}}, "fixed for 'linear_prob', which is not compared"),
        ({"base_to_new": True, "has_text": False}, "by words alone, and this model has no text stream"),
    ],
)
def test_refusals(options: dict[str, Any], said: str) -> None:
    with pytest.raises(VlfewError, match=said) as error:
        run(**options)
    assert "\n" not in str(error.value)


def test_refused_before_anything_is_encoded() -> None:
    model = FakeModel()
    with pytest.raises(DataError):
        adapt(EvaluationContext(model, hard()), shots=[16])
    assert model.encoded == 0


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("factor=1", "not of the form METHOD.KEY=VALUE"),
        ("knob.factor", "not of the form"),
        ("konb.factor=1", "unknown method 'konb'; did you mean 'knob'?"),
        ("knob.facto=1", "'facto' of method 'knob'; did you mean 'factor'?"),
        ("knob.factor=much", "factor"),
    ],
)
def test_options_that_cannot_be_fixed(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_fixed([setting])
    assert parse_fixed(["knob.factor=2", "knob.seed=3"]) == {"knob": {"factor": 2.0, "seed": 3}}
