"""The configurations that come with the package.

In the wheel they are `vlfew/recipes/`; in a clone, `configs/`. The comment at the top of a recipe starts with its
summary, and has lines `Needs: ...` and `Time: ...`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vlfew.core.checks import to_path
from vlfew.core.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class Recipe:
    """A shipped configuration.

    Attributes:
        name: such as `quickstart` or `studies/mnist_focal`.
        path: of the YAML file.
        summary: the first sentence of its comment.
        needs: the data it needs.
        time: of training on one or two CPU cores, where it was measured (docs, results).
    """

    name: str
    path: Path
    summary: str
    needs: str
    time: str


def recipes_folder() -> Path:
    """Folder of the shipped configurations."""
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "configs"


def list_recipes() -> list[Recipe]:
    """All shipped configurations, the general ones first."""
    folder = recipes_folder()
    files = [path for path in folder.rglob("*.yaml") if not path.stem.endswith("_grid")]
    return [
        _read(path, folder) for path in sorted(files, key=lambda p: (len(p.relative_to(folder).parts), p))
    ]


def find_recipe(name: str | Path) -> Path:
    """The path of a configuration: an existing file, or else a recipe of that name.

    Raises:
        ConfigError: there is neither.
    """
    path = to_path(name, "the configuration")
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        return path
    known = {recipe.name: recipe.path for recipe in list_recipes()}
    if str(name) not in known:
        raise ConfigError(
            f"{name}: no such configuration file or recipe{did_you_mean(str(name), known)} (vlfew recipes)"
        )
    return known[str(name)]


def _read(path: Path, folder: Path) -> Recipe:
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    fields = {m[1]: m[2] for line in comment if (m := re.match(r"(Needs|Time): (.*)", line))}
    text = " ".join(line for line in comment if not re.match(r"(Needs|Time): ", line))
    summary = re.split(r"(?<=[.?])(?<! al\.)\s", text, maxsplit=1)[0]
    name = path.relative_to(folder).with_suffix("").as_posix()
    return Recipe(name, path, summary, fields.get("Needs", "-"), fields.get("Time", "-"))
