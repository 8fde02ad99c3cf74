"""Few-shot episodes as they are: a support picture a class, and what was made of the queries."""

from __future__ import annotations

import torch
from torch import Tensor

from vlfew.evaluation.bank import FeatureBank
from vlfew.evaluation.episodes import Episodes, draw_episodes
from vlfew.evaluation.subject import Subject
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.pictures import thumbnail
from vlfew.report.wording import counted
from vlfew.scorers.support import Support

EPISODES, WAYS, QUERIES = 3, 5, 4
RIGHT, WRONG = "✓", "✗"


def one_shot_episodes(bank: FeatureBank, ways: int | None, episodes: int, seed: int) -> Episodes | None:
    """Episodes with one picture a class and all its others as queries.

    Args:
        bank: where the pictures come from; positions are in it.
        ways: N at most; None takes every class.
        episodes: how many.
        seed: of the draw.

    Returns:
        None unless two classes have two pictures. Classes with a single picture take no part.
    """
    _, which, counts = bank.labels.unique(return_inverse=True, return_counts=True)
    usable = (counts[which] >= 2).nonzero().flatten()
    classes = int((counts >= 2).sum())
    if classes < 2:
        return None
    n = min(ways, classes) if ways else classes
    drawn = draw_episodes(bank.labels[usable], n, 1, "all", episodes, seed)
    query = torch.where(drawn.query < 0, -1, usable[drawn.query.clamp(min=0)])
    return Episodes(usable[drawn.support], query, drawn.classes)


def score_one_shot(subject: Subject, bank: FeatureBank, support: Tensor, queries: Tensor) -> Tensor:
    """Index of the class each query is taken for.

    Args:
        subject: whose model scores.
        bank: of the features.
        support: `[N]` positions in the bank, one a class.
        queries: `[Q]` positions in the bank.

    Returns:
        `[Q]` int64 in `0..N-1`.
    """
    items = Support(bank.features[support], torch.arange(len(support)), len(support))
    scorer = subject.model.scorer("default").fit(items)
    # Scorers may hold differences of all pairs.
    chunk = max(1, 2**24 // (len(support) * bank.features.embedding.shape[1]))
    return torch.cat([scorer.score(bank.features[part]).argmax(-1) for part in queries.split(chunk)])


def draw_sheets(subject: Subject, bank: FeatureBank, seed: int) -> Html:
    """A few random episodes, with right and wrong marked."""
    episodes = one_shot_episodes(bank, WAYS, EPISODES, seed)
    if episodes is None:
        return paragraph("No episodes: the split needs two classes with two pictures each.")
    sheets, right, total = [], 0, 0
    for number in range(len(episodes)):
        support, query = episodes.support[number, :, 0], episodes.query[number, :, :QUERIES]
        asked = query >= 0
        taken = torch.full_like(query, -1)
        taken[asked] = score_one_shot(subject, bank, support, query[asked])
        hits = int((taken == torch.arange(len(query)).unsqueeze(1))[asked].sum())
        right, total = right + hits, total + int(asked.sum())
        caption = f"Episode {number + 1}: {hits} of {int(asked.sum())} right"
        sheets.append(_sheet(bank, caption, support, query, taken))
    ways = episodes.classes.shape[1]
    lead = paragraph(
        f"{counted(len(episodes), 'episode')} of {counted(ways, 'class')} of the {bank.split} split, drawn "
        f"at random (seed {seed}), not chosen for their outcome: {right} of {total} queries are right. "
        f"The model sees the one picture under “support” of each class, and puts every query with one "
        f"of them. {RIGHT} is right; {WRONG} is wrong, with the letter of the class it was taken for."
    )
    return join(lead, element("div", *sheets, class_="sheets"))


def _sheet(bank: FeatureBank, caption: str, support: Tensor, query: Tensor, taken: Tensor) -> Html:
    """One episode: `support [N]`, `query [N, Q]` and `taken [N, Q]` as index of a class; -1 for none."""
    data, letters = bank.data, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    names = [data.class_names[c] for c in bank.labels[support].tolist()]

    rows = []
    for n, name in enumerate(names):
        tiles = []
        for position, answer in zip(query[n].tolist(), taken[n].tolist(), strict=True):
            if position < 0:
                continue
            good = answer == n
            title = f"{name}: right" if good else f"{name}, taken for {letters[answer]}: {names[answer]}"
            sign = RIGHT if good else f"{WRONG} {letters[answer]}"
            tiles.append(
                element(
                    "span",
                    thumbnail(bank, position, title),
                    element("b", sign),
                    class_="tile right" if good else "tile wrong",
                )
            )
        rows.append(
            element(
                "div",
                element("p", element("b", letters[n]), " ", name, title=name),
                element(
                    "span", thumbnail(bank, int(support[n]), f"support of {name}"), class_="tile support"
                ),
                element("span", *tiles, class_="queries"),
                class_="episode-class",
            )
        )
    head = element("div", element("span", "support"), element("span", "queries"), class_="heads")
    return element("figure", element("figcaption", caption), head, *rows, class_="card sheet")
