"""`python scripts/results.py RUN [RUN ...]`: results of run folders as a Markdown table.

Runs whose configurations differ in name and seed alone become one row: their mean and each of them.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from vlfew.config_file import load_config
from vlfew.errors import VlfewError
from vlfew.evaluation.results import Result, read_results
from vlfew.report.wording import accuracy, extras, percent, setting
from vlfew.training.run import RunFolder

COLUMNS = "protocol | data | setting | input | accuracy % | also % | episodes | seed | outside data | command"


def main() -> None:
    rows: dict[tuple[str, ...], list[Result]] = {}
    for name in sys.argv[1:]:
        run = RunFolder(Path(name))
        if run.state != "finished":
            raise VlfewError(f"{name} holds no finished run (no results.json)")
        same = load_config(run.config).model_copy(update={"name": "", "seed": 0}).model_dump_json()
        for result in read_results(run.results):
            shape = "x".join(map(str, result.input_size))
            key = (result.protocol, f"{result.data}/{result.split}", setting(result), shape, same)
            rows.setdefault(key, []).append(result)
    print(f"| {COLUMNS} |")
    print("|---" * len(COLUMNS.split("|")) + "|")
    for (protocol, data, how, shape, _), results in rows.items():
        first = results[0]
        figure = accuracy(first)
        if len(results) > 1:
            mean = statistics.mean(result.accuracy for result in results)
            figure = f"**{percent(mean)}** ({', '.join(accuracy(result) for result in results)})"
        cells = [protocol, data, how, shape, figure, ", ".join(extras(first)), f"{first.episodes:,}"]
        cells += [str(first.seed), "yes" if first.outside_data else "no", f"`{first.command}`"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    try:
        main()
    except VlfewError as error:
        sys.exit(f"results: {error}")
