"""`python scripts/sweep.py CONFIG GRID [--runs FOLDER] [key=value ...]`: train one run for every cell of a grid.

The grid is YAML: for each axis, its values, each with a list of overrides (`key=value`). A cell combines one value of
each axis; its run folder is `FOLDER/<config name>/<value>-<value>...`. The same command again continues an interrupted
sweep and skips finished runs. At the end it prints a Markdown table with one row per cell and its best validation
accuracy, which is what a cell should be chosen by. A cell that fails has the error in its row; the exit status is 2.
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
from signal import SIGINT
from typing import NamedTuple

import yaml

from vlfew.core.cpu_tuning import tuned_process
from vlfew.core.errors import ConfigError, VlfewError, error_context
from vlfew.core.yaml_loader import SettingsLoader, yaml_problem
from vlfew.evaluation.results import Result, read_results
from vlfew.report.formatting import accuracy, percent, setting
from vlfew.training.run_folder import validation_of
from vlfew.workflows.assemble import read_config
from vlfew.workflows.train import train


def read_grid(path: Path) -> dict[str, dict[str, list[str]]]:
    """Read a grid: axis to value to overrides.

    Raises:
        ConfigError: the file cannot be read, or does not have this form.
    """
    try:
        grid = yaml.load(path.read_text(encoding="utf-8"), SettingsLoader)
    except yaml.YAMLError as error:
        raise ConfigError(yaml_problem(path, error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    valid = isinstance(grid, dict) and all(
        isinstance(values, dict) and values and all(isinstance(o, list) for o in values.values())
        for values in grid.values()
    )
    if not valid or not grid:
        raise ConfigError(f"{path}: expected axis: {{value: [key=value, ...], ...}} for each axis")
    return {
        str(axis): {str(value): [str(o) for o in overrides] for value, overrides in values.items()}
        for axis, values in grid.items()
    }


class Cell(NamedTuple):
    """A combination of values, one of each axis.

    Attributes:
        values: in the order of the axes.
        folder: name of the run folder.
        overrides: of the configuration.
    """

    values: tuple[str, ...]
    folder: str
    overrides: list[str]


class Row(NamedTuple):
    """The outcome of a cell.

    Attributes:
        values: of the cell.
        validation: best validation accuracy, 0 to 1; None without a validation split.
        results: of the evaluations.
        failed: the error, if any.
    """

    values: tuple[str, ...]
    validation: float | None = None
    results: Sequence[Result] = ()
    failed: str = ""


def cells_of(grid: dict[str, dict[str, list[str]]], name: str, overrides: Sequence[str]) -> list[Cell]:
    """All combinations of values; the last axis varies fastest.

    Raises:
        ConfigError: two cells would have the same run folder.
    """
    cells: dict[str, Cell] = {}
    for values in itertools.product(*grid.values()):
        own = [o for axis, value in zip(grid, values, strict=True) for o in grid[axis][value]]
        folder = "-".join(re.sub(r"[^\w.+]+", "_", value) for value in values)
        if folder in cells:
            both = " and ".join(repr(", ".join(one)) for one in (cells[folder].values, values))
            raise ConfigError(f"the cells {both} would share the run folder {name}/{folder}; rename a value")
        cells[folder] = Cell(values, folder, [*overrides, *own, f"name={name}/{folder}"])
    return list(cells.values())


def table(axes: Sequence[str], rows: Sequence[Row]) -> str:
    """A Markdown table of the rows, in percent, with the columns of all results."""
    accuracies = [_by_column(row.results) for row in rows]
    columns = list(dict.fromkeys(column for own in accuracies for column in own))
    lines = [[*axes, "best validation", *columns], ["---"] * (len(axes) + 1 + len(columns))]
    for row, own in zip(rows, accuracies, strict=True):
        validation = "-" if row.validation is None else percent(row.validation)
        outcome = f"failed: {row.failed}" if row.failed else validation
        lines.append([*row.values, outcome, *(own.get(column, "-") for column in columns)])
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _by_column(results: Sequence[Result]) -> dict[str, str]:
    """Accuracy by column; two results with the same setting (of two methods) have two columns."""
    columns: dict[str, str] = {}
    for result in results:
        column = name = f"{result.protocol} {setting(result)}"
        count = 1
        while column in columns:
            count += 1
            column = f"{name} ({count})"
        columns[column] = accuracy(result)
    return columns


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep; returns 2 if a cell failed, otherwise 0.

    Raises:
        VlfewError: the grid or a cell is not valid (nothing is trained).
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
    for cell in cells:  # all are checked before the first is trained
        with error_context(f"{args.grid}: cell {', '.join(cell.values)}"):
            read_config(args.config, cell.overrides)
    rows = []
    for number, cell in enumerate(cells, 1):
        print(f"cell {number} of {len(cells)}: {', '.join(cell.values)}", file=sys.stderr, flush=True)
        try:
            with redirect_stdout(sys.stderr):  # standard output gets the table only
                run = train(args.config, cell.overrides, args.runs)
            rows.append(Row(cell.values, validation_of(run), read_results(run.results)))
        except VlfewError as error:
            rows.append(Row(cell.values, failed="; ".join(str(error).splitlines())))
            print(f"failed: {rows[-1].failed}", file=sys.stderr, flush=True)
    print(table(list(grid), rows))
    print("\nChoose a cell by its validation accuracy: the best of many test results is optimistic.")
    return 2 if any(row.failed for row in rows) else 0


if __name__ == "__main__":
    try:
        with tuned_process():
            sys.exit(main())
    except (VlfewError, OSError) as error:
        for line in str(error).splitlines():
            print(f"sweep: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(128 + SIGINT)
