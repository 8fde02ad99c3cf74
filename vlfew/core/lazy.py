"""Attributes of a package that are imported on first use (PEP 562)."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_attributes(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names live in other modules.

    Importing the package then does not import torch.

    Args:
        package: its `__name__`.
        modules: name of each attribute to the module that defines it.
    """

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return __getattr__


def lazy_imports(package: str, file: str) -> tuple[Callable[[str], Any], list[str]]:
    """The `__getattr__` and the `__all__` of a package whose names are imported under `if TYPE_CHECKING:`.

    Each name then stands once, where readers and type checkers look for it.

    Args:
        package: its `__name__`.
        file: its `__file__`.
    """
    blocks = [node for node in ast.parse(Path(file).read_text("utf-8")).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    modules = {alias.name: str(node.module) for node in imports for alias in node.names}
    return lazy_attributes(package, modules), sorted(modules)
