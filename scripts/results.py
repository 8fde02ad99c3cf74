"""`python scripts/results.py RUN [RUN ...]`: results of run folders as Markdown, beside what others published.

A table for each data set of `scripts/published.yaml` that a run was evaluated on: a row for each published system, with
its figure and the protocol that it was measured by, and ours by that protocol and by the standard one, each in a column
of its own; below it the commands that make our figures again. Where no run that was given answers, there is a dash.
What no system asks for stands in a last table.
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
from vlfew.report.load_run import FinishedRun, load_runs
from vlfew.report.formatting import accuracy, duration, extras, percent, setting
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
    """Which result of ours answers: one of the run `run`, whose fields are the further keys.

    Attributes:
        run: name of the configuration; with `/` for a cell of a sweep.
        protocol: of the result.
    """

    model_config = ConfigDict(extra="allow")

    run: str
    protocol: str

    def fits(self, result: Result) -> bool:
        """Whether it is such a result."""
        fields = result.options | result.model_dump()
        wanted = {"protocol": self.protocol} | (self.model_extra or {})
        return all(fields.get(key) == value for key, value in wanted.items())


class System(BaseModel):
    """What others measured.

    Attributes:
        system: what it is.
        source: whose; a letter or a citation.
        figure: as they print it, in percent; None where they tell none.
        protocol: by which they measured, in words.
        checked: whether the figure was looked up where it was first published.
        config: that is nearest to it, from `configs`.
        own: ours by their protocol.
        standard: ours by the standard protocol of the data set.
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
    """What was published on a data set; `standard` is its standard protocol, in words."""

    model_config = ConfigDict(extra="forbid")

    standard: str
    systems: list[System]


def read_published(path: Path) -> dict[str, DataSet]:
    """The data sets of a file.

    Raises:
        ConfigError: it cannot be read, or is not of that form; names the place.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {str(error).splitlines()[0]}") from None
    try:
        return TypeAdapter(dict[str, DataSet]).validate_python(content)
    except ValidationError as error:
        places = ((".".join(map(str, e["loc"])), e["msg"]) for e in error.errors())
        raise ConfigError(f"{path}: {place or 'all of it'}: {said}" for place, said in places) from None


def read_runs(paths: Sequence[Path]) -> dict[str, FinishedRun]:
    """The finished runs by the names of their configurations.

    Raises:
        VlfewError: a folder without a finished run, or two runs of one name.
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


def answer(ours: Ours | None, runs: Mapping[str, FinishedRun]) -> tuple[FinishedRun, Result] | None:
    """The result that answers, and its run; None where no run that was given does.

    Raises:
        ConfigError: several results do.
    """
    if ours is None or ours.run not in runs:
        return None
    run = runs[ours.run]
    found = [result for result in run.results if ours.fits(result)]
    if len(found) > 1:
        raise ConfigError(
            f"{PUBLISHED.name}: {len(found)} results of {ours.run} are {ours.model_dump()}; say which by further keys"
        )
    return (run, found[0]) if found else None


def tables(published: Mapping[str, DataSet], runs: Mapping[str, FinishedRun]) -> Iterator[str]:
    """Everything as Markdown, block by block."""
    placed: list[Result] = []
    evaluated_on = {result.data for run in runs.values() for result in run.results}
    for name, data in published.items():
        if name not in evaluated_on:
            continue
        rows, commands = [], dict[str, None]()
        for system in data.systems:
            answers = [answer(system.own, runs), answer(system.standard, runs)]
            placed += [found[1] for found in answers if found]
            commands |= dict.fromkeys(_command(*found) for found in answers if found)
            rows.append(_system(system, *answers))
        yield f"## {name}\n\nStandard protocol: {data.standard}.\n"
        table = markdown(SYSTEM_COLUMNS, rows) + "\n"
        yield table + ("\n```console\n" + "\n".join(commands) + "\n```\n" if commands else "")
    left = [(run, r) for run in runs.values() for r in run.results if not any(r is other for other in placed)]
    if left:
        yield "## Further results\n"
        yield markdown(RESULT_COLUMNS, [_result(run, r) for run, r in left]) + "\n"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a bar within a cell stays in it."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _system(
    system: System, own: tuple[FinishedRun, Result] | None, standard: tuple[FinishedRun, Result] | None
) -> list[str]:
    found = [both for both in (own, standard) if both]

    def each(*values: str) -> str:
        """What is told of both answers, once where it is the same."""
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
        each(*("yes" if r.outside_data else "no" for _, r in found)),
    ]


def _figure(found: tuple[FinishedRun, Result] | None) -> str:
    """`98.95 ± 0.08 (10-way 1-shot, support from train, 3 runs)`."""
    return f"**{accuracy(found[1])}** ({setting(found[1])})" if found else NOTHING


def _runs(result: Result) -> str:
    """`3 over seed: 98.9, 99.0, 99.0`, or the seed of the only one."""
    figures: list[float] | None = result.get("accuracies")
    if not figures:
        return "1"
    return f"{len(figures)} over {result.get('over')}: {', '.join(percent(a, 1) for a in figures)}"


def _time(run: FinishedRun) -> str:
    """How long a training took; from the shortest to the longest of several."""
    abouts: list[dict[str, Any]] = [read_metadata(m.path) for m in run.folder.members] or [run.metadata]
    seconds = sorted(metadata["seconds"] for metadata in abouts if "seconds" in metadata)
    if not seconds:
        return NOTHING
    return " to ".join(dict.fromkeys((duration(seconds[0]), duration(seconds[-1]))))


def _steps(run: FinishedRun, config: str | None) -> str:
    """`2,000 steps`, and of how many, where its configuration asks for another number: `200 of 27,000 steps`."""
    steps = run.config.optim.steps
    whole = steps if config is None else read_config(PUBLISHED.parent.parent / config).optim.steps
    return f"{steps:,} steps" if steps == whole else f"{steps:,} of {whole:,} steps"


def _size(result: Result) -> str:
    return "x".join(map(str, result.input_size))


def _command(run: FinishedRun, result: Result) -> str:
    """The command that makes the result again, on the run where it lies now."""
    words = shlex.split(result.command)
    return shlex.join([*words[:3], str(run.folder.path), *words[4:]])  # vlfew evaluate PROTOCOL RUN ...


def _result(run: FinishedRun, result: Result) -> list[str]:
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
        "yes" if result.outside_data else "no",
        f"`{_command(run, result)}`",
    ]


def main(arguments: Sequence[str]) -> None:
    """Prints the tables.

    Raises:
        VlfewError: a folder without a finished run, two of one name, or a file of published figures that is no good.
    """
    print("† not looked up in the publication it first stood in.\n")
    for block in tables(read_published(PUBLISHED), read_runs([Path(name) for name in arguments])):
        print(block)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except VlfewError as error:
        sys.exit("\n".join(f"results: {line}" for line in str(error).splitlines()))
