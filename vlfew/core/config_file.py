"""Read a YAML file and `key=value` overrides into a checked `Config`, listing every mistake at once.

Each mistake is reported with its file and line, or with the override that caused it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from vlfew.core.config import Config
from vlfew.core.errors import ConfigError, VlfewError, did_you_mean
from vlfew.core.overrides import UNKNOWN, apply_override
from vlfew.core.recipes import list_recipes
from vlfew.core.registry import Registry
from vlfew.core.renamed import renamed_key, renamed_option, renamed_value
from vlfew.core.upgrade import upgrade_config
from vlfew.core.yaml_loader import SettingsLoader, yaml_problem

_UNION_MEMBER = re.compile(r"function-|constrained-|(literal|tuple|list)\[|(int|str|float|bool)$")
"""Steps that pydantic adds to an error's location to say which member of a union failed."""


@dataclass
class Part:
    """The registry behind a component section; `key` holds the component's name within the section."""

    registry: Registry
    key: str


@dataclass
class Origins:
    """Where each key was set: dotted path to `file:line`, or to the override itself."""

    places: dict[str, str] = field(default_factory=dict)

    def set(self, path: str, place: str) -> None:
        """Record that a key, and everything beneath it, was set at `place`."""
        for beneath in [known for known in self.places if known.startswith(f"{path}.")]:
            del self.places[beneath]
        self.places[path] = place

    def of(self, path: str) -> str:
        """Where a key was set, or else something beneath it (by an override), or the closest section around it."""
        if path and path not in self.places:
            path = next((known for known in self.places if known.startswith(f"{path}.")), path)
        while path and path not in self.places:
            path = path.rpartition(".")[0]
        return self.places.get(path, self.places.get("", ""))


def load_config(path: Path, overrides: Sequence[str] = (), parts: Mapping[str, Part] | None = None) -> Config:
    """Read a YAML file and `key=value` overrides, and check everything.

    Args:
        path: YAML file; its key `base: other.yaml`, if any, names a file or a recipe to start from.
        overrides: dotted keys with values (`optim.lr=1e-3`, `objective.0.weight=2`), see `vlfew.core.overrides`.
        parts: section name (dotted if nested) to the registry that checks its component options.

    Raises:
        ConfigError: one line per mistake: file, line, what is wrong, a suggestion.
    """
    origins = Origins()
    values = read_yaml(path, origins, parts=parts or {})
    named = deepcopy(values)  # with every component's name, which says what types its options have
    for override in overrides:
        apply_override(named, override, lambda key: UNKNOWN)
    _drop_replaced_options(values, named, parts or {})
    problems = []
    for override in overrides:
        key, problem = apply_override(values, override, lambda key: _type_of(key, named, parts or {}))
        origins.set(key, f"override {override}")
        problems += [problem] if problem else []
    if problems:
        raise ConfigError(problems)
    values.setdefault("name", path.stem)
    return parse_config(values, parts or {}, origins)


def load_saved_config(path: Path) -> Config:
    """Read the `config.yaml` of a run folder, which an older version may have written.

    Raises:
        ConfigError: as for `load_config`.
    """
    origins = Origins()
    return parse_config(upgrade_config(read_yaml(path, origins)), {}, origins)


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML that `load_config` reads back unchanged."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_config(values: dict[str, Any], parts: Mapping[str, Part], origins: Origins | None = None) -> Config:
    """Check plain values; see `load_config`."""
    origins = origins or Origins({"": "config"})
    config: Config | None = None
    option_problems = _check_parts(values, parts, origins)
    problems: list[str] = []
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems += explain(error, "", origins)
    problems += option_problems
    if config is None or problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return config


def parse_values(pairs: Sequence[str], schema: type[BaseModel], owner: str, at: str = "") -> dict[str, Any]:
    """Read `key=value` pairs as options of a component.

    Args:
        pairs: see `vlfew.core.overrides`.
        schema: of the options.
        owner: the component, for messages.
        at: section of the configuration that the options belong to, for hints about renamed keys.

    Raises:
        ConfigError: one line per mistake.
    """
    values: dict[str, Any] = {}
    origins = Origins({"": "options"})
    problems = []
    for pair in pairs:
        key, problem = apply_override(values, pair, lambda key: _field_type(schema, key))
        origins.set(f"{at}.{key}" if at else key, f"override {pair}")
        problems += [problem] if problem else []
    try:
        checked = schema.model_validate(values)
    except ValidationError as error:
        problems += explain(error, at, origins, list(schema.model_fields), f" of {owner}")
    if problems:
        raise ConfigError(problems)
    return {key: getattr(checked, key) for key in checked.model_fields_set}


def read_yaml(
    path: Path,
    origins: Origins,
    seen: tuple[Path, ...] = (),
    kind: str = "configuration file",
    parts: Mapping[str, Part] | None = None,
) -> dict[str, Any]:
    """Read a YAML mapping, merged over the one that its key `base` names.

    Args:
        path: YAML file.
        origins: receives the line of every key.
        seen: files whose `base` led here.
        kind: what the file is, for messages.
        parts: the sections of components: where a file names another component than its `base`, the options that the
            base gives the replaced one are left out.

    Raises:
        ConfigError: the file is missing, not YAML, or not a mapping.
    """
    if path.resolve() in seen:
        raise ConfigError(f"{path}: a chain of 'base' files leads back to this file")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        similar = did_you_mean(path.name, [p.name for p in path.parent.glob("*.yaml")])
        raise ConfigError(f"{path}: no such {kind}{similar}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    try:
        node = yaml.compose(text, SettingsLoader)
        values = yaml.load(text, SettingsLoader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(yaml_problem(path, error)) from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:1: expected a mapping of settings")
    if "base" in values:
        base = _base_file(path, str(values.pop("base")))
        below = read_yaml(base, origins, (*seen, path.resolve()), kind, parts)
        merged = _merge(below, values)
        _drop_replaced_options(below, merged, parts or {})
        values = _merge(below, values)
    origins.places[""] = str(path)
    _record_lines(node, "", path, origins)
    return values


def _base_file(path: Path, name: str) -> Path:
    """The file that `base: NAME` means in a file: one beside it, or else the recipe of that name.

    Raises:
        ConfigError: there is neither.
    """
    if (beside := path.parent / name).is_file():
        return beside
    recipes = {recipe.name: recipe.path for recipe in list_recipes()}
    # A copied study names its base `../NAME.yaml`.
    recipe = name.removeprefix("../").removesuffix(".yaml")
    named = recipes.get(recipe) or recipes.get(f"studies/{recipe}")
    if named is None:
        known = [*recipes, *(file.name for file in path.parent.glob("*.yaml") if file != path)]
        raise ConfigError(
            f"{path}: base: no file {name!r} next to it, and no such recipe{did_you_mean(recipe, known)}"
        )
    return named


def _merge(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {k: _merge(base[k], v) if k in base else v for k, v in over.items()}
    return over


def _record_lines(node: Any, at: str, path: Path, origins: Origins) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = f"{at}.{key.value}" if at else str(key.value)
            place = f"{path}:{key.start_mark.line + 1}"
            if isinstance(value, yaml.MappingNode):  # merged over the base file's
                origins.places[here] = place
            else:
                origins.set(here, place)
            _record_lines(value, here, path, origins)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            origins.places[f"{at}.{number}"] = f"{path}:{value.start_mark.line + 1}"
            _record_lines(value, f"{at}.{number}", path, origins)


def _drop_replaced_options(values: dict[str, Any], after: Any, parts: Mapping[str, Part]) -> None:
    """Removes the options of components that are replaced by name, since they are options of the replaced ones.

    Args:
        values: a configuration, which is changed.
        after: the same with what is set over it.
        parts: the sections of components.
    """
    for section, part in parts.items():
        model = _model_at(section.split("."))
        assert model is not None
        default = model.model_fields[part.key].get_default()
        for entry, new in _entries(values, after, section.split(".")):
            old_name, new_name = entry.get(part.key, default), new.get(part.key, default)
            if not isinstance(new_name, str) or part.registry.same_component(old_name, new_name):
                continue
            for option in [key for key in entry if key not in model.model_fields]:
                del entry[option]


def _entries(
    values: Any, after: Any, steps: Sequence[str]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The components of a section in two configurations, one by one where it lists several."""
    for step in steps:
        values = values.get(step) if isinstance(values, dict) else None
        after = after.get(step) if isinstance(after, dict) else None
    pairs = (
        zip(values, after, strict=False)
        if isinstance(values, list) and isinstance(after, list)
        else [(values, after)]
    )
    for one, other in pairs:
        if isinstance(one, dict) and isinstance(other, dict):
            yield one, other


def _check_parts(values: dict[str, Any], parts: Mapping[str, Part], origins: Origins) -> list[str]:
    """Check and convert the component options of every section in `parts`; returns the problems."""
    problems = []
    for section, part in parts.items():
        model = _model_at(section.split("."))
        assert model is not None
        value: Any = values
        for step in section.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        entries = enumerate(value) if isinstance(value, list) else [(None, value)]
        for number, entry in entries:
            at = section if number is None else f"{section}.{number}"
            if isinstance(entry, str):
                entry = {part.key: entry}
            if not isinstance(entry, dict):
                continue  # the typed models report it
            name = entry.get(part.key, model.model_fields[part.key].get_default())
            if not isinstance(name, str):
                continue
            options = {k: v for k, v in entry.items() if k not in model.model_fields}
            try:
                schema = part.registry.options(name)
            except VlfewError as error:
                problems.append(f"{origins.of(f'{at}.{part.key}')}: {error}")
                continue
            try:
                checked = schema.model_validate(options)
                entry |= {key: getattr(checked, key) for key in checked.model_fields_set}
            except ValidationError as error:
                known = [*schema.model_fields, *model.model_fields]
                problems += explain(error, at, origins, known, f" of {part.registry.kind} {name!r}")
    return problems


def explain(
    error: ValidationError, at: str, origins: Origins, known: Sequence[str] | None = None, owner: str = ""
) -> list[str]:
    """One line per mistake: where it was made, the key, and what is wrong with it.

    Args:
        error: of a section of the configuration, or of a component's options.
        at: the section.
        origins: where keys were set.
        known: the keys of a component; those of the configuration by default.
        owner: the component, for messages.
    """
    texts: dict[str, str] = {}
    for problem in error.errors():
        steps = [str(s) for s in problem["loc"] if not _UNION_MEMBER.match(str(s))]
        full = ".".join([at, *steps] if at else steps)
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            keys = getattr(_model_at(steps[:-1]), "model_fields", ()) if known is None else known
            hint = renamed_key(full) or renamed_option(steps[-1], keys) or did_you_mean(steps[-1], keys)
            text = f"unknown key {full!r}{owner}{hint}"
        elif problem["type"] == "missing":
            text = f"{full!r}{owner} must be given"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            got = f", got {problem['input']!r}{renamed_value(full, problem['input'])}"
            # The members of a union fail one by one.
            before = texts[full].removesuffix(got) + ", or " if full in texts else f"{full!r}{owner}: "
            text = f"{before}{message[0].lower()}{message[1:]}{got}"
        texts[full] = text
    return [f"{origins.of(full)}: {text}" for full, text in texts.items()]


def _model_at(steps: Sequence[str]) -> type[BaseModel] | None:
    """The section of the schema at a place in a configuration, such as `LossConfig` at `objective.0`."""
    model: type[BaseModel] | None = Config
    for step in steps:
        if model is not None and not step.isdigit():
            model = _section_model(model.model_fields[step].annotation)
    return model


def _type_of(key: str, values: Any, parts: Mapping[str, Part]) -> Any:
    """The type of a dotted key: of the schema, or an option of the component that `values` name there."""
    *steps, last = key.split(".")
    at, section = values, ".".join(step for step in steps if not step.isdigit())
    try:
        model = _model_at(steps)
        for step in steps:
            at = at[int(step)] if isinstance(at, list) else at[step]
        if model is None or last in model.model_fields or section not in parts:
            return UNKNOWN if model is None else _field_type(model, last)
        part = parts[section]
        name = at if isinstance(at, str) else at.get(part.key, model.model_fields[part.key].get_default())
        return _field_type(part.registry.options(name), last)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, VlfewError):
        return UNKNOWN  # the mistake is reported when the value is set or checked


def _field_type(model: type[BaseModel], key: str) -> Any:
    info = model.model_fields.get(key)
    if info is None:
        return UNKNOWN
    annotation: Any = UNKNOWN if info.annotation is None else info.annotation
    for constraint in info.metadata:
        annotation = Annotated[annotation, constraint]
    return annotation


def _section_model(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as `list[LossConfig]` or `ProtocolConfig | None`."""
    if get_origin(annotation) is None:
        return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
    return next(filter(None, map(_section_model, get_args(annotation))), None)


def keys_named(name: str, model: type[BaseModel] = Config, at: str = "") -> list[str]:
    """The dotted keys of the configuration whose last part is `name`."""
    found = []
    for key, info in model.model_fields.items():
        section = None if get_origin(info.annotation) is list else _section_model(info.annotation)
        if section is not None:
            found += keys_named(name, section, f"{at}{key}.")
        elif key == name:
            found.append(f"{at}{key}")
    return found
