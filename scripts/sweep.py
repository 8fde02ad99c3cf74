"""`python scripts/sweep.py CONFIG GRID [--runs FOLDER] [key=value ...]`: a run for every cell of a grid.

The grid is YAML: axis to value to the overrides that make it (a list of `key=value`). Each cell is a run
folder `FOLDER/<config name>/<value>-<value>...`; what is finished is not done again, so a sweep that was
stopped goes on by the same command. At the end the results stand as a Markdown table, a row a cell.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from pathlib import Path

import yaml

from vlfew.errors import ConfigError, VlfewError
from vlfew.evaluation.results import read_results
from vlfew.pipeline import run_pipeline
from vlfew.report.wording import accuracy, setting
from vlfew.training.setup import read_config


def read_grid(path: Path) -> dict[str, dict[str, list[str]]]:
    """Axis to value to overrides.

    Raises:
        ConfigError: not such a file.
    """
    try:
        grid = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {str(error).splitlines()[0]}") from None
    sound = isinstance(grid, dict) and all(
        isinstance(values, dict) and values and all(isinstance(o, list) for o in values.values())
        for values in grid.values()
    )
    if not sound or not grid:
        raise ConfigError(f"{path}: expected axis: {{value: [key=value, ...], ...}} for each axis")
    return {
        str(axis): {str(value): [str(o) for o in overrides] for value, overrides in values.items()}
        for axis, values in grid.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("grid", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args()
    grid, name = read_grid(args.grid), read_config(args.config, args.overrides).name
    cells = []
    for values in itertools.product(*grid.values()):
        made = [o for axis, value in zip(grid, values, strict=True) for o in grid[axis][value]]
        folder = "-".join(re.sub(r"[^\w.+]+", "_", value) for value in values)
        cells.append((values, [*args.overrides, *made, f"name={name}/{folder}"]))
    for _, overrides in cells:  # a mistake in the last cell is told before the first is trained
        read_config(args.config, overrides)
    rows = []
    for number, (values, overrides) in enumerate(cells, 1):
        print(f"cell {number} of {len(cells)}: {', '.join(values)}", file=sys.stderr, flush=True)
        run = run_pipeline(args.config, overrides, args.runs)
        rows.append((values, read_results(run.results)))
    asked = [f"{result.protocol} {setting(result)}" for result in rows[0][1]]
    print("| " + " | ".join([*grid, *asked]) + " |")
    print("|---" * (len(grid) + len(asked)) + "|")
    for values, results in rows:
        print("| " + " | ".join([*values, *(accuracy(result) for result in results)]) + " |")


if __name__ == "__main__":
    try:
        main()
    except VlfewError as error:
        sys.exit(f"sweep: {error}")
