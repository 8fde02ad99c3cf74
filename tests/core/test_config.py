from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vlfew.core.config import Config
from vlfew.core.config_diff import config_differences
from vlfew.core.config_file import dump_config, load_config, parse_values
from vlfew.core.errors import ConfigError
from vlfew.data.sources import SOURCES
from vlfew.workflows.assemble import PARTS, read_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
MINIMAL = "objective:\n  - {loss: contrastive}\n"


def write(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_is_valid_and_named_after_its_file(path):
    assert read_config(path).name == path.stem


def test_every_mistake_is_listed_at_once_with_its_line(tmp_path):
    path = write(
        tmp_path,
        "data:\n  name: omniglto\noptim:\n  lrr: 0.1\n  steps: many\n"
        "objective:\n  - loss: contrastive\n    marign: 2\n",
    )
    with pytest.raises(ConfigError) as error:
        read_config(path)
    problems = error.value.problems
    assert f"{path}:2: unknown data source 'omniglto'; did you mean 'omniglot'?" in problems
    assert f"{path}:4: unknown key 'optim.lrr'; did you mean 'lr'?" in problems
    assert any(p.startswith(f"{path}:5: 'optim.steps': ") and "'many'" in p for p in problems)
    assert (
        f"{path}:8: unknown key 'objective.0.marign' of loss 'contrastive'; did you mean 'margin'?"
        in problems
    )
    assert len(problems) == 4


def test_wrong_type_of_a_component_option(tmp_path):
    path = write(tmp_path, "objective:\n  - {loss: contrastive, margin: wide}\n")
    with pytest.raises(ConfigError, match=r"run.yaml:2: 'objective.0.margin' of loss 'contrastive'.*'wide'"):
        read_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "data: {name: lfw, fold: 11}\n",
            "data source 'lfw': input should be less than or equal to 10, or input should be 'all', got 11",
        ),
        (
            "evaluate: [{protocol: zero-shot, templates: a photo}]\n",
            "'evaluate.0.templates' of protocol 'zero-shot': template 'a photo' has no {}",
        ),
    ],
)
def test_a_component_option_out_of_its_range_is_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError) as error:
        read_config(write(tmp_path, MINIMAL + text))
    (line,) = error.value.problems
    assert message in line


def test_component_options_get_their_types(tmp_path):
    """A quoted number in YAML is a string; the loss gets a number."""
    path = write(tmp_path, "objective:\n  - {loss: contrastive, margin: '2', normalize: 'no'}\n")
    assert read_config(path).objective[0].options == {"margin": 2.0, "normalize": False}


def test_a_problem_of_an_override_names_it(tmp_path):
    path = write(tmp_path, MINIMAL)
    with pytest.raises(ConfigError, match=r"^override optim.lrr=1: unknown key 'optim.lrr'"):
        load_config(path, ["optim.lrr=1"])
    with pytest.raises(ConfigError, match="an override is key=value"):
        load_config(path, ["optim.lr"])
    with pytest.raises(ConfigError, match=r"there is no 'objective.3.weight' to set"):
        load_config(path, ["objective.3.weight=1"])


@pytest.mark.parametrize(
    "override",
    [
        "optim={steps: many}",
        "objective=[{loss: contrastive, margni: 1}]",
        "objective.0={loss: contrastive, margni: 1}",
        "objective.0.margni=1",
        "image.backbone=conv5",
        "evaluate=[{protocol: few-shto}]",
    ],
)
def test_mistakes_in_an_override_name_the_override_and_not_the_file(tmp_path, override):
    path = write(
        tmp_path, MINIMAL + "optim: {steps: 2}\nimage: {backbone: conv4}\nevaluate: [{protocol: few-shot}]\n"
    )
    with pytest.raises(ConfigError) as error:
        read_config(path, [override])
    assert [line.startswith(f"override {override}: ") for line in error.value.problems] == [True]


def test_a_list_is_located_in_the_file_that_sets_it_last(tmp_path):
    (tmp_path / "base.yaml").write_text("objective:\n  - loss: contrastive\n    margin: 2\n")
    path = write(tmp_path, "base: base.yaml\nname: x\nobjective: [{loss: contrastive, margin: two}]\n")
    with pytest.raises(ConfigError, match=r"^[^\n]*run.yaml:3: 'objective.0.margin'"):
        read_config(path)


def test_overrides_take_yaml_values(tmp_path):
    path = write(tmp_path, MINIMAL)
    config = load_config(path, ["optim.lr=1e-3", "text.encoder=null", "objective.0.weight=2", "name=x"])
    assert (config.optim.lr, config.text.encoder, config.objective[0].weight, config.name) == (
        1e-3,
        None,
        2,
        "x",
    )


def test_base_is_merged_and_lines_point_to_the_right_file(tmp_path):
    (tmp_path / "base.yaml").write_text(MINIMAL + "optim: {lr: 0.5, steps: 7}\n")
    path = write(tmp_path, "base: base.yaml\noptim: {lr: 0.1}\n")
    config = load_config(path)
    assert (config.optim.lr, config.optim.steps) == (0.1, 7)
    (tmp_path / "base.yaml").write_text(MINIMAL + "optim:\n  stepps: 7\n")
    with pytest.raises(ConfigError, match=r"base.yaml:4: unknown key 'optim.stepps'"):
        load_config(path)


def test_a_base_that_is_not_beside_the_file_is_a_recipe(tmp_path):
    recipe = read_config(write(tmp_path, "base: quickstart.yaml\n"))
    assert recipe.data.name == "glyphs" and recipe.name == "run"
    assert read_config(write(tmp_path, "base: mnist_contrastive\n")).data.name == "mnist"  # a study
    (tmp_path / "quickstart.yaml").write_text(MINIMAL + "seed: 3\n")
    assert read_config(write(tmp_path, "base: quickstart.yaml\n")).seed == 3
    assert (
        read_config(write(tmp_path, "base: ../mnist_contrastive.yaml\n")).data.name == "mnist"
    )  # a copied study
    for base in ("nothing.yaml", "../nowhere/lfw.yaml", "'*'", "mini_imagenet_sweep_grid"):
        with pytest.raises(
            ConfigError, match=r"run\.yaml: base: no file '.*' next to it, and no such recipe"
        ):
            read_config(write(tmp_path, f"base: {base}\n"))
    with pytest.raises(ConfigError, match="did you mean 'quickstart'"):
        read_config(write(tmp_path, "base: quickstrat\n"))


def test_an_option_of_a_source_without_options_gets_no_other_names():
    with pytest.raises(ConfigError) as error:
        parse_values(["foo=1"], SOURCES.options("glyphs"), "data source 'glyphs'", at="data")
    assert error.value.problems == ["override foo=1: unknown key 'data.foo' of data source 'glyphs'"]


def test_base_cycle(tmp_path):
    path = write(tmp_path, "base: run.yaml\n" + MINIMAL)
    with pytest.raises(ConfigError, match="leads back"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", r"run.yaml:\d+: not YAML"),
        ("a: '\0'", r"run.yaml: not YAML: [^\n]+$"),
        ("- 1\n", "expected a mapping"),
        ("objective: []\n", "'objective'"),
        ("", "'objective' must be given"),
        (
            MINIMAL + "optim: {steps: 20, lr: 1, steps: 5}",
            r"yaml:\d+: the key 'steps' is repeated \(first on",
        ),
        (MINIMAL + "name: ../elsewhere", "'name'.*must be the name of a folder inside the runs folder"),
        (MINIMAL + "name: /tmp/elsewhere", "'name'.*must be the name of a folder inside the runs folder"),
    ],
)
def test_unusable_files(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, text))


def test_a_missing_file_suggests_a_similar_name(tmp_path):
    write(tmp_path, MINIMAL)
    with pytest.raises(ConfigError, match=r"no such configuration file; did you mean 'run.yaml'\?"):
        load_config(tmp_path / "rnu.yaml")


@settings(max_examples=25)
@given(
    lr=st.floats(1e-6, 10),
    steps=st.integers(1, 10**6),
    root=st.sampled_from([None, "data/häuser", "a b"]),
    template=st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20),
)
def test_dump_reads_back_to_the_same(tmp_path_factory, lr, steps, root, template):
    values = {
        "objective": [{"loss": "contrastive", "margin": 0.5}],
        "optim": {"lr": lr, "steps": steps},
        "data": {"root": root},
        "evaluate": [{"protocol": "zero-shot", "templates": [template + " {}"]}],
    }
    config = Config.model_validate(values)
    path = tmp_path_factory.mktemp("dump") / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    again = load_config(path, parts=PARTS)
    assert config_differences(config, again) == []
    assert yaml.safe_load(dump_config(again)) == yaml.safe_load(dump_config(config))


def test_a_list_of_plain_values_is_compared_as_one_value():
    a, b = (
        Config.model_validate(
            {"objective": [{"loss": "contrastive"}], "image": {"backbone": "x", "widths": w}}
        )
        for w in ([8, 8], [8, 8, 16])
    )
    assert config_differences(a, b) == ["image.widths: [8, 8] -> [8, 8, 16]"]


def test_differences_name_dotted_keys():
    a = Config.model_validate({"objective": [{"loss": "contrastive"}]})
    b = Config.model_validate({"objective": [{"loss": "contrastive", "margin": 2}], "optim": {"lr": 0.5}})
    assert set(config_differences(a, b)) == {"optim.lr: 0.001 -> 0.5", "objective.0.margin: unset -> 2"}


def test_a_bare_no_is_no_mixed_precision(tmp_path):
    path = write(tmp_path, MINIMAL + "training: {mixed_precision: no}\n")
    assert read_config(path).training.mixed_precision == "no"
    assert read_config(path, ["training.mixed_precision=no"]).training.mixed_precision == "no"
