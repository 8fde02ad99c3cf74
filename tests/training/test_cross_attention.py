"""Cross attention and CBAM from the configuration to the report."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

from vlfew.core.errors import ConfigError, VlfewError
from vlfew.training.training_step import TrainingStep
from vlfew.workflows.assemble import read_config
from vlfew.workflows.train import train

CAN = [
    "image={backbone: conv4, widths: [8, 8], norm: batch, cbam: [1]}",
    "embedding_dim=null",
    "similarity=cross_attention",
    "objective=[{loss: cross_attention, ways: 2, weight: 0.5}, {loss: cross_attention_classes, ways: 2}]",
]
SHORT = ["optim.steps=2", "optim.warmup_steps=1", "training.eval_every=2", "training.save_every=2"]


def test_a_run_learns_evaluates_and_reports(config):
    evaluate = [
        "{protocol: few-shot, ways: 3, queries: 3, episodes: 50}",
        "{protocol: few-shot, ways: 3, queries: 3, episodes: 50, method: cross_attention_transductive}",
        "{protocol: verification, pairs: 40, folds: 2}",
    ]
    longer = ["optim.steps=60", "optim.lr=0.02", "training.eval_every=60", "training.save_every=60"]
    run = train(config, [*CAN, *longer, f"evaluate=[{', '.join(evaluate)}]"], config.parent)
    logged = [entry for entry in run.read_log() if "loss" in entry]
    for name in ("loss", "cross_attention", "cross_attention_classes"):
        values = [entry[name] for entry in logged]
        assert sum(values[-3:]) < 0.95 * sum(values[:3]), name
    plain, transductive, verified = json.loads((run.path / "results.json").read_text())
    assert min(plain["accuracy"], transductive["accuracy"]) > 0.4  # chance is 1/3
    assert transductive["transductive"] is True and "transductive" not in plain
    assert verified["auc"] > 0.5
    assert "all queries of an episode are classified together" in (run.path / "report.html").read_text()


def test_text_is_mixed_with_cross_attention(config, images, tmp_path):
    named = shutil.copytree(images, tmp_path / "named")
    names = {path.name: f"thing {path.name}" for path in sorted(named.glob("*/*"))}
    (named / "classes.yaml").write_text(yaml.safe_dump(names))
    options = "ways: 3, shots: 1, queries: 3, episodes: 60"
    run = train(
        config,
        [
            *CAN,
            *SHORT,
            f"data.root={named}",
            "text={encoder: minilm, projection: linear}",
            "embedding_dim=16",
            CAN[-1][:-1] + ", {loss: alignment_softmax}]",
            f"evaluate=[{{protocol: few-shot, {options}}}, "
            f"{{protocol: multimodal, {options}, text_weight: validated}}]",
        ],
        config.parent,
    )
    alone, both = json.loads((run.path / "results.json").read_text())
    assert both["image_accuracy"] == alone["accuracy"]
    assert both["text_weight_chosen_on"] == "val" and both["text_weight"] in [n / 10 for n in range(11)]
    if both["text_weight"] in (0.0, 1.0):
        assert both["accuracy"] == both["text_accuracy" if both["text_weight"] else "image_accuracy"]


def test_a_global_classifier_at_every_position_goes_with_any_similarity(config):
    terms = "objective=[{loss: supervised_contrastive}, {loss: map_cross_entropy, weight: 0.5}]"
    run = train(
        config, [terms, *SHORT, "optim.steps=20", "optim.lr=0.03", "training.log_every=1"], config.parent
    )
    losses = [entry["map_cross_entropy"] for entry in run.read_log() if "loss" in entry]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [CAN[2]],
            r"similarity: cross_attention is learned, and no loss of the objective trains it; .*"
            r"\{loss: binary_cross_entropy\} or \{loss: focal\} or \{loss: cross_attention\} or \{loss: cross_att",
        ),
        (
            ["similarity=weighted_l1"],
            r"add \{loss: binary_cross_entropy\} or \{loss: focal\} to the objective$",
        ),
        ([CAN[3]], r"loss cross_attention trains similarity: cross_attention, and similarity is cosine"),
        (
            [*CAN, "sampling.classes_per_batch=3"],
            r"3 classes cannot be cut into episodes of 2 ways; set sampling",
        ),
        (
            [*CAN, "sampling.images_per_class=1"],
            r"has 1 image\(s\), and episodes of 1 shot\(s\) need at least 2",
        ),
        (
            [*CAN, "sampling={pairs_per_batch: 8}"],
            r"cut episodes from batches of classes; set sampling\.classes_per_batch",
        ),
        ([*CAN, "sampling={episodes_per_batch: 2, ways: 2}"], r"cut episodes from batches of classes"),
        ([*CAN, "objective.1.shots=4"], r"has 4 image\(s\), and episodes of 4 shot\(s\) need at least 5"),
        ([*CAN, "objective.0.ways=0"], r"ways is 0 and shots 1; ways must be at least 2"),
        (["image={backbone: conv4, cbam: [9]}"], r"cbam is \[9\]; it lists conv4's blocks, 1 to 4"),
        (
            [*CAN[1:], "image={backbone: 'torchvision:shufflenet_v2_x0_5'}", "data.image_size=32"],
            r"cross_attention needs features\.map, which this model does not provide; choose",
        ),
    ],
)
def test_settings_that_do_not_fit_are_one_line(config, overrides, message, monkeypatch):
    monkeypatch.setattr(TrainingStep, "forward", None)  # before the first step
    with pytest.raises(VlfewError, match=message) as error:
        train(config, [*overrides, *SHORT], config.parent)
    assert "\n" not in str(error.value)


def test_backbones_without_a_place_for_cbam_have_no_such_option(config):
    with pytest.raises(ConfigError, match=r"unknown key 'image\.cbam'"):
        read_config(config, ["image={backbone: 'timm:resnet10t', cbam: [1]}"])
