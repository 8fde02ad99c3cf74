"""Which results of several runs answer the same question, and whether they met the same episodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vlfew.errors import VlfewError
from vlfew.evaluation import PROTOCOLS
from vlfew.evaluation.results import Result
from vlfew.report.wording import setting, title

ANSWERS = ("scorer", "templates", "descriptions", "text_weight")
"""Options of protocols that say how a question is answered: methods differ in them on the same episodes."""
DRAWS = ("seed", "episodes", "trials", "episodes_file", "pairs_file", "runs")
"""Options that say which episodes are drawn, or where they are taken from; the question is the same."""

Key = tuple[str, ...]
Entry = tuple[int, Result]


@dataclass(frozen=True)
class Row:
    """One question and what the runs answered.

    Attributes:
        setting: says the question, where the protocol, data and split do not.
        results: one for each run; None where it was not asked. At least one is there.
    """

    setting: str
    results: tuple[Result | None, ...]

    @property
    def given(self) -> list[Entry]:
        """`(run, result)` of those that are there."""
        return [(run, r) for run, r in enumerate(self.results) if r is not None]

    @property
    def title(self) -> str:
        """The whole question."""
        return title(self.first, self.setting)

    @property
    def first(self) -> Result:
        return self.given[0][1]


def match(results: Sequence[Sequence[Result]]) -> list[Row]:
    """The results of all runs as rows, in the order in which the runs have them.

    Where a run answers one question in several ways (two scorers), each way has a row of its own; of
    the same result twice, the later one stands.

    Args:
        results: of each run.
    """
    entries = [(run, r) for run, many in enumerate(results) for r in many]
    rows = []
    for group in _grouped(entries, [_question, _answer, _draw]):
        of_run = dict(group)
        rows.append(tuple(of_run.get(run) for run in range(len(results))))
    return [Row(said, row) for said, row in zip(_settings(rows), rows, strict=True)]


def asked(result: Result) -> dict[str, Any]:
    """Every option of the result's protocol, at its default where the result does not say."""
    try:
        fields = PROTOCOLS.options(result.protocol).model_fields
    except VlfewError:  # a protocol of another version: what most of them have
        return {name: result.get(name) for name in ("ways", "shots", "queries")}
    recorded = result.model_dump() | result.asked
    return {
        name: recorded.get(name, None if field.is_required() else field.default)
        for name, field in fields.items()
    }


def said(value: Any) -> str:
    """An option's value in few words."""
    if isinstance(value, list | tuple):
        return ", ".join(f"“{v}”" for v in value)
    return "none" if value is None else str(value)


def different_answers(row: Row) -> list[str]:
    """How each result of the row was answered, where they were answered in several ways; else "".

    Returns:
        One for each of `row.given`.
    """
    options = [asked(r) for _, r in row.given]
    names = [n for n in ANSWERS if len({_frozen(o.get(n)) for o in options}) > 1]
    return [", ".join(f"{n.replace('_', ' ')} {said(o.get(n))}" for n in names) for o in options]


def asked_but(result: Result, *names: str) -> Key:
    """The question without these options: alike for results that differ in them alone, or in their draws."""
    options = {k: v for k, v in asked(result).items() if k not in (*DRAWS, *names)}
    return (result.protocol, result.data, result.split, _frozen(options))


def _question(result: Result) -> Key:
    return asked_but(result, *ANSWERS)


def _answer(result: Result) -> Key:
    options = asked(result)
    return tuple(_frozen(options.get(name)) for name in ANSWERS)


def _draw(result: Result) -> Key:
    options = asked(result)
    return tuple(_frozen(options.get(name)) for name in DRAWS)


def _frozen(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _grouped(entries: Sequence[Entry], keys: Sequence[Callable[[Result], Key]]) -> Iterable[list[Entry]]:
    """Groups by the first key; those in which a run stands twice are parted by the next one."""
    groups: dict[Key, list[Entry]] = {}
    for run, result in entries:
        groups.setdefault(keys[0](result), []).append((run, result))
    for group in groups.values():
        if len({run for run, _ in group}) < len(group) and len(keys) > 1:
            yield from _grouped(group, keys[1:])
        else:
            yield group


def _settings(rows: Sequence[tuple[Result | None, ...]]) -> list[str]:
    """What each row asks; rows that would be said alike are told apart by the options they differ in."""
    firsts = [next(r for r in row if r is not None) for row in rows]
    titles = [title(r) for r in firsts]
    settings = []
    for first, own in zip(firsts, titles, strict=True):
        alike = [asked(r) for r, other in zip(firsts, titles, strict=True) if other == own]
        names = [n for n in alike[0] if len({_frozen(options.get(n)) for options in alike}) > 1]
        enough = [n for n in names if n not in DRAWS]
        if len({_frozen([options.get(n) for n in enough]) for options in alike}) == len(alike):
            names = enough
        values = asked(first)
        further = [f"{n.replace('_', ' ')} {said(values.get(n))}" for n in names]
        settings.append(", ".join([*([setting(first)] if setting(first) != "-" else []), *further]) or "-")
    return settings
