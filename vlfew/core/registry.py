"""Names to components, imported only when asked for.

A component is a function or class. Its *keyword-only parameters are its options*: the signature is
the schema that configurations are checked against, so adding a component is one file and one line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from vlfew.core.errors import ConfigError, VlfewError, did_you_mean


class Registry:
    """Maps `name` to `"module:attribute"`; `prefix:rest` names are entries that end in a colon.

    Args:
        kind: what the entries are, for messages ("backbone").
        entries: name to "module:attribute". An entry named `"timm:"` answers every `timm:NAME` and
            is called with NAME as its first argument.
    """

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self.entries = dict(entries)

    def names(self) -> list[str]:
        return list(self.entries)

    def _entry(self, name: str) -> tuple[str, str | None]:
        if name in self.entries and not name.endswith(":"):
            return self.entries[name], None
        prefix, colon, rest = name.partition(":")
        if colon and rest and prefix + ":" in self.entries:
            return self.entries[prefix + ":"], rest
        shown = [n + "NAME" if n.endswith(":") else n for n in self.entries]
        raise VlfewError(f"unknown {self.kind} {name!r}{did_you_mean(name, shown)}")

    def get(self, name: str) -> Callable[..., Any]:
        """The component; for `prefix:rest` names, with `rest` already bound as first argument.

        Raises:
            VlfewError: no such name; the message suggests the nearest one.
        """
        target, rest = self._entry(name)
        module, _, attribute = target.partition(":")
        component = getattr(import_module(module), attribute)
        if rest is None:
            return component
        return lambda *args, **kwargs: component(rest, *args, **kwargs)

    def options(self, name: str) -> type[BaseModel]:
        """A pydantic model of the component's options, made from its keyword-only parameters."""
        target, _ = self._entry(name)
        module, _, attribute = target.partition(":")
        component = getattr(import_module(module), attribute)
        return create_model(f"{name} options", __config__=ConfigDict(extra="forbid"), **_fields(component))

    def checked(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """`options` checked against the component's, with its defaults.

        Raises:
            ConfigError: unknown, missing or mistyped options, one line each.
        """
        schema = self.options(name)
        try:
            return schema(**options).model_dump()
        except ValidationError as error:
            problems = {}
            for e in error.errors():
                key = str(e["loc"][0])
                if e["type"] == "extra_forbidden":
                    problems[key] = f"{name} has no option {key!r}{did_you_mean(key, schema.model_fields)}"
                elif e["type"] == "missing":
                    problems[key] = f"{name} needs the option {key!r}"
                else:  # the members of a union complain one by one
                    before = problems.get(key, f"{name}: {key}={e['input']!r}")
                    problems[key] = f"{before}; {e['msg'][0].lower()}{e['msg'][1:]}"
            raise ConfigError(problems.values()) from error


def _fields(component: Callable[..., Any]) -> dict[str, Any]:
    """Type and default of each option; a class that takes `**options` has those of its base as well."""
    functions = [component]
    if inspect.isclass(component):
        functions = [vars(kind)["__init__"] for kind in component.__mro__ if "__init__" in vars(kind)]
    fields: dict[str, Any] = {}
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        hints = get_type_hints(function, include_extras=True)  # ranges that an option has to be in
        own = {
            p.name: (hints[p.name], ... if p.default is p.empty else p.default)
            for p in parameters
            if p.kind is p.KEYWORD_ONLY
        }
        fields = own | fields
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return fields
