"""Prompt templates: given ones, or known sets by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from vlfew.core.errors import ConfigError, did_you_mean

CLASS_NAME = "{}"
"""The place of the class name in a template."""


def _seven() -> list[str]:
    from open_clip.zero_shot_metadata import SIMPLE_IMAGENET_TEMPLATES

    return [template(CLASS_NAME) for template in SIMPLE_IMAGENET_TEMPLATES]


def _eighty() -> list[str]:
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    return [template(CLASS_NAME) for template in OPENAI_IMAGENET_TEMPLATES]


SETS: dict[str, Callable[[], list[str]]] = {
    "one": lambda: [f"a photo of a {CLASS_NAME}."],
    "seven": _seven,
    "eighty": _eighty,
}
"""The prompt of Radford et al. 2021 (section 3.1.4), and their two ensembles for ImageNet, from open_clip."""


def as_list(templates: str | Sequence[str]) -> list[str]:
    """One template or several as a list."""
    return [templates] if isinstance(templates, str) else list(templates)


def read_templates(templates: str | Sequence[str]) -> list[str]:
    """The templates, without duplicates; a name of `SETS` stands for those of that set.

    Args:
        templates: a template with `{}` or the name of a set, or several of either.

    Raises:
        ConfigError: none at all, or one that is neither a set nor has a `{}`.
    """
    given = as_list(templates)
    if not given:
        raise ConfigError("templates is empty; '{}' is the bare class name")
    expanded: list[str] = []
    for template in given:
        if template in SETS:
            expanded += SETS[template]()
        elif CLASS_NAME in template:
            expanded.append(template)
        else:
            raise ConfigError(
                f"template {template!r} has no {CLASS_NAME} for the class name, and there is no set of that name"
                f"{did_you_mean(template, SETS)}"
            )
    return list(dict.fromkeys(expanded))


def _validate(templates: str | tuple[str, ...]) -> str | tuple[str, ...]:
    try:
        read_templates(templates)
    except ConfigError as error:
        raise PydanticCustomError("template", "{message}", {"message": str(error)}) from None
    return templates


ValidTemplates = AfterValidator(_validate)
"""Marks an option as templates, so that a wrong one is found when a configuration is read."""
