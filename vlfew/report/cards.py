"""The head of a comparison: what each run is."""

from __future__ import annotations

from collections.abc import Sequence

from vlfew.report.finished import FinishedRun
from vlfew.report.legend import badge
from vlfew.report.markup import Html, element
from vlfew.report.wording import counted, duration

LONG = 3
"""More names than these do not fit a heading."""


def draw_head(runs: Sequence[FinishedRun], found: str) -> Html:
    """A card for each run, and what must be known of them.

    Args:
        runs: of the page.
        found: what came of the comparison, in a sentence.
    """
    notes = [element("li", badge(run), " ", note) for run in runs for note in _notes(run)]
    return element(
        "header",
        element("p", "vlfew run" if len(runs) == 1 else "vlfew runs compared", class_="kicker"),
        element("h1", title_of_page(runs)),
        element("p", found, class_="lead"),
        element("div", *(_card(run) for run in runs), class_="runs"),
        element("ul", *notes, class_="notes") if notes else None,
    )


def title_of_page(runs: Sequence[FinishedRun]) -> str:
    """The names, or how many there are."""
    names = [run.name for run in runs]
    if len(names) > LONG:
        return f"{len(names)} runs"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def facts(run: FinishedRun) -> dict[str, str]:
    """What its figures are worth nothing without."""
    config, about = run.config, run.about
    words = f"{config.text.encoder}{', frozen' if config.text.fixed else ''}" if run.spec.text else "none"
    size, grey = run.spec.image_size, run.spec.channels == 1
    batch = config.sampling.batch_size * config.training.accumulation
    counts = [
        f"{n:,} {kind}" for n, kind in zip(run.parameters or (), ("trained", "frozen"), strict=False) if n
    ]
    repeat = config.repeat
    repeated = (
        {"Runs": f"{len(repeat.values)}, over {repeat.key}; the rest is of the first"} if repeat else {}
    )
    return repeated | {
        "Trained on": str(about.get("trained_on", "-")),
        "Image stream": config.image.stream,
        "Text stream": words,
        "Input": f"{size} × {size} pixels, {'grey' if grey else 'colour'}",
        "Parameters": ", ".join(counts) or "-",
        "Length": f"{config.optim.steps:,} steps of {counted(batch, 'picture')}",
        "Training time": duration(about["seconds"]) if "seconds" in about else "-",
        "Outside data": "yes" if run.spec.outside_data else "no",
        "Seed": str(config.seed),
    }


def _card(run: FinishedRun) -> Html:
    pairs = (element("div", element("dt", label), element("dd", said)) for label, said in facts(run).items())
    return element(
        "article",
        element("h3", badge(run), element("span", run.name)),
        element("p", str(run.folder.path), class_="aside"),
        element("dl", *pairs),
        class_="card",
    )


def _notes(run: FinishedRun) -> list[str]:
    notes = [*run.about.get("notes", []), *(part for r in run.results for part in r.note.split("; "))]
    return list(dict.fromkeys(filter(None, notes)))
