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
