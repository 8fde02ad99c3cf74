"""`key=value` overrides: the schema decides how a value is read.

Where a key takes a path or a string, the text is taken as it stands: `data.root=pics #2` is the folder `pics #2`, and
`data.root=2024` the folder `2024`. Elsewhere it is YAML.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from vlfew.core.paths import user_path
from vlfew.core.yaml_loader import SettingsLoader

UNKNOWN: Any = object()
"""The type of a key that no schema has."""


def read_value(text: str, annotation: Any = UNKNOWN) -> Any:
    """The value of an override.

    Args:
        text: after the `=`. Nothing, and `null` where the key may be None, are None. A string may stand in quotes.
        annotation: type of the key.
    """
    kinds = members(annotation)
    if not kinds <= {str, Path, NoneType}:
        return _read_yaml(text, annotation)
    if not text or (text == "null" and NoneType in kinds):
        return None
    return _unquoted(text)


def written_value(value: Any) -> str:
    """What to write after `key=` for a plain value: `adamw`, `1e-05`, `[1, 2]`, `null`."""
    if isinstance(value, str) and _read_yaml(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def members(annotation: Any) -> set[Any]:
    """The types of a union, without their annotations; `str` for a literal string."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return set().union(*map(members, get_args(annotation)))
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    return {annotation}


def _read_yaml(text: str, annotation: Any = UNKNOWN) -> Any:
    """The text as YAML; the text itself where that is not YAML, or where only the text fits the type."""
    try:
        value = yaml.load(text, SettingsLoader) if text else None
    except yaml.YAMLError:
        return text
    if annotation is UNKNOWN or _fits(value, annotation):
        return value
    return text if _fits(text, annotation) else value


def _fits(value: Any, annotation: Any) -> bool:
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1]
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            pass
    return text


def _user_path(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        raise ValueError("must be a path; put a name that YAML reads as a number or a truth value in quotes")
    return user_path(value) if isinstance(value, str | Path) else value


OptionalPath = Annotated[Path | None, BeforeValidator(_user_path)]
"""A path in which `~` is the home folder."""


def with_user_paths(annotation: Any) -> Any:
    """The type of a key; where that is a path, `~` is the home folder."""
    if members(annotation) <= {Path, NoneType} and members(annotation) != {NoneType}:
        return Annotated[annotation, BeforeValidator(_user_path)]
    return annotation


Lookup = Callable[[str], Any]
"""From a dotted key to its type, or `UNKNOWN`."""


def apply_override(values: dict[str, Any], override: str, type_of: Lookup) -> tuple[str, str | None]:
    """Puts one `key=value` into `values`.

    Returns:
        The key, and the problem with the override, if any.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        return key, f"{override!r}: an override is key=value, such as optim.lr=1e-3"
    annotation = type_of(key)
    if not text and Path in members(annotation):
        return key, f"{override!r}: the path is empty; name one, or leave this out"
    value = read_value(text, annotation)
    at: Any = values
    *path, last = key.split(".")
    try:
        for name in path:
            if isinstance(at, list):
                at = at[int(name)]
            else:
                at[name] = at = {} if at.get(name) is None else at[name]
        if isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value
    except (ValueError, IndexError, AttributeError, TypeError):
        return key, f"{override!r}: there is no {key!r} to set"
    return key, None
