"""Commands whose options are those of a registered component.

A component's keyword-only parameters, their types, defaults and docstring lines are its options on the command line.
They are read from the source, so help and completion import neither the component nor torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import rich_click as click

from vlfew.core.errors import VlfewError
from vlfew.core.registry import Registry
from vlfew.core.signatures import Option

_LITERAL = re.compile(r"Literal\[([^\]]*)\]")


COMMANDS = Registry(
    "command",
    {
        "adapt": "vlfew.evaluation.adaptation.compare:compare_methods",
        "data show": "vlfew.workflows.show_data:show_data",
        "tune": "vlfew.workflows.tune:tune",
    },
)
"""Functions whose keyword-only parameters are the options of a command."""


class ComponentGroup(click.RichGroup):
    """A group with one command per component of a registry.

    Args:
        registry: gives the components; called on first use.
        build: makes the command of a component from its name and options.
    """

    def __init__(
        self,
        *args: Any,
        registry: Callable[[], Registry],
        build: Callable[[str, list[Option]], click.Command],
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self.registry, self.build = registry, build

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self.registry().names()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """`hf:NAME` may be one word or two."""
        prefix, colon, name = args[0].partition(":")
        if name and prefix + colon in self.registry().names():
            args = [prefix + colon, name, *args[1:]]
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        registry = self.registry()
        if cmd_name not in registry.names():
            if (
                "/" in cmd_name or Path(cmd_name).is_dir()
            ):  # the order before 0.2: `evaluate RUN --protocol P`
                kind = registry.kind
                raise VlfewError(f"the {kind} comes first: {ctx.command_path} {kind.upper()} {cmd_name}")
            registry.get(cmd_name)  # raises, with the closest name
        command = self.build(cmd_name, registry.signature(cmd_name))
        command.help = registry.summary(cmd_name)
        return command


def component_flags(options: Iterable[Option], prefix: str = "") -> list[click.Option]:
    """Flags of a component's options; all values are strings, for `component_values`.

    Args:
        options: of the component.
        prefix: put before each name, as in `--tip_adapter.beta`.
    """
    return [_flag(option, prefix) for option in options]


def component_values(given: dict[str, Any], options: Iterable[Option], prefix: str = "") -> dict[str, Any]:
    """The options that were given, by name; lists of numbers may have commas (`--shots 1,2,4`)."""
    values: dict[str, Any] = {}
    for option in options:
        value = given.get(_identifier(option, prefix))
        if value is None or value == ():
            continue
        if isinstance(value, tuple):
            numeric = re.search(r"\b(int|float)\b", option.annotation)
            value = [part for one in value for part in (one.split(",") if numeric else [one])]
            if len(value) == 1 and re.search(r"(^|\| )str\b", option.annotation):
                value = value[0]
        values[option.name] = value
    return values


def _identifier(option: Option, prefix: str) -> str:
    return re.sub(r"\W", "__", f"{prefix}{option.name}")


def _flag(option: Option, prefix: str) -> click.Option:
    name = f"{prefix}{option.name}" if prefix else option.name.replace("_", "-")
    if option.annotation == "bool" and not prefix:
        declaration = f"--{name}/--no-{name}" if option.default else f"--{name}"
        return click.Option(
            [declaration, _identifier(option, prefix)], is_flag=True, default=None, help=_sentence(option)
        )
    default = _default_text(option.default)
    return click.Option(
        [f"--{name}", _identifier(option, prefix)],
        multiple=bool(re.search(r"\b(list|tuple|Sequence)\[", option.annotation)),
        metavar=_metavar(option.annotation),
        help=_sentence(option) + (f" [default: {default}]" if default else ""),
        required=option.default is ...,
    )


def _sentence(option: Option) -> str:
    """The option's help; an entry such as `seed: of the draws` reads on from the name."""
    words = option.name.replace("_", " ")
    text = f"{words} {option.help}" if re.match("(of|on|by|at) ", option.help) else option.help
    return f"{text[:1].upper()}{text[1:]}"


def _default_text(value: Any) -> str:
    """A default as a user would write it: `1, 2, 4` of `(1, 2, 4)`."""
    if value is None or value is ...:
        return ""
    if isinstance(value, tuple | list):
        return ", ".join(map(_default_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _metavar(annotation: str) -> str:
    """`INT|all` of `int | Literal['all']`."""
    choices = [word.strip("'\" ") for literal in _LITERAL.findall(annotation) for word in literal.split(",")]
    rest = _LITERAL.sub("", annotation)
    if re.search(r"\b(list|tuple|Sequence)\[(int|float)\]", rest):
        return "INT,INT,..." if "int" in rest else "FLOAT,FLOAT,..."
    kinds = {"int": "INT", "float": "FLOAT", "Path": "PATH", "str": "TEXT", "bool": "true|false"}
    return (
        "|".join([*(shown for kind, shown in kinds.items() if re.search(rf"\b{kind}\b", rest)), *choices])
        or "VALUE"
    )
