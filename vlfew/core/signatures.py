"""The options of a component, read from its source without importing it.

Listing options for help and shell completion must not wait for torch. Values are checked later against the real
signature (`Registry.options`).
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Option:
    """A keyword-only parameter of a component.

    Attributes:
        name: of the parameter.
        annotation: its type, as in the source; names of type aliases are replaced by the types.
        default: its default; `...` if it is required.
        help: its line in the docstring's Args.
    """

    name: str
    annotation: str
    default: Any
    help: str


def component_summary(target: str) -> str:
    """The first sentence of the docstring of `"module:attribute"`."""
    node, _ = _definition(target)
    return (ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " ")


def component_options(target: str) -> list[Option]:
    """The keyword-only parameters of `"module:attribute"`; a class that takes `**options` inherits its base's."""
    node, module = _definition(target)
    help_lines = _argument_help(ast.get_docstring(node) or "")
    if isinstance(node, ast.FunctionDef):
        return _keyword_options(node, help_lines, module)
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    own = []
    if init is not None:
        own = _keyword_options(init, help_lines | _argument_help(ast.get_docstring(init) or ""), module)
    if (init is None or init.args.kwarg is not None) and node.bases:
        base = ast.unparse(node.bases[0])
        if _find(base, module) is not None:
            names = {option.name for option in own}
            own += [option for option in component_options(f"{module}:{base}") if option.name not in names]
    return [replace(option, help=option.help or help_lines.get(option.name, "")) for option in own]


@cache
def _module(name: str) -> ast.Module:
    # Modules of this package are found by their path: `find_spec` would import the packages around them.
    base = Path(__file__).parents[2].joinpath(*name.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if not path.is_file():
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(name)
        path = Path(spec.origin)
    return ast.parse(path.read_text(encoding="utf-8"))


def _find(name: str, module: str) -> tuple[ast.stmt, str] | None:
    """The statement that defines a name of a module, and the module of this package where it stands."""
    for node in _module(module).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node, module
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            return node, module
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vlfew"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _find(alias.name, str(node.module))
    return None


def _definition(target: str) -> tuple[ast.FunctionDef | ast.ClassDef, str]:
    module, _, attribute = target.partition(":")
    node, module = _find(attribute, module) or (None, module)
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        raise AttributeError(f"{module} has no {attribute}")
    return node, module


def _keyword_options(function: ast.FunctionDef, help_lines: dict[str, str], module: str) -> list[Option]:
    def text(node: ast.expr) -> str:
        return ast.unparse(_InsertConstants(module).visit(deepcopy(node)))

    return [
        Option(
            argument.arg,
            "" if argument.annotation is None else text(argument.annotation),
            ... if default is None else eval(text(default), {"math": math}),
            help_lines.get(argument.arg, ""),
        )
        for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    ]


class _InsertConstants(ast.NodeTransformer):
    """Replaces names by what is assigned to them in a module, or in the module of this package they come from."""

    def __init__(self, module: str) -> None:
        self.module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        statement, _ = _find(node.id, self.module) or (None, "")
        return statement.value if isinstance(statement, ast.Assign) else node


def _argument_help(docstring: str) -> dict[str, str]:
    """The entries of the section `Args:` of a Google-style docstring, each on one line."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", inspect.cleandoc(docstring), re.MULTILINE)
    if section is None:
        return {}
    entries: dict[str, str] = {}
    for names, text in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {5,}.*)*)", section[1], re.MULTILINE):
        for name in names.split(","):
            entries[name.strip()] = re.sub(r"\s*\n\s*", " ", text)
    return entries
