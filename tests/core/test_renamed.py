"""Every name of before 0.2 leads to the one that replaced it, in one line; old run folders still load."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vlfew.classifiers import CLASSIFIERS
from vlfew.core import renamed
from vlfew.core.config_file import load_saved_config
from vlfew.core.errors import ConfigError, VlfewError
from vlfew.encoders import BACKBONES
from vlfew.evaluation import PROTOCOLS
from vlfew.workflows.assemble import read_config

MINIMAL = "objective:\n  - {loss: contrastive}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(MINIMAL + text)
    return path


@pytest.mark.parametrize(("old", "new"), renamed.KEYS.items())
def test_an_old_key_names_the_new_one(tmp_path: Path, old: str, new: str) -> None:
    section, _, key = old.rpartition(".")
    text = f"{section}: {{{key}: 1}}\n" if section else f"{key}: 1\n"
    named = []
    if section == "image.preprocessing":  # a component, whose options are known once it is
        text, named = f"image: {{preprocessing: {{name: pca, {key}: 1}}}}\n", ["image.preprocessing.name=pca"]
    for in_file, overrides in ((text, []), ("", [*named, f"{old}=1"])):
        with pytest.raises(ConfigError) as error:
            read_config(write(tmp_path, in_file), overrides)
        (line,) = (line for line in error.value.problems if f"unknown key {old!r}" in line)
        assert f"; it is now {new}" in line


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("data.resize=squash", "squash is now stretch"),
        ("image.tta=mirror", "mirror is now hflip"),
        ("optim.schedule=exponential", "exponential is now step"),
        ("model_selection={protocol: few-shot, too_few: leave_out}", "it is now on_small_class"),
        ("evaluate=[{protocol: pictures-and-words}]", "pictures-and-words is now multimodal"),
        ("evaluate=[{protocol: verification, scorer: cosine}]", "it is now similarity"),
        ("evaluate=[{protocol: verification, calibrate: val}]", "it is now calibration_split"),
        ("evaluate=[{protocol: multimodal, calibrate: val}]", "it is now validation_split"),
        ("image.backbone=plane", "plane is now embed2d"),
    ],
)
def test_an_old_value_names_the_new_one(tmp_path: Path, override: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        read_config(write(tmp_path, ""), [override])


def test_new_names_exist() -> None:
    for kind, registry in (("backbone", BACKBONES), ("protocol", PROTOCOLS), ("method", CLASSIFIERS)):
        for old, new in renamed.VALUES[kind].items():
            if old != "one-picture":  # a protocol of a data source
                assert new in registry.names()
                with pytest.raises(VlfewError, match=f"{old} is now {new}"):
                    registry.get(old)


def test_a_run_folder_of_an_old_version_is_read(tmp_path: Path) -> None:
    old = {
        "name": "old",
        "data": {"name": "glyphs", "resize": "squash", "center": 0.5},
        "image": {"backbone": "plane", "views": "turns", "twins": "shared", "centred": True, "unlocked": 0},
        "text": {"encoder": "minilm", "neighbours": 0.1},
        "similarity": {"scorer": "euclidean", "reduce": "max"},
        "objective": [{"loss": "contrastive", "weight": 1.0}],
        "fallback": {"loss": "triplet"},
        "start_from": None,
        "sampling": {"classes": 8, "pictures": 2, "more_words": 3, "pairs": None},
        "augment": {"flip": 0.5, "each": 0.7},
        "optim": {
            "warmup": 7,
            "clip": None,
            "schedule": "exponential",
            "decay": 0.5,
            "decay_every": 3,
            "layers": [],
        },
        "training": {"validate_every": 5, "checkpoint_every": 6, "accumulation": 2},
        "select": {"protocol": "few-shot", "too_few": "leave_out", "scorer": "prototypes"},
        "evaluate": [
            {"protocol": "pictures-and-words", "ways": 3},
            {"protocol": "verification", "scorer": "cosine"},
        ],
        "repeat": {"key": "seed", "values": [0, 1]},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(old))
    config = load_saved_config(path)
    assert (config.data.resize, config.data.center_crop, config.image.backbone) == ("stretch", 0.5, "embed2d")
    assert (config.image.tta, config.image.share_weights, config.image.center_embeddings) == (
        "rot90",
        True,
        True,
    )
    assert config.text.class_neighbors is not None and config.text.class_neighbors.temperature == 0.1
    assert (config.similarity.name, config.fallback_loss.loss) == ("euclidean", "triplet")
    assert (config.sampling.classes_per_batch, config.sampling.extra_text_negatives) == (8, 3)
    assert (config.augment.hflip, config.augment.apply_prob) == (0.5, 0.7)
    assert (config.optim.warmup_steps, config.optim.schedule, config.optim.gamma) == (7, "step", 0.5)
    assert config.model_selection is not None
    assert config.model_selection.options == {"on_small_class": "skip", "method": "prototypes"}
    assert [(e.protocol, e.options) for e in config.evaluate] == [
        ("multimodal", {"ways": 3}),
        ("verification", {"similarity": "cosine"}),
    ]
    assert config.repeat is not None and config.repeat.over == "seed"
