"""Zero-shot by example: pictures beside the names that the model found nearest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vlfew.counting import generator_at
from vlfew.evaluation.bank import FeatureBank
from vlfew.report.episodes import RIGHT, WRONG
from vlfew.report.markup import Html, element, join, paragraph
from vlfew.report.pictures import thumbnail
from vlfew.report.wording import counted
from vlfew.scorers.similarity import cosine_matrix

EXAMPLES, TOP = 12, 3


@dataclass(frozen=True)
class Words:
    """The classes of a split in words.

    Attributes:
        classes: `[C]` class numbers, ascending.
        vectors: `[C, D]`.
    """

    classes: Tensor
    vectors: Tensor

    def scores(self, bank: FeatureBank, positions: Tensor) -> Tensor:
        """Cosines `[Q, C]` of pictures at `positions [Q]` in the bank."""
        return cosine_matrix(bank.features.embedding[positions], self.vectors)

    def taken_for(self, bank: FeatureBank) -> Tensor:
        """`[S]` class number whose words are nearest to each picture of the bank."""
        everything = torch.arange(len(bank)).split(4096)
        return self.classes[torch.cat([self.scores(bank, part).argmax(1) for part in everything])]


def draw_named(bank: FeatureBank, words: Words, seed: int) -> Html:
    """Random pictures with the names that score highest."""
    drawn = generator_at(seed, "report", "names").permutation(len(bank))[:EXAMPLES]
    positions = torch.from_numpy(drawn).sort().values
    scores = words.scores(bank, positions)
    true = torch.searchsorted(words.classes, bank.labels[positions])
    rank = (scores > scores.gather(1, true.unsqueeze(1))).sum(1)
    top = scores.topk(min(TOP, scores.shape[1]), dim=1).indices
    cards = [
        _card(bank, int(positions[i]), words, scores[i], top[i].tolist(), int(true[i]), int(rank[i]))
        for i in range(len(positions))
    ]
    right = int((top[:, 0] == true).sum())
    lead = paragraph(
        f"{counted(len(cards), 'picture')} drawn at random (seed {seed}), not chosen for their outcome: "
        f"{right} of {len(cards)} are named correctly. Each is held against the words of all "
        f"{counted(len(words.classes), 'class')} of the {bank.split} split; the {top.shape[1]} nearest "
        f"stand beside it with their cosine. {RIGHT} is at the true name, or its rank where it comes later."
    )
    return join(lead, element("div", *cards, class_="named"))


def _card(
    bank: FeatureBank, position: int, words: Words, scores: Tensor, top: list[int], true: int, rank: int
) -> Html:
    data, good = bank.data, top[0] == true

    def line(n: int, sign: str) -> Html:
        name, score = data.class_names[int(words.classes[n])], float(scores[n])
        bar = element("i", style=f"width:{100 * min(max(score, 0), 1):.0f}%")
        return element(
            "li",
            element("span", element("b", sign), " ", name, title=name, class_="name"),
            element("span", f"{score:.2f}", class_="score"),
            bar,
            class_="true" if n == true else None,
        )

    lines = [line(n, RIGHT if n == true else WRONG if place == 0 else "") for place, n in enumerate(top)]
    if true not in top:
        lines.append(line(true, f"#{rank + 1:,}"))
    name = data.class_names[int(words.classes[true])]
    tile = element(
        "span",
        thumbnail(bank, position, name),
        element("b", RIGHT if good else WRONG),
        class_="tile right" if good else "tile wrong",
    )
    return element("figure", tile, element("ol", *lines), class_="card example")
