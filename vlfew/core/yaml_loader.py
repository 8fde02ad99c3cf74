"""YAML in which a key stands once: of two, the second would win without a word."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from vlfew.core.errors import first_line


class RepeatedKey(yaml.constructor.ConstructorError):
    """A mapping has a key twice."""


def _check_each_once(node: yaml.MappingNode) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if key.value in seen:
                first = f"{key.value!r} stands here twice (first in line {seen[key.value]}); keep one"
                raise RepeatedKey(None, None, first, key.start_mark)
            seen[key.value] = key.start_mark.line + 1


class _EachKeyOnce(yaml.constructor.BaseConstructor):
    """Stands before a loader."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        _check_each_once(node)
        return super().construct_mapping(node, deep)


class SettingsLoader(_EachKeyOnce, yaml.SafeLoader):
    """Safe YAML in which `1e-3` is the number it looks like (YAML 1.1 makes it a string)."""


SettingsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)$"),
    list("-+0123456789."),
)


class TextLoader(_EachKeyOnce, yaml.BaseLoader):
    """YAML in which all is text: `no` is no false and `1` no number."""


def problem_of(path: Path, error: yaml.YAMLError) -> str:
    """`FILE:LINE: what is wrong`."""
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    said = getattr(error, "problem", None) or first_line(error)
    return f"{path}{line}: {said}" if isinstance(error, RepeatedKey) else f"{path}{line}: not YAML: {said}"
