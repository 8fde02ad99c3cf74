"""YAML loaders that reject a repeated key, of which YAML itself would silently keep the second."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from vlfew.core.errors import first_line


class RepeatedKeyError(yaml.constructor.ConstructorError):
    """A mapping has the same key twice."""


class _UniqueKeys(yaml.constructor.BaseConstructor):
    """Mixin for a YAML loader: repeated keys raise `RepeatedKeyError`."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    message = (
                        f"the key {key.value!r} is repeated (first on line {seen[key.value]}); remove one"
                    )
                    raise RepeatedKeyError(None, None, message, key.start_mark)
                seen[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


class SettingsLoader(_UniqueKeys, yaml.SafeLoader):
    """Safe YAML in which `1e-3` is a number (YAML 1.1 reads it as a string)."""


SettingsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)$"),
    list("-+0123456789."),
)


class TextLoader(_UniqueKeys, yaml.BaseLoader):
    """YAML in which every value is a string: `no` is not false and `1` is not a number."""


def yaml_problem(path: Path, error: yaml.YAMLError) -> str:
    """`FILE:LINE: what is wrong` for an error of a YAML loader."""
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    problem = getattr(error, "problem", None) or first_line(error)
    prefix = "" if isinstance(error, RepeatedKeyError) else "not YAML: "
    return f"{path}{line}: {prefix}{problem}"
