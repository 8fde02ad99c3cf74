"""`python scripts/results.py RUN [RUN ...]`: results of run folders as a Markdown table, a row each."""

from __future__ import annotations

import sys
from pathlib import Path

from vlfew.errors import VlfewError
from vlfew.evaluation.results import read_results
from vlfew.report.wording import accuracy, extras, percent, setting
from vlfew.training.run import RunFolder

COLUMNS = (
    "protocol | data | setting | input | accuracy % | each run | also % | episodes | seed | outside data"
    " | command"
)


def main() -> None:
    print(f"| {COLUMNS} |")
    print("|---" * len(COLUMNS.split("|")) + "|")
    for name in sys.argv[1:]:
        run = RunFolder(Path(name))
        if run.state != "finished":
            raise VlfewError(f"{name} holds no finished run (no results.json)")
        for result in read_results(run.results):
            cells = [
                result.protocol,
                f"{result.data}/{result.split}",
                setting(result),
                "x".join(map(str, result.input_size)),
                f"**{accuracy(result)}**",
                ", ".join(percent(a, 1) for a in result.get("accuracies", [])),
                ", ".join(extras(result)),
                f"{result.episodes:,}",
                str(result.seed),
                "yes" if result.outside_data else "no",
                f"`{result.command}`",
            ]
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    try:
        main()
    except VlfewError as error:
        sys.exit(f"results: {error}")
