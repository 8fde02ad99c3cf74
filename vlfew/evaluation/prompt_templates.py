"""Templates of prompts: one's own, or known sets by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from vlfew.core.errors import ConfigError, did_you_mean

NAME = "{}"
"""Stands for the class name in a template."""


def _one() -> list[str]:
    return [f"a photo of a {NAME}."]


def _seven() -> list[str]:
    from open_clip.zero_shot_metadata import SIMPLE_IMAGENET_TEMPLATES

    return [template(NAME) for template in SIMPLE_IMAGENET_TEMPLATES]


def _eighty() -> list[str]:
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return [template(NAME) for template in OPENAI_IMAGENET_TEMPLATES]


SETS: dict[str, Callable[[], list[str]]] = {"one": _one, "seven": _seven, "eighty": _eighty}
"""The prompt of Radford et al. 2021 (section 3.1.4), and their two ensembles for ImageNet as open_clip has them."""


def as_list(templates: str | Sequence[str]) -> list[str]:
    """What was asked for, one or several, as a list."""
    return [templates] if isinstance(templates, str) else list(templates)


def read_templates(templates: str | Sequence[str]) -> list[str]:
    """The templates themselves, each once: a name of `SETS` stands for those of that set.

    Args:
        templates: a template with `{}` or a name of a set, or several of either.

    Raises:
        ConfigError: none at all, or one that is no set and has no `{}`.
    """
    asked = as_list(templates)
    if not asked:
        raise ConfigError("templates is empty; '{}' is the bare class name")
    found: list[str] = []
    for template in asked:
        if template in SETS:
            found += SETS[template]()
        elif NAME in template:
            found.append(template)
        else:
            raise ConfigError(
                f"template {template!r} has no {NAME} for the class name, and there is no set of that name"
                f"{did_you_mean(template, SETS)}"
            )
    return list(dict.fromkeys(found))


def _known(templates: str | tuple[str, ...]) -> str | tuple[str, ...]:
    try:
        read_templates(templates)
    except ConfigError as error:
        raise PydanticCustomError("template", "{said}", {"said": str(error)}) from None
    return templates


Templates = Annotated[str | tuple[str, ...], AfterValidator(_known)]
"""An option that is a template with `{}`, a name of a set, or several of either; told at once where it is neither."""
