"""Which results of several runs are of the same evaluation, and can be put side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vlfew.core.errors import VlfewError
from vlfew.evaluation import PROTOCOLS
from vlfew.evaluation.results import Result
from vlfew.report.formatting import setting, spaced, title

METHOD_OPTIONS = ("method", "similarity", "templates", "descriptions", "text_weight", "adaptive_text_weight")
"""Options in which methods differ; the episodes are the same."""
SAMPLING_OPTIONS = ("seed", "episodes", "trials", "episodes_file", "pairs_file", "runs")
"""Options that determine which episodes are sampled or read; the evaluation is the same."""

Key = tuple[str, ...]
Entry = tuple[int, Result]


@dataclass(frozen=True)
class Row:
    """One evaluation and its results.

    Attributes:
        setting: of the evaluation, beyond its protocol, data and split.
        results: one for each run, None where it was not evaluated so; at least one is there.
    """

    setting: str
    results: tuple[Result | None, ...]

    @property
    def given(self) -> list[Entry]:
        """`(run, result)` of the runs that have one."""
        return [(run, r) for run, r in enumerate(self.results) if r is not None]

    @property
    def first(self) -> Result:
        """The first result."""
        return self.given[0][1]

    @property
    def title(self) -> str:
        """Protocol, setting, data and split."""
        return title(self.first, self.setting)


def match(results: Sequence[Sequence[Result]]) -> list[Row]:
    """The results of all runs as rows, in the order in which the runs have them.

    Where a run was evaluated with several methods, each has a row of its own. Of identical evaluations of a run,
    the last one counts.

    Args:
        results: of each run.
    """
    entries = [(run, r) for run, many in enumerate(results) for r in many]
    rows = []
    for group in _grouped(
        entries, [lambda r: evaluation_key(r, *METHOD_OPTIONS), _method_key, _sampling_key]
    ):
        by_run = dict(group)
        rows.append(tuple(by_run.get(run) for run in range(len(results))))
    return [Row(own, row) for own, row in zip(_settings(rows), rows, strict=True)]


def options_of(result: Result) -> dict[str, Any]:
    """Every option of the result's protocol, at its default where the result does not have it."""
    try:
        fields = PROTOCOLS.options(result.protocol).model_fields
    except VlfewError:  # a protocol of another version: what most of them have
        return {name: result.get(name) for name in ("ways", "shots", "queries")}
    recorded = result.model_dump() | result.options
    return {
        name: recorded.get(name, None if field.is_required() else field.default)
        for name, field in fields.items()
    }


def option_text(value: Any) -> str:
    """The value of an option, in short."""
    if isinstance(value, list | tuple):
        return ", ".join(f"“{v}”" for v in value)
    return "none" if value is None else str(value)


def method_differences(row: Row) -> list[str]:
    """For each result of `row.given`, the options in which the methods of the row differ; "" where they do not."""
    options = [options_of(r) for _, r in row.given]
    names = [n for n in METHOD_OPTIONS if len({_frozen(o.get(n)) for o in options}) > 1]
    return [", ".join(f"{spaced(n)} {option_text(o.get(n))}" for n in names) for o in options]


def evaluation_key(result: Result, *without: str) -> Key:
    """Equal for results that differ only in the options `without`, or in how episodes are sampled."""
    options = {k: v for k, v in options_of(result).items() if k not in (*SAMPLING_OPTIONS, *without)}
    # `ways: all` of other data may be another number of classes, and another chance.
    return (result.protocol, result.data, result.split, _frozen(options), str(result.get("ways")))


def _method_key(result: Result) -> Key:
    options = options_of(result)
    return tuple(_frozen(options.get(name)) for name in METHOD_OPTIONS)


def _sampling_key(result: Result) -> Key:
    options = options_of(result)
    return tuple(_frozen(options.get(name)) for name in SAMPLING_OPTIONS)


def _frozen(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _grouped(entries: Sequence[Entry], keys: Sequence[Callable[[Result], Key]]) -> Iterable[list[Entry]]:
    """Groups by the first key; groups that have a run twice are split by the next one."""
    groups: dict[Key, list[Entry]] = {}
    for run, result in entries:
        groups.setdefault(keys[0](result), []).append((run, result))
    for group in groups.values():
        if len({run for run, _ in group}) < len(group) and len(keys) > 1:
            yield from _grouped(group, keys[1:])
        else:
            yield group


def _settings(rows: Sequence[tuple[Result | None, ...]]) -> list[str]:
    """The setting of each row, with the options in which rows differ that would otherwise read the same."""
    firsts = [next(r for r in row if r is not None) for row in rows]
    settings = []
    for first in firsts:
        alike = [options_of(r) for r in firsts if title(r) == title(first)]
        names = [n for n in alike[0] if len({_frozen(options.get(n)) for options in alike}) > 1]
        enough = [n for n in names if n not in SAMPLING_OPTIONS]
        if len({_frozen([options.get(n) for n in enough]) for options in alike}) == len(alike):
            names = enough
        values = options_of(first)
        further = [f"{spaced(n)} {option_text(values.get(n))}" for n in names]
        settings.append(", ".join([*([setting(first)] if setting(first) != "-" else []), *further]) or "-")
    return settings
