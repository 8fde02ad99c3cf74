"""`report.html`: one page that shows what a run learned; one file, no network, no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlfew.config_file import load_config
from vlfew.errors import VlfewError
from vlfew.evaluation.results import Result
from vlfew.evaluation.subject import Subject
from vlfew.evaluation.words import class_words
from vlfew.files import write_whole
from vlfew.models.saved import read_about
from vlfew.report.confusions import draw_confusions
from vlfew.report.curves import draw_curves, loss_weights
from vlfew.report.episodes import draw_sheets
from vlfew.report.header import draw_header
from vlfew.report.maps import draw_map
from vlfew.report.markup import paragraph
from vlfew.report.mistakes import draw_mistakes
from vlfew.report.naming import Words, draw_named
from vlfew.report.page import write_page
from vlfew.report.pairs import draw_pairs
from vlfew.report.results import draw_results
from vlfew.report.roc import draw_verification
from vlfew.training.run import RunFolder


def write_report(
    run: RunFolder, subject: Subject, results: list[Result], split: str = "test", seed: int = 0
) -> Path:
    """Writes `report.html` into the run folder.

    Args:
        run: trained; its configuration, log and model description are read.
        subject: the model and the data.
        results: what the evaluations gave.
        split: whose pictures are shown.
        seed: of everything that is drawn at random on the page.

    Returns:
        Where it is.

    Raises:
        VlfewError: the run folder is incomplete, or the data have no such split.
    """
    config, about = load_config(run.config), read_about(run.path)
    bank = subject.bank(split)
    words, why_not = _words(subject, results, split)
    log, name = run.read_log(), run.path.resolve().name
    verification = draw_verification(results)
    mistakes = draw_mistakes(subject.data, results)
    parts = {
        "Results": draw_results(results, subject.data),
        **({"Verification": verification} if verification else {}),
        **({"Worst mistakes": mistakes} if mistakes else {}),
        "Training": draw_curves(log, loss_weights(config)),
        "Episodes": draw_sheets(subject, bank, seed),
        "Pairs": draw_pairs(subject, results, split, seed),
        "Named by words": draw_named(bank, words, seed) if words else paragraph(why_not),
        "Map": draw_map(bank, seed),
        "Most confused": draw_confusions(subject, bank, words, seed),
    }
    header = draw_header(name, config, about, log, subject, results)
    write_whole(run.report, write_page(f"{name}: a vlfew run", header, parts))
    return run.report


def _words(subject: Subject, results: Sequence[Result], split: str) -> tuple[Words | None, str]:
    """The classes in words, by the prompts of the run's own zero-shot result; or why there are none."""
    said = next((r for r in results if r.protocol == "zero-shot"), None)
    templates = said.get("templates", ["{}"]) if said else ["{}"]
    descriptions = said.get("descriptions") if said else None
    classes = subject.data.classes(split)
    try:
        vectors = class_words(subject, classes, templates, Path(descriptions) if descriptions else None)
    except VlfewError as error:
        return None, f"Left out: {error}."
    return Words(classes, vectors), ""
