"""The configurations that come with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlfew.core.errors import ConfigError
from vlfew.core.recipes import Recipe, find_recipe, list_recipes, recipes_folder


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_every_recipe_has_a_summary_its_needs_and_its_time(recipe: Recipe) -> None:
    lines = recipe.path.read_text(encoding="utf-8").splitlines()
    header = lines[: next(n for n, line in enumerate(lines) if not line.startswith("#"))]
    for key in ("Needs", "Time"):
        assert sum(line.startswith(f"# {key}: ") for line in header) == 1
    assert 20 < len(recipe.summary) < 200
    assert recipe.needs != "-"


def test_all_configurations_are_recipes_except_grids() -> None:
    names = [recipe.name for recipe in list_recipes()]
    files = sorted(recipes_folder().rglob("*.yaml"))
    assert len(names) == len(set(names)) == sum(not path.stem.endswith("_grid") for path in files)
    assert "/" not in names[0] and names[-1].startswith("studies/")


def test_a_recipe_is_found_by_name_and_an_existing_file_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("quickstart") == recipes_folder() / "quickstart.yaml"
    assert find_recipe("studies/mnist_focal") == recipes_folder() / "studies/mnist_focal.yaml"
    (tmp_path / "quickstart").write_text("name: mine\n")
    assert find_recipe("quickstart").resolve() == tmp_path / "quickstart"
    assert find_recipe("mine.yaml") == Path("mine.yaml")  # reading it names the missing file
    with pytest.raises(ConfigError, match=r"qickstart: no such .* recipe; did you mean 'quickstart'\?"):
        find_recipe("qickstart")
