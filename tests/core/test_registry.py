from typing import Any

import pytest
from pydantic import ValidationError

from vlfew.core.errors import VlfewError
from vlfew.core.registry import Registry
from vlfew.losses import LOSSES
from vlfew.losses.contrastive import ContrastiveLoss


def test_get_imports_the_component():
    assert LOSSES.get("contrastive") is ContrastiveLoss


def test_unknown_name_suggests_the_closest():
    with pytest.raises(VlfewError, match=r"unknown loss 'contrastiv'; did you mean 'contrastive'\?"):
        LOSSES.get("contrastiv")


def test_options_are_the_keyword_only_parameters():
    schema = LOSSES.options("contrastive")
    assert set(schema.model_fields) == {"margin", "distance", "normalize"}
    assert schema(margin=2).margin == 2.0
    with pytest.raises(ValidationError):
        schema(margin="wide")
    with pytest.raises(ValidationError):
        schema(marign=1.0)


class Narrow:
    def __init__(self, size: int, *, width: int = 3, name: str) -> None:
        self.width, self.name = width, name


class Wide(Narrow):
    def __init__(self, size: int, *, depth: float = 0.5, width: int = 9, **options: Any) -> None:
        super().__init__(size, width=width, **options)


def test_a_class_that_takes_options_inherits_those_of_its_base():
    registry = Registry("thing", {"wide": f"{__name__}:Wide", "narrow": f"{__name__}:Narrow"})
    schema = registry.options("wide")
    assert schema(name="x").model_dump() == {"depth": 0.5, "width": 9, "name": "x"}
    assert set(registry.options("narrow").model_fields) == {"width", "name"}
    with pytest.raises(ValidationError):
        schema(width=1)  # the base requires `name`
    with pytest.raises(ValidationError):
        schema(name="x", size=1)


def test_prefix_binds_the_rest_of_the_name():
    registry = Registry("thing", {"path:": "pathlib:PurePosixPath"})
    assert str(registry.get("path:a/b")("c")) == "a/b/c"
    with pytest.raises(VlfewError, match="path:NAME"):
        registry.get("path")


@pytest.mark.parametrize("target", ["vlfew.losses.my_cent:MyCenter", "vlfew.losses.triplet:MyCenter"])
def test_a_registry_line_that_leads_nowhere_is_named(target):
    with pytest.raises(
        VlfewError, match=f"loss 'my_center' is registered as '{target}', which does not exist"
    ):
        Registry("loss", {"my_center": target}).get("my_center")
