"""The search space: how it is written, what is sampled from it, and all mistakes at once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vlfew.core.errors import ConfigError
from vlfew.core.overrides import read_value, written_value
from vlfew.training.tune.search_space import Choices, Range, SearchSpace, read_space, text_of
from vlfew.workflows.assemble import read_config

MINIMAL = "objective:\n  - {loss: contrastive}\nimage: {backbone: conv4, width: 8}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(MINIMAL)
    return path


def read(config: Path, text: str, *overrides: str) -> SearchSpace:
    """The search space written in `text`, checked against a configuration."""
    path = config.parent / "space.yaml"
    path.write_text(text)
    return read_space(path, lambda override: read_config(config, [*overrides, override]))


def problems(config: Path, text: str) -> list[str]:
    """What is wrong with a search space, without the name of its file."""
    with pytest.raises(ConfigError) as error:
        read(config, text)
    return [problem.removeprefix(str(config.parent / "space.yaml")) for problem in error.value.problems]


def test_ranges_and_choices_are_read_by_the_type_of_their_bounds(config: Path) -> None:
    space = read(
        config,
        "optim.lr: {low: 1e-4, high: 1e-2, log: true}\n"
        "optim.steps: {low: 100, high: 420, step: 100}\n"
        "augment.hflip: {low: 0, high: 0.5}\n"
        "optim.max_grad_norm: {choices: [1.0, null]}\n"
        "objective.0.margin: {low: 0.1, high: 0.7, step: 0.2}\n"
        "image: {choices: [{backbone: conv4}, {backbone: resnet12}]}\n",
    )
    assert space == {
        "optim.lr": Range(1e-4, 1e-2, log=True),
        "optim.steps": Range(100, 420, step=100),
        "augment.hflip": Range(0, 0.5),
        "optim.max_grad_norm": Choices((1.0, None)),
        "objective.0.margin": Range(0.1, 0.7, step=0.2),
        "image": Choices(({"backbone": "conv4"}, {"backbone": "resnet12"})),
    }
    integer = [d.integer for d in space.values() if isinstance(d, Range)]
    assert integer == [False, True, False, False]
    steps = space["optim.steps"]
    assert isinstance(steps, Range) and steps.last == 400
    assert str(steps) == "100 to 400 by 100, integer"
    assert str(space["optim.lr"]) == "0.0001 to 0.01, logarithmic"


def test_every_mistake_is_listed_at_once_with_its_line(config: Path) -> None:
    found = problems(
        config,
        "optim.lrr: {low: 0.1, high: 1.0}\n"
        "optim.lr: {low: 0.1, high: 0.01}\n"
        "augment.hflip: {low: 0.0, high: 1.0, log: true}\n"
        "optim.max_grad_norm: {choices: []}\n"
        "optim.steps: {low: 1, high: 2, choices: [3, 4]}\n"
        "image.width:\n  low: 8\n  hihg: 16\n"
        "optim.name: {choices: [adamw, sdg]}\n",
    )
    assert found == [
        ":1: unknown key 'optim.lrr'; did you mean 'lr'?",
        ":2: 'optim.lr': low 0.1 must be below high 0.01, got {'low': 0.1, 'high': 0.01}",
        ":3: 'augment.hflip': low 0 must be above 0 where log is true, got {'low': 0.0, 'high': 1.0, 'log': True}",
        ":4: 'optim.max_grad_norm.choices': must list at least two values, got []",
        ":5: 'optim.steps' has choices and low; give choices, or low and high",
        ":8: unknown key 'image.width.hihg'; did you mean 'high'?",
        ":9: 'optim.name': input should be 'adamw', 'adam', 'sgd' or 'rmsprop', got 'sdg'",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("optim.lr: 0.1", "'optim.lr' needs {low:, high:} or {choices: [...]}, got 0.1"),
        ("optim.lr: {low: 0.1}", "'optim.lr' has no high; give low and high, or choices"),
        ("optim.lr: {}", "'optim.lr' has no low and no high; give low and high, or choices"),
        ("optim.lr: {low: a, high: 1}", "'optim.lr.low': must be a number, got 'a'"),
        ("optim.lr: {low: .nan, high: 1.0}", "'optim.lr.low': must be a number, got nan"),
        ("optim.lr: {low: 0.1, high: 1.0, log: 3}", "'optim.lr.log': input should be a valid boolean, got 3"),
        ("optim.lr: {low: 0.1, high: 1.0, log: true, step: 0.1}", "'optim.lr': log and step do not go together"),
        ("optim.lr: {low: 0.1, high: 1.0, step: 2.0}", "'optim.lr': step 2 must be above 0 and fit"),
        ("optim.steps: {low: 10, high: 20, step: 0.5}", "'optim.steps': step must be an integer like the bounds"),
        ("optim.max_grad_norm: {choices: [1.0]}", "must list at least two values, got [1.0]"),
        ("optim.max_grad_norm: {choices: 5}", "must list at least two values, got 5"),
        ("optim.max_grad_norm: {choises: [1.0, 2.0]}", "did you mean 'choices'?"),
        ("optim.max_grad_norm: {choices: [1.0, 2.0, 1.0]}", "'optim.max_grad_norm': a value is repeated"),
        # Wrong for the type of the key.
        ("optim.steps: {low: 100.0, high: 1000.0}", "'optim.steps': input should be a valid integer"),
        ("optim.lr: {low: -0.1, high: 1.0}", "'optim.lr': input should be greater than 0, got -0.1"),
        ("objective.3.margin: {low: 0.1, high: 1.0}", "there is no 'objective.3.margin' to set"),
        ("objective.0.marign: {low: 0.1, high: 1.0}", "did you mean 'margin'?"),
        # Inconsistent with the rest of the configuration.
        ("image.backbone: {choices: [conv4, letnet]}", "unknown backbone 'letnet'"),
        ("seed: {low: 0, high: 9}", "'seed' cannot be tuned: the best of several seeds"),
        ("model_selection.ways: {low: 2, high: 5}", "cannot be tuned: trials are compared by it"),
        ("name: {choices: [a, b]}", "'name' cannot be tuned"),
        ("training.eval_every: {low: 2, high: 9}", "cannot be tuned: the best of more"),
    ],
)  # fmt: skip
def test_invalid_entries(config: Path, line: str, problem: str) -> None:
    found = problems(config, line + "\n")
    assert all(one.startswith(":1: ") for one in found)
    assert problem in found[0]


def test_a_choice_that_does_not_go_with_an_override(config: Path) -> None:
    with pytest.raises(ConfigError, match=r"with image\.backbone=resnet12: "):
        read(config, "image.backbone: {choices: [conv4, resnet12]}\n", "image.width=8")


def test_empty_and_missing_search_space(config: Path) -> None:
    assert "names no key to tune" in problems(config, "")[0]
    with pytest.raises(ConfigError, match=r"spaec\.yaml: no such search space; did you mean 'space\.yaml'\?"):
        read_space(config.parent / "spaec.yaml", print)


def test_values_are_checked_together_with_the_overrides(config: Path) -> None:
    widths = "image.widths: {choices: [[8, 8], [4, 4]]}\n"
    assert list(read(config, widths, "image={backbone: resnet12}")) == ["image.widths"]


numbers = st.floats(-1e6, 1e6)


@given(
    low=numbers,
    extent=st.floats(1e-6, 1e6),
    part=st.floats(0, 1),
    parts=st.integers(0, 40),
    log=st.booleans(),
)
def test_sampled_values_are_in_the_range(
    low: float, extent: float, part: float, parts: int, log: bool
) -> None:
    low = abs(low) + 1e-6 if log else low
    high = low + extent
    assume(high > low and extent > 1e-9 * abs(low))
    found = Range(low, high, log, step=None if log or not parts else extent / parts)
    steps = 0 if found.step is None else round(part * parts)
    sampled = low + (part * extent if found.step is None else steps * found.step)
    value = found.value(min(sampled, found.last))
    assert low <= value <= high
    # Rounding keeps four digits.
    assert abs(value - sampled) <= 1e-3 * max(extent, abs(sampled) if log else 0.0)
    assert found.find(value) == value
    assert float(read_value(text_of(value))) == value


@given(low=st.integers(-1000, 1000), extent=st.integers(1, 1000), step=st.integers(1, 50))
def test_integer_steps_end_at_or_below_the_upper_bound(low: int, extent: int, step: int) -> None:
    assume(step <= extent)
    found = Range(low, low + extent, step=step)
    inside = list(range(low, low + extent + 1, step))
    assert found.last == inside[-1]
    assert [v for v in range(low - 2, low + extent + 3) if found.find(v) is not None] == inside


def test_values_are_rounded_to_the_digits_that_matter() -> None:
    assert Range(1e-4, 1e-1, log=True).value(0.00123456789) == 0.001235
    assert Range(0.0, 30.0).value(17.3812345) == 17.38
    assert Range(0.1, 0.7, step=0.1).value(0.1 + 2 * 0.1) == 0.3
    assert Range(16, 64).value(31.7) == 32
    bounds = Range(1.23456, 1.23457)
    assert bounds.value(1.23456) == 1.23456 and math.isclose(bounds.value(1.234565), 1.234565)


def test_a_configured_value_is_found_if_it_is_in_the_range() -> None:
    assert Range(0.1, 0.5, step=0.2).find(0.3) == 0.3 and Range(0.1, 0.5, step=0.2).find(0.2) is None
    assert Range(1, 5).find(2) == 2 and Range(1, 5).find(2.0) == 2 and Range(0.0, 1.0).find(None) is None
    assert Range(1, 5).find(True) is None and Range(1, 5).find(2.5) is None and Range(1, 5).find(6) is None


texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Cf", "Cn", "Co", "Zl", "Zp")))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    )
)
def test_what_is_written_reads_back_as_the_same_value(value: object) -> None:
    assert read_value(written_value(value)) == value


def test_a_key_and_its_section_cannot_both_be_tuned(config: Path) -> None:
    """One would undo the other, and the trial would be recorded with values that it did not have."""
    (found,) = problems(config, "optim.lr: {low: 1e-3, high: 1e-2}\noptim: {choices: [{lr: 1}, {lr: 2}]}\n")
    assert found.startswith(":2: 'optim' contains 'optim.lr' (") and "would undo it" in found
