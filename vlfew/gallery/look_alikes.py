"""Who could be taken for whom: the closest different identities, and images that may be of one person."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlfew.evaluation.templates import Support, make_templates
from vlfew.gallery.closest_pairs import closest_pairs
from vlfew.gallery.index import Items


@dataclass(frozen=True)
class LookAlikes:
    """Two identities and how similar they are.

    Attributes:
        score: cosine of their templates; of images, where the pair is one of images.
        support: what both are made of.
        first, second: their ids.
        first_item, second_item: ids of their most similar images; 0 where templates were compared.
    """

    score: float
    support: Support
    first: int
    second: int
    first_item: int = 0
    second_item: int = 0


def find_look_alikes(items: Items, combine: str, text_weight: float, limit: int) -> list[LookAlikes]:
    """The closest different identities by their templates, as the gallery compares them, best first.

    Only identities of one kind of support are compared with each other: scores of different kinds differ in scale.

    Args:
        items: of the gallery.
        combine: its rule for several images.
        text_weight: its share of the texts.
        limit: how many.
    """
    ids, numbers = items.identity.unique(return_inverse=True)
    templates, owner, support = make_templates(
        items.embedding,
        numbers,
        items.is_text,
        len(ids),
        combine,  # type: ignore[arg-type]
        text_weight,
    )
    kinds: list[Support] = ["image", "text", "both"]
    of_owner = torch.tensor([kinds.index(kind) for kind in support])
    found: list[LookAlikes] = []
    for number, kind in enumerate(kinds):
        own = (
            (of_owner[owner] == number).nonzero().flatten() if len(ids) else torch.empty(0, dtype=torch.int64)
        )
        for pair in closest_pairs(templates[own], owner[own], limit):
            first, second = (int(ids[owner[own[at]]]) for at in (pair.first, pair.second))
            found.append(LookAlikes(pair.score, kind, first, second))
    return sorted(found, key=lambda one: -one.score)[:limit]


def find_near_duplicates(items: Items, least: float, limit: int) -> list[LookAlikes]:
    """Images of different identities that are nearly the same to the model, the best of each two identities.

    Args:
        items: of the gallery.
        least: lowest cosine.
        limit: how many.
    """
    own = (~items.is_text).nonzero().flatten()
    found = []
    for pair in closest_pairs(items.embedding[own], items.identity[own], limit, least):
        both = own[[pair.first, pair.second]]
        first, second = items.identity[both].tolist()
        found.append(LookAlikes(pair.score, "image", first, second, *items.item[both].tolist()))
    return found
