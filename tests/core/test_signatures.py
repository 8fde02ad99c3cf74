"""Options of components, read from their source."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vlfew.classifiers import CLASSIFIERS
from vlfew.core.registry import Registry
from vlfew.core.signatures import Option, component_options, component_summary
from vlfew.data.sources import SOURCES
from vlfew.encoders import BACKBONES, PREPROCESSING, TEXT_ENCODERS
from vlfew.evaluation import PROTOCOLS
from vlfew.losses import LOSSES
from vlfew.models import FINE_TUNERS
from vlfew.similarities import SIMILARITIES

REGISTRIES = {
    "protocol": PROTOCOLS,
    "method": CLASSIFIERS,
    "fine-tuning": FINE_TUNERS,
    "source": SOURCES,
    "similarity": SIMILARITIES,
    "loss": LOSSES,
    "backbone": BACKBONES,
    "preprocessing": PREPROCESSING,
    "text encoder": TEXT_ENCODERS,
}
ENTRIES = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry.names()]

SOURCE = '''
from typing import Literal

STEPS = 30
Side = Literal["left", "right"]


class Base:
    """A base. With a second sentence.

    Args:
        seed: of the draws,
            on two lines.
    """

    def __init__(self, *, seed: int = 0, side: Side = "left") -> None: ...


class Child(Base):
    """A child.

    Args:
        a, b: two numbers.
        side: of the child.
    """

    def __init__(self, positional: int, *, a: float, b: float = STEPS, **options: object) -> None: ...
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "written_component.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return "written_component"


def test_options_have_type_default_and_help(module: str) -> None:
    assert component_options(f"{module}:Child") == [
        Option("a", "float", ..., "two numbers."),
        Option("b", "float", 30, "two numbers."),
        Option("seed", "int", 0, "of the draws, on two lines."),
        Option("side", "Literal['left', 'right']", "left", "of the child."),
    ]
    assert component_summary(f"{module}:Base") == "A base. With a second sentence."


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_options_are_those_of_the_imported_component(kind: str, name: str) -> None:
    """The static reading agrees with the schema that values are checked against; every option has a help line."""
    registry: Registry = REGISTRIES[kind]
    static = registry.signature(name)
    assert {option.name for option in static} == set(registry.options(name).model_fields)
    assert registry.summary(name).endswith(".")
    assert not [option.name for option in static if not option.help]
    for option in static:
        field = registry.options(name).model_fields[option.name]
        assert option.default == (... if field.is_required() else field.default)


def test_the_reading_does_not_import(module: str) -> None:
    component_options(f"{module}:Child")
    assert module not in sys.modules
