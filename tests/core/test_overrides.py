"""Overrides: a path or a string is taken as it stands, everything else is YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from vlfew.core.errors import ConfigError
from vlfew.core.overrides import read_value, written_value
from vlfew.workflows.assemble import read_config
from vlfew.workflows.evaluation_data import data_settings, parse_data_options

OBJECTIVE = "objective: [{loss: contrastive}]\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(OBJECTIVE + "data: {name: folder}\n")
    return path


@pytest.mark.parametrize(
    "text", ["pics #2", "2024", "1e3", "&amp", "*star", "on", "no", "[a]", "{b}", "a: b", "- c", "!x"]
)
def test_a_root_is_that_very_path(config: Path, text: str) -> None:
    assert read_config(config, [f"data.root={text}"]).data.root == Path(text)
    assert read_config(config, [f"data.root={text}", "name=2024"]).name == "2024"


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
        lambda t: t[0] not in "\"'~" and t != "null"
    )
)
def test_any_text_is_a_path_as_it_stands(text: str) -> None:
    assert read_value(text, Path | None) == text
    assert read_value(text, str) == text
    assert read_value(written_value(text), str) == text


def test_nothing_null_and_quotes(config: Path) -> None:
    assert read_config(config, ["data.root=null"]).data.root is None
    with pytest.raises(ConfigError, match=r"'data.root=': the path is empty; name one, or leave this out"):
        read_config(config, ["data.root="])
    assert read_config(config, ['data.root="null"']).data.root == Path("null")
    assert read_config(config, ["training.mixed_precision='no'"]).training.mixed_precision == "no"
    assert read_config(config, ["data.root=~/pics"]).data.root == Path.home() / "pics"
    assert read_config(config, ["text.encoder=null"]).text.encoder is None


def test_in_a_file_too_the_tilde_is_the_home_and_a_number_is_no_path(config: Path) -> None:
    config.write_text(OBJECTIVE + "data: {name: folder, root: ~/pics}\n")
    assert read_config(config).data.root == Path.home() / "pics"
    config.write_text(OBJECTIVE + "data: {name: folder, root: 2024}\n")
    with pytest.raises(ConfigError, match=r"run.yaml:2: 'data.root': must be a path; .* in quotes, got 2024"):
        read_config(config)


def test_options_of_components_are_read_by_their_types(config: Path) -> None:
    """Also where a later override names the component."""
    found = read_config(config, ["data.file=2024", "data.name=pairs", "evaluate=[{protocol: zero-shot}]"])
    assert found.data.options == {"file": "2024"}
    zero_shot = read_config(config, ["evaluate=[{protocol: zero-shot}]", "evaluate.0.templates={}"])
    assert zero_shot.evaluate[0].options["templates"] == "{}"
    few = read_config(
        config, ["evaluate=[{protocol: few-shot}]", "evaluate.0.ways=all", "evaluate.0.shots=3"]
    )
    assert few.evaluate[0].options == {"ways": "all", "shots": 3}


def test_data_options_of_evaluate() -> None:
    from vlfew.data.preprocess import ImagePreprocessor

    options = data_settings(["file=pics #2.csv", "folds=3", "data.center_crop=0.5"])
    preprocessor, given = parse_data_options("pairs", ImagePreprocessor(8, 1), options)
    assert given == {"file": "pics #2.csv", "folds": 3} and preprocessor.center_crop == 0.5
    written = data_settings({"file": Path("2024"), "folds": 3})
    assert parse_data_options("pairs", ImagePreprocessor(8, 1), written)[1] == {
        "file": "2024",
        "folds": 3,
    }


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("3", int | Literal["all"], 3),
        ("all", int | Literal["all"], "all"),
        ("no", Literal["auto", "no"], "no"),
        ("null", Annotated[float | None, Field(gt=0)], None),
        ("1e-3", float, 1e-3),
        ("{}", str | tuple[str, ...], "{}"),
        ("[a, b]", str | tuple[str, ...], ["a", "b"]),
        ("[1, 2]", list[int], [1, 2]),
        ("many", int, "many"),
    ],
)
def test_the_type_decides(text: str, annotation: object, value: object) -> None:
    assert read_value(text, annotation) == value


def test_the_options_of_a_replaced_component_go_with_it(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "data: {name: folder}\nimage: {backbone: conv4, widths: [8, 8], frozen: true}\n"
        "objective: [{loss: triplet, margin: 2}, {loss: supervised_contrastive, temperature: 0.2, weight: 3}]\n"
        "evaluate: [{protocol: few-shot, ways: 3}]\nsimilarity: {name: cross_attention, reduction: 2}\n"
    )
    found = read_config(
        path,
        [
            "image.backbone=efficientnet_lite0",
            "objective.1.loss=alignment_softmax",
            "evaluate.0.protocol=zero-shot",
            "evaluate.0.split=val",
            "similarity.name=cosine",
        ],
    )
    assert (found.image.backbone, found.image.options, found.image.frozen) == ("efficientnet_lite0", {}, True)
    assert (found.objective[1].options, found.objective[1].weight) == ({}, 3)
    assert found.objective[0].options == {"margin": 2.0}
    assert found.evaluate[0].options == {"split": "val"}
    assert found.similarity.options == {}


def test_what_is_given_with_the_new_component_stays_and_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(OBJECTIVE + "data: {name: folder}\nimage: {backbone: conv4, widths: [8, 8]}\n")
    given = ["image.widths=[4, 4, 8, 8]", "image.backbone=resnet12"]
    for overrides in (given, given[::-1]):
        assert read_config(path, overrides).image.options == {"widths": [4, 4, 8, 8]}
    with pytest.raises(ConfigError, match=r"override image.widths=\[4\]: unknown key 'image.widths'"):
        read_config(path, ["image.backbone=efficientnet_lite0", "image.widths=[4]"])
    assert read_config(path, ["image.backbone=conv4"]).image.options == {"widths": [8, 8]}


def test_another_model_of_one_family_keeps_the_options(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        OBJECTIVE + "data: {name: folder}\nimage: {backbone: 'timm:resnet18', pretrained: true}\n"
    )
    assert read_config(path, ["image.backbone=timm:resnet50"]).image.options == {"pretrained": True}


def test_a_file_that_names_another_component_than_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        OBJECTIVE + "data: {name: folder}\nimage: {backbone: conv4, widths: [8]}\n"
    )
    path = tmp_path / "run.yaml"
    path.write_text("base: base.yaml\nimage: {backbone: efficientnet_lite0}\n")
    assert read_config(path).image.options == {}
    path.write_text("base: base.yaml\nimage: {backbone: resnet12, drop_rate: 0.2}\n")
    assert read_config(path).image.options == {"drop_rate": 0.2}
    path.write_text("base: base.yaml\nimage: {norm: none}\n")
    assert read_config(path).image.options == {"widths": [8], "norm": "none"}
