"""`python scripts/sweep.py CONFIG GRID [--runs FOLDER] [key=value ...]`: a run for every cell of a grid.

The grid is YAML: axis to value to the overrides that make it (a list of `key=value`). Each cell is a run
folder `FOLDER/<config name>/<value>-<value>...`; what is finished is not done again, so a sweep that was
stopped goes on by the same command. At the end the results stand as a Markdown table, a row a cell, with the
validation accuracy by which a cell is to be chosen. A cell that fails says so in its row, and the exit status is 2.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import yaml

from vlfew.core.cpu_tuning import tuned_process
from vlfew.core.errors import ConfigError, VlfewError, error_context
from vlfew.core.yaml_loader import SettingsLoader, problem_of
from vlfew.evaluation.results import Result, read_results
from vlfew.report.formatting import accuracy, percent, setting
from vlfew.training.run_folder import validation_of
from vlfew.training.trainer import TrainingInterrupted
from vlfew.workflows.assemble import read_config
from vlfew.workflows.train import train


def read_grid(path: Path) -> dict[str, dict[str, list[str]]]:
    """Axis to value to overrides.

    Raises:
        ConfigError: not such a file.
    """
    try:
        grid = yaml.load(path.read_text(encoding="utf-8"), SettingsLoader)
    except yaml.YAMLError as error:
        raise ConfigError(problem_of(path, error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
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


class Cell(NamedTuple):
    """A value of each axis, and the overrides that make the run of them."""

    values: tuple[str, ...]
    folder: str
    overrides: list[str]


class Row(NamedTuple):
    """What has come of a cell: `validation` is a fraction or None, `failed` empty where nothing did."""

    values: tuple[str, ...]
    validation: float | None = None
    results: Sequence[Result] = ()
    failed: str = ""


def cells_of(grid: dict[str, dict[str, list[str]]], name: str, overrides: Sequence[str]) -> list[Cell]:
    """Every combination of values, the last axis running fastest.

    Raises:
        ConfigError: two of them would have one run folder.
    """
    cells: dict[str, Cell] = {}
    for values in itertools.product(*grid.values()):
        made = [o for axis, value in zip(grid, values, strict=True) for o in grid[axis][value]]
        folder = "-".join(re.sub(r"[^\w.+]+", "_", value) for value in values)
        if folder in cells:
            both = " and ".join(repr(", ".join(one)) for one in (cells[folder].values, values))
            raise ConfigError(f"the cells {both} would both be the run {name}/{folder}; rename a value")
        cells[folder] = Cell(values, folder, [*overrides, *made, f"name={name}/{folder}"])
    return list(cells.values())


def table(axes: Sequence[str], rows: Sequence[Row]) -> str:
    """The rows as Markdown, with the columns of all; in percent."""
    figures = [_by_column(row.results) for row in rows]
    columns = list(dict.fromkeys(column for own in figures for column in own))
    lines = [[*axes, "best validation", *columns], ["---"] * (len(axes) + 1 + len(columns))]
    for row, own in zip(rows, figures, strict=True):
        reached = "-" if row.validation is None else percent(row.validation)
        told = f"failed: {row.failed}" if row.failed else reached
        lines.append([*row.values, told, *(own.get(column, "-") for column in columns)])
    return "\n".join("| " + " | ".join(word.replace("|", "\\|") for word in line) + " |" for line in lines)


def _by_column(results: Sequence[Result]) -> dict[str, str]:
    """Column to figure; what one cell is asked twice (by two scorers) has two columns."""
    found: dict[str, str] = {}
    for result in results:
        column = again = f"{result.protocol} {setting(result)}"
        count = 1
        while again in found:
            count += 1
            again = f"{column} ({count})"
        found[again] = accuracy(result)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the sweep; 2 where a cell failed, else 0.

    Raises:
        VlfewError: nothing was tried: the grid or a cell is no good; or training was stopped.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("grid", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    args = parser.parse_args(arguments)
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ConfigError(
            f"a sweep runs in one process, and {processes} were started; leave the launcher out"
        )
    grid, name = read_grid(args.grid), read_config(args.config, args.overrides).name
    cells = cells_of(grid, name, args.overrides)
    for cell in cells:  # a mistake in the last cell is told before the first is trained
        with error_context(f"{args.grid}: cell {', '.join(cell.values)}"):
            read_config(args.config, cell.overrides)
    rows = []
    for number, cell in enumerate(cells, 1):
        print(f"cell {number} of {len(cells)}: {', '.join(cell.values)}", file=sys.stderr, flush=True)
        try:
            with redirect_stdout(sys.stderr):  # what is printed is the table of all cells
                run = train(args.config, cell.overrides, args.runs)
            rows.append(Row(cell.values, validation_of(run), read_results(run.results)))
        except TrainingInterrupted:
            raise
        except VlfewError as error:
            rows.append(Row(cell.values, failed="; ".join(str(error).splitlines())))
            print(f"failed: {rows[-1].failed}", file=sys.stderr, flush=True)
    print(table(list(grid), rows))
    print("\nThe best of many test figures flatters: choose a cell by its validation.")
    return 2 if any(row.failed for row in rows) else 0


if __name__ == "__main__":
    try:
        with tuned_process():
            sys.exit(main())
    except (VlfewError, OSError) as error:
        for line in str(error).splitlines():
            print(f"sweep: {line}", file=sys.stderr)
        stopped = getattr(error, "signal", 0)
        sys.exit(128 + stopped if stopped else 2)
