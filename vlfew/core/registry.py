"""Registries: names of components, imported on first use.

A component is a function or class. Its *keyword-only parameters are its options*: the signature is the schema that
configurations and command lines are checked against, so adding a component is one file and one line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_type_hints

from vlfew.core.errors import ConfigError, VlfewError, describe_value, did_you_mean
from vlfew.core.renamed import renamed_option, renamed_value
from vlfew.core.signatures import Option, component_options, component_summary

if TYPE_CHECKING:
    from pydantic import BaseModel


class Registry:
    """Maps names to `"module:attribute"`.

    Args:
        kind: what the entries are, for messages ("backbone").
        entries: name to "module:attribute". An entry named `"timm:"` serves every `timm:NAME` and is called with
            NAME as its first argument.
    """

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        self.kind = kind
        self.entries = dict(entries)

    def names(self) -> list[str]:
        """All registered names; those of families end in a colon."""
        return list(self.entries)

    def _entry(self, name: str) -> tuple[str, str | None]:
        if not isinstance(name, str):
            raise VlfewError(
                f"the {self.kind} must be a name, got {describe_value(name)}{did_you_mean('', self.entries)}"
            )
        if name in self.entries:
            return self.entries[name], None
        prefix, colon, rest = name.partition(":")
        if colon and rest and prefix + ":" in self.entries:
            return self.entries[prefix + ":"], rest
        shown = [n + "NAME" if n.endswith(":") else n for n in self.entries]
        hint = renamed_value(self.kind, name) or did_you_mean(name, shown)
        raise VlfewError(f"unknown {self.kind} {name!r}{hint}")

    def same_component(self, first: object, second: object) -> bool:
        """Whether two names stand for one component, as `timm:resnet18` and `timm:resnet50` do; so do unknown ones."""
        try:
            return first == second or self._entry(first)[0] == self._entry(second)[0]  # type: ignore[arg-type]
        except VlfewError:
            return True

    def _component(self, name: str) -> Callable[..., Any]:
        target, _ = self._entry(name)
        module, _, attribute = target.partition(":")
        try:
            component: Callable[..., Any] = getattr(import_module(module), attribute)
        except (ModuleNotFoundError, AttributeError) as error:
            if isinstance(error, ModuleNotFoundError) and error.name != module:
                raise  # a package that the component needs
            raise VlfewError(
                f"{self.kind} {name!r} is registered as {target!r}, which does not exist: {error}"
            ) from None
        return component

    def get(self, name: str) -> Callable[..., Any]:
        """The component; for `prefix:rest` names, with `rest` bound as its first argument.

        Raises:
            VlfewError: unknown name; suggests the closest one.
        """
        component, rest = self._component(name), self._entry(name)[1]
        if name.endswith(":"):
            raise VlfewError(f"{self.kind} {name!r} needs a name after the colon")
        if rest is None:
            return component
        return lambda *args, **kwargs: component(rest, *args, **kwargs)

    def summary(self, name: str) -> str:
        """The first sentence of the component's docstring, read without importing it."""
        return component_summary(self._entry(name)[0])

    def signature(self, name: str) -> list[Option]:
        """The component's options, read without importing it."""
        return component_options(self._entry(name)[0])

    def options(self, name: str) -> type[BaseModel]:
        """A pydantic model of the component's options, built from its keyword-only parameters."""
        from pydantic import ConfigDict, create_model

        fields = _fields(self._component(name))
        return create_model(f"{name} options", __config__=ConfigDict(extra="forbid"), **fields)

    def checked(self, name: str, options: dict[str, Any], flags: bool = False) -> dict[str, Any]:
        """Check `options` against the component's schema and fill in its defaults.

        Args:
            name: of the component.
            options: by name.
            flags: they were given on the command line, where messages call `image_size` `--image-size`.

        Raises:
            ConfigError: unknown, missing or invalid options, one line each.
        """
        from pydantic import ValidationError

        schema = self.options(name)
        options = {str(key): value for key, value in options.items()}
        try:
            return schema(**options).model_dump()
        except ValidationError as error:
            problems = {}
            for e in error.errors():
                key = str(e["loc"][0])
                shown = f"--{key.replace('_', '-')} {e['input']}" if flags else f"{key}={e['input']!r}"
                if e["type"] == "extra_forbidden":
                    known = schema.model_fields
                    hint = renamed_option(key, known) or did_you_mean(key, known)
                    problems[key] = f"{name} has no option {key!r}{hint}"
                elif e["type"] == "missing":
                    problems[key] = f"{name} needs the option {key!r}"
                else:  # the members of a union fail one by one
                    before = problems.get(key, f"{name}: {shown}")
                    problems[key] = f"{before}; {e['msg'][0].lower()}{e['msg'][1:]}"
            raise ConfigError(problems.values()) from error


def _fields(component: Callable[..., Any]) -> dict[str, Any]:
    """Type and default of every option; a class that takes `**options` inherits those of its base."""
    from vlfew.core.overrides import with_user_paths

    functions = [component]
    if inspect.isclass(component):
        functions = [vars(kind)["__init__"] for kind in component.__mro__ if "__init__" in vars(kind)]
    fields: dict[str, Any] = {}
    for function in functions:
        parameters = inspect.signature(function).parameters.values()
        hints = get_type_hints(function, include_extras=True)  # with the allowed ranges
        own = {
            p.name: (with_user_paths(hints[p.name]), ... if p.default is p.empty else p.default)
            for p in parameters
            if p.kind is p.KEYWORD_ONLY
        }
        fields = own | fields
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return fields
