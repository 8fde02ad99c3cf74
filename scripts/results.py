"""`python scripts/results.py RUN [RUN ...]`: results of run folders as Markdown, next to published results.

One table for each data set of `scripts/published.yaml` that a run was evaluated on, with a row for each published
system: its result and protocol, and our results by that protocol and by the standard one, in separate columns. Below
it are the commands that reproduce our results. A dash means that none of the given runs has the result. Results that
no published system refers to are in a last table.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from vlfew.core.errors import ConfigError, VlfewError
from vlfew.evaluation.results import Result
from vlfew.models.serialization import read_metadata
from vlfew.report.formatting import accuracy, duration, extras, outside_data, percent, setting
from vlfew.report.load_run import FinishedRun, load_runs
from vlfew.workflows.assemble import read_config

PUBLISHED = Path(__file__).with_name("published.yaml")
SYSTEM_COLUMNS = (
    "system",
    "config",
    "theirs %",
    "their protocol",
    "ours, their protocol %",
    "ours, standard protocol %",
    "runs",
    "training",
    "parameters",
    "input",
    "outside data",
)
RESULT_COLUMNS = (
    "protocol",
    "data",
    "setting",
    "input",
    "accuracy %",
    "each run",
    "also %",
    "interval over",
    "seed",
    "outside data",
    "command",
)
NOTHING = "-"


class Ours(BaseModel):
    """Names one of our results; further keys are fields or options that it must have.

    Attributes:
        run: name of the configuration; with `/` for a cell of a sweep.
        protocol: of the result.
    """

    model_config = ConfigDict(extra="allow")

    run: str
    protocol: str

    def matches(self, result: Result) -> bool:
        """Whether it is that result."""
        fields = result.options | result.model_dump()
        wanted = {"protocol": self.protocol} | (self.model_extra or {})
        return all(fields.get(key) == value for key, value in wanted.items())


class System(BaseModel):
    """A published system.

    Attributes:
        system: what it is.
        source: a citation, or the letter of a study.
        figure: their accuracy in percent, as printed; None if there is none.
        protocol: a description of their protocol.
        checked: whether the figure was checked in the original publication.
        config: our configuration that is closest to it, from `configs`.
        own: our result by their protocol.
        standard: our result by the standard protocol of the data set.
    """

    model_config = ConfigDict(extra="forbid")

    system: str
    source: str
    figure: str | None = None
    protocol: str
    checked: bool
    config: str | None = None
    own: Ours | None = None
    standard: Ours | None = None


class DataSet(BaseModel):
    """Published results on a data set.

    Attributes:
        standard: a description of its standard protocol.
        systems: the published systems.
    """

    model_config = ConfigDict(extra="forbid")

    standard: str
    systems: list[System]


def read_published(path: Path) -> dict[str, DataSet]:
    """Read published results, by data set.

    Raises:
        ConfigError: the file cannot be read, or a key is missing, unknown or invalid.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {str(error).splitlines()[0]}") from None
    try:
        return TypeAdapter(dict[str, DataSet]).validate_python(content)
    except ValidationError as error:
        places = ((".".join(map(str, e["loc"])), e["msg"]) for e in error.errors())
        raise ConfigError(f"{path}: {place or 'the file'}: {problem}" for place, problem in places) from None


def read_runs(paths: Sequence[Path]) -> dict[str, FinishedRun]:
    """Finished runs by the names of their configurations.

    Raises:
        VlfewError: a folder without a finished run, or two runs with the same name.
    """
    runs: dict[str, FinishedRun] = {}
    for path in paths:
        (run,) = load_runs([path])
        if other := runs.get(run.config.name):
            raise ConfigError(
                f"{other.folder.path} and {path} are both runs of {run.config.name}; give one of them"
            )
        runs[run.config.name] = run
    return runs


def find_result(ours: Ours | None, runs: Mapping[str, FinishedRun]) -> tuple[FinishedRun, Result] | None:
    """The named result with its run; None if no given run has it.

    Raises:
        ConfigError: several results match.
    """
    if ours is None or ours.run not in runs:
        return None
    run = runs[ours.run]
    matching = [result for result in run.results if ours.matches(result)]
    if len(matching) > 1:
        raise ConfigError(
            f"{PUBLISHED.name}: {len(matching)} results of {ours.run} match {ours.model_dump()}; add keys to choose one"
        )
    return (run, matching[0]) if matching else None


def tables(published: Mapping[str, DataSet], runs: Mapping[str, FinishedRun]) -> Iterator[str]:
    """All tables as blocks of Markdown."""
    placed: list[Result] = []
    evaluated_on = {result.data for run in runs.values() for result in run.results}
    for name, data in published.items():
        if name not in evaluated_on:
            continue
        rows, commands = [], dict[str, None]()
        for system in data.systems:
            ours = [find_result(system.own, runs), find_result(system.standard, runs)]
            placed += [found[1] for found in ours if found]
            commands |= dict.fromkeys(_command(*found) for found in ours if found)
            rows.append(_system_row(system, *ours))
        yield f"## {name}\n\nStandard protocol: {data.standard}.\n"
        table = markdown(SYSTEM_COLUMNS, rows) + "\n"
        yield table + ("\n```console\n" + "\n".join(commands) + "\n```\n" if commands else "")
    other = [(run, r) for run in runs.values() for r in run.results if not any(r is one for one in placed)]
    if other:
        yield "## Further results\n"
        yield markdown(RESULT_COLUMNS, [_result_row(run, r) for run, r in other]) + "\n"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; bars within cells are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _system_row(
    system: System, own: tuple[FinishedRun, Result] | None, standard: tuple[FinishedRun, Result] | None
) -> list[str]:
    found = [both for both in (own, standard) if both]

    def each(*values: str) -> str:
        """The values of both results, once if they are equal."""
        return "; ".join(dict.fromkeys(values)) or NOTHING

    return [
        f"{system.system} ({system.source})",
        f"`{system.config}`" if system.config else NOTHING,
        system.figure + " †" * (not system.checked) if system.figure else NOTHING,
        system.protocol,
        _figure(own),
        _figure(standard),
        each(*(_runs(r) for _, r in found)),
        each(*(f"{_time(run)}, {_steps(run, system.config)}" for run, _ in found)),
        each(*(f"{run.parameters[0]:,}" if run.parameters else NOTHING for run, _ in found)),
        each(*(_size(r) for _, r in found)),
        each(*(outside_data(r) for _, r in found)),
    ]


def _figure(found: tuple[FinishedRun, Result] | None) -> str:
    """`98.95 ± 0.08 (10-way 1-shot, support from train, 3 runs)`."""
    return f"**{accuracy(found[1])}** ({setting(found[1])})" if found else NOTHING


def _runs(result: Result) -> str:
    """`3 over seed: 98.9, 99.0, 99.0`, or `1`."""
    accuracies: list[float] | None = result.get("accuracies")
    if not accuracies:
        return "1"
    return f"{len(accuracies)} over {result.get('over')}: {', '.join(percent(a, 1) for a in accuracies)}"


def _time(run: FinishedRun) -> str:
    """Training time; for several runs, from the shortest to the longest."""
    members: list[dict[str, Any]] = [read_metadata(m.path) for m in run.folder.members] or [run.metadata]
    seconds = sorted(metadata["seconds"] for metadata in members if "seconds" in metadata)
    if not seconds:
        return NOTHING
    return " to ".join(dict.fromkeys((duration(seconds[0]), duration(seconds[-1]))))


def _steps(run: FinishedRun, config: str | None) -> str:
    """`2,000 steps`; `200 of 27,000 steps` if its configuration has more."""
    steps = run.config.optim.steps
    configured = steps if config is None else read_config(PUBLISHED.parent.parent / config).optim.steps
    return f"{steps:,} steps" if steps == configured else f"{steps:,} of {configured:,} steps"


def _size(result: Result) -> str:
    return "x".join(map(str, result.input_size))


def _command(run: FinishedRun, result: Result) -> str:
    """The command that reproduces the result, with the current path of the run."""
    parts = shlex.split(result.command)
    return shlex.join([*parts[:3], str(run.folder.path), *parts[4:]])  # vlfew evaluate PROTOCOL RUN ...


def _result_row(run: FinishedRun, result: Result) -> list[str]:
    return [
        result.protocol,
        f"{result.data}/{result.split}",
        setting(result),
        _size(result),
        f"**{accuracy(result)}**",
        ", ".join(percent(a, 1) for a in result.get("accuracies", [])),
        ", ".join(extras(result)),
        result.interval_unit,
        str(result.seed),
        outside_data(result),
        f"`{_command(run, result)}`",
    ]


def main(arguments: Sequence[str]) -> None:
    """Print the tables.

    Raises:
        VlfewError: a folder without a finished run, two runs with the same name, or invalid published results.
    """
    print("† not checked in the original publication.\n")
    for block in tables(read_published(PUBLISHED), read_runs([Path(name) for name in arguments])):
        print(block)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except VlfewError as error:
        sys.exit("\n".join(f"results: {line}" for line in str(error).splitlines()))
