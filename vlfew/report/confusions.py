"""The classes that are taken for each other most."""

from __future__ import annotations

import torch
from torch import Tensor

from vlfew.evaluation.bank import FeatureBank
from vlfew.evaluation.subject import Subject
from vlfew.report.episodes import one_shot_episodes, score_one_shot
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.naming import Words
from vlfew.report.pictures import thumbnail
from vlfew.report.wording import counted, percent

PAIRS = 10


def draw_confusions(subject: Subject, bank: FeatureBank, words: Words | None, seed: int) -> Html:
    """Tables of pairs: by one picture a class, and by words where there are any."""
    tables = []
    episodes = one_shot_episodes(bank, None, 1, seed)
    if episodes is not None:
        support, queries = episodes.support[0, :, 0], episodes.query[episodes.query >= 0]
        taken = episodes.classes[0][score_one_shot(subject, bank, support, queries)]
        tables.append(_table(bank, "By one picture of each class", queries, taken))
    if words is not None:
        tables.append(_table(bank, "By their words", torch.arange(len(bank)), words.taken_for(bank)))
    if not tables:
        return paragraph("Nothing to confuse: the split needs two classes with two pictures each, or words.")
    lead = paragraph(
        f"Every picture of the {bank.split} split against all its classes at once (support drawn with seed "
        f"{seed}), and the pairs that are mixed up most."
    )
    return join(lead, element("div", *tables, class_="confusions"))


def pair_counts(true: Tensor, taken: Tensor) -> list[tuple[int, int, int]]:
    """`(true, taken, count)` of wrong answers, most frequent first, then by class number."""
    wrong = taken != true
    pairs, counts = torch.stack([true[wrong], taken[wrong]], 1).unique(dim=0, return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    return [(a, b, n) for (a, b), n in zip(pairs[order].tolist(), counts[order].tolist(), strict=True)]


def _table(bank: FeatureBank, title: str, positions: Tensor, taken: Tensor) -> Html:
    """Args: `positions [Q]` in the bank, and `taken [Q]`, the class numbers they were taken for."""
    data, true = bank.data, bank.labels[positions]
    pairs = pair_counts(true, taken)
    asked = true.bincount(minlength=len(data.class_names))

    def side(position: int, name: str) -> Html:
        return element("td", element("div", thumbnail(bank, position, name), element("span", name)))

    rows = []
    for a, b, count in pairs[:PAIRS]:
        example = int(positions[((true == a) & (taken == b)).nonzero()[0, 0]])
        other = int((bank.labels == b).nonzero()[0, 0])
        number = element("td", element("b", f"{count:,}"), f" of {int(asked[a]):,}", class_="number")
        rows.append(
            element("tr", side(example, data.class_names[a]), side(other, data.class_names[b]), number)
        )
    right = int((taken == true).sum())
    among = counted(len(true.unique()), "class")
    share = f"{right:,} of {counted(len(true), 'picture')} of {among} right, {percent(right / len(true), 1)}%"
    caption = element("figcaption", title, element("small", share))
    if not rows:
        return element("figure", caption, paragraph("No picture was taken for another class."), class_="card")
    head = element(
        "tr", element("th", "picture of"), element("th", "taken for"), element("th", "times", class_="number")
    )
    table = element("table", element("thead", head), element("tbody", *rows))
    return element("figure", caption, element("div", table, class_="scroll"), class_="card")
