"""From a YAML file and `key=value` to a checked `Config`, with every mistake listed at once.

Each mistake says where it was made: file and line, or the override.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from vlfew.core.config import Component, Config
from vlfew.core.errors import ConfigError, VlfewError, did_you_mean
from vlfew.core.registry import Registry
from vlfew.core.yaml_loader import SettingsLoader, problem_of

_MEMBER = re.compile(r"function-|constrained-|(literal|tuple|list)\[|(int|str|float|bool)$")
"""What pydantic adds to the place of a mistake in a union: which of its members complains."""


@dataclass
class Part:
    """Which registry answers for a component section: `key` of the name within it."""

    registry: Registry
    key: str


@dataclass
class Source:
    """Where each key was said: dotted path to `file:line`, or to the override itself."""

    lines: dict[str, str] = field(default_factory=dict)

    def note(self, path: str, place: str) -> None:
        """A key was said there, and all that is beneath it with it."""
        for beneath in [known for known in self.lines if known.startswith(f"{path}.")]:
            del self.lines[beneath]
        self.lines[path] = place

    def of(self, path: str) -> str:
        """Where a key was said, or else the key around it."""
        while path and path not in self.lines:
            path = path.rpartition(".")[0]
        return self.lines.get(path, self.lines.get("", ""))


def load_config(path: Path, overrides: Sequence[str] = (), parts: Mapping[str, Part] | None = None) -> Config:
    """Reads a YAML file and `key=value` overrides, and checks everything.

    Args:
        path: of the YAML file; its `base: other.yaml` key, if any, names a file to start from.
        overrides: dotted keys with YAML values (`optim.lr=1e-3`, `objective.0.weight=2`).
        parts: section name, dotted where it is in another one, to who checks its component options.

    Raises:
        ConfigError: with one line for each mistake: file, line, what is wrong, a suggestion.
    """
    source = Source()
    values = read_yaml(path, source)
    problems = [p for o in overrides if (p := _override(values, o, source))]
    if problems:
        raise ConfigError(problems)
    values.setdefault("name", path.stem)
    return parse_config(values, parts or {}, source)


def parse_config(values: dict[str, Any], parts: Mapping[str, Part], source: Source | None = None) -> Config:
    """Checks plain values; see `load_config`."""
    source = source or Source({"": "config"})
    config: Config | None = None
    options_problems = _check_parts(values, parts, source)
    problems: list[str] = []
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems += _explain(error, Config, "", source)
    problems += options_problems
    if config is None or problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return config


def parse_values(pairs: Sequence[str], schema: type[BaseModel], owner: str) -> dict[str, Any]:
    """`key=value` pairs as options of a component.

    Args:
        pairs: with YAML values.
        schema: of the options.
        owner: whose options they are, for messages.

    Raises:
        ConfigError: one line for each mistake.
    """
    values: dict[str, Any] = {}
    source = Source({"": "options"})
    problems = [p for pair in pairs if (p := _override(values, pair, source))]
    try:
        checked = schema.model_validate(values)
    except ValidationError as error:
        problems += _explain(error, schema, "", source, owner=f" of {owner}")
    if problems:
        raise ConfigError(problems)
    return {key: getattr(checked, key) for key in checked.model_fields_set}


def read_yaml(
    path: Path, source: Source, seen: tuple[Path, ...] = (), kind: str = "configuration file"
) -> dict[str, Any]:
    """A YAML mapping, on top of the one that its key `base` names.

    Args:
        path: of the file.
        source: is told the line of every key.
        seen: files that led here by their `base`.
        kind: of file, for messages.

    Raises:
        ConfigError: the file is missing, not YAML, or no mapping.
    """
    if path.resolve() in seen:
        raise ConfigError(f"{path}: a chain of 'base' files leads back to this file")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.yaml")])
        raise ConfigError(f"{path}: no such {kind}{near}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    try:
        node = yaml.compose(text, SettingsLoader)
        values = yaml.load(text, SettingsLoader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(problem_of(path, error)) from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:1: expected a mapping of settings")
    if "base" in values:
        base = path.parent / str(values.pop("base"))
        values = _merge(read_yaml(base, source, (*seen, path.resolve()), kind), values)
    source.lines[""] = str(path)
    _note_lines(node, "", path, source)
    return values


def _merge(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {k: _merge(base[k], v) if k in base else v for k, v in over.items()}
    return over


def _note_lines(node: Any, at: str, path: Path, source: Source) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = f"{at}.{key.value}" if at else str(key.value)
            place = f"{path}:{key.start_mark.line + 1}"
            if isinstance(value, yaml.MappingNode):  # goes on top of the base file's
                source.lines[here] = place
            else:
                source.note(here, place)
            _note_lines(value, here, path, source)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            source.lines[f"{at}.{number}"] = f"{path}:{value.start_mark.line + 1}"
            _note_lines(value, f"{at}.{number}", path, source)


def _override(values: dict[str, Any], override: str, source: Source) -> str | None:
    """Puts one `key=value` into `values`; returns what is wrong with it, if anything."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        return f"{override!r}: an override is key=value, such as optim.lr=1e-3"
    value = override_value(text)
    at: Any = values
    *path, last = key.split(".")
    try:
        for name in path:
            at = at[int(name)] if isinstance(at, list) else at.setdefault(name, {})
        if isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value
    except (ValueError, IndexError, AttributeError, TypeError):
        return f"{override!r}: there is no {key!r} to set"
    source.note(key, f"override {override}")
    return None


def override_value(text: str) -> Any:
    """The value of an override; text that is not YAML stands for itself."""
    try:
        return yaml.load(text, SettingsLoader) if text else None
    except yaml.YAMLError:
        return text


def override_text(value: Any) -> str:
    """What to write behind `key=` for a plain value: `adamw`, `1e-05`, `[1, 2]`, `null`."""
    if isinstance(value, str) and override_value(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _check_parts(values: dict[str, Any], parts: Mapping[str, Part], source: Source) -> list[str]:
    """Checks the component options of every section that `parts` names, and gives them their types."""
    problems = []
    for section, part in parts.items():
        # What the file leaves out, the defaults say.
        value: Any = values
        for step in section.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        entries = enumerate(value) if isinstance(value, list) else [(None, value)]
        for number, entry in entries:
            at = section if number is None else f"{section}.{number}"
            if isinstance(entry, str):  # the name alone, where that will do
                entry = {part.key: entry}
            if not isinstance(entry, dict):
                continue  # the typed models already complain
            model = _component_model(section)
            name = entry.get(part.key, model.model_fields[part.key].get_default())
            if not isinstance(name, str):
                continue
            options = {k: v for k, v in entry.items() if k not in model.model_fields}
            try:
                schema = part.registry.options(name)
            except VlfewError as error:
                problems.append(f"{source.of(f'{at}.{part.key}')}: {error}")
                continue
            try:
                checked = schema.model_validate(options)
                entry |= {key: getattr(checked, key) for key in checked.model_fields_set}
            except ValidationError as error:
                known = [*schema.model_fields, *model.model_fields]
                problems += _explain(error, schema, at, source, known, f" of {part.registry.kind} {name!r}")
    return problems


def _component_model(section: str) -> type[Component]:
    model: type[BaseModel] = Config
    for step in section.split("."):
        annotation: Any = model.model_fields[step].annotation
        if get_origin(annotation) is not None:  # list[Loss], Protocol | None
            known = (a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, Component))
            annotation = next(known)
        model = annotation
    assert issubclass(model, Component)
    return model


def _explain(
    error: ValidationError,
    model: type[BaseModel],
    at: str,
    source: Source,
    known: Sequence[str] = (),
    owner: str = "",
) -> list[str]:
    texts: dict[str, str] = {}
    for problem in error.errors():
        steps = [str(s) for s in problem["loc"] if not _MEMBER.match(str(s))]
        full = ".".join([at, *steps] if at else steps)
        if problem["type"] == "extra_forbidden":
            names = known or _keys_at(model, steps[:-1])
            text = f"unknown key {full!r}{owner}{did_you_mean(steps[-1], names)}"
        elif problem["type"] == "missing":
            text = f"{full!r}{owner} must be given"
        else:
            said = problem["msg"].removeprefix("Value error, ")
            said, got = said[0].lower() + said[1:], f", got {problem['input']!r}"
            # The members of a union complain one by one.
            before = texts[full].removesuffix(got) + ", or " if full in texts else f"{full!r}{owner}: "
            text = f"{before}{said}{got}"
        texts[full] = text
    return [f"{source.of(full)}: {text}" for full, text in texts.items()]


def _keys_at(model: type[BaseModel], steps: Sequence[str]) -> list[str]:
    """The keys that are known at a place of the schema."""
    current: Any = model
    for step in steps:
        if step.isdigit():
            continue
        annotation: Any = current.model_fields[step].annotation
        while get_origin(annotation) in (list, Union, types.UnionType, Annotated):
            annotation = next((a for a in get_args(annotation) if a is not type(None)), None)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        current = annotation
    return list(current.model_fields)
