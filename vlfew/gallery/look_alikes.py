"""Who could be taken for whom: the closest different identities, and images that may be of one person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class Duplicates:
    """Images that are the same, or nearly so, under several names.

    Attributes:
        same: for the SHA-256 of an image that several identities have, their ids and those of their items.
        near: pairs of identities with images that are nearly the same, best first; without those of `same`.
    """

    same: dict[bytes, list[tuple[int, int]]]
    near: list[LookAlikes]


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


def find_duplicates(
    items: Items, shared: Mapping[bytes, Sequence[tuple[int, int]]], least: float, limit: int
) -> Duplicates:
    """Images that are the same under several names, and pairs of identities with nearly the same ones.

    An image that several identities have stands for its first identity alone among those that are nearly the same.

    Args:
        items: of the gallery.
        shared: the images that several identities have, by digest: ids of the identities and of their items.
        least: lowest cosine of images that are nearly the same.
        limit: how many of each.
    """
    images = defaultdict[int, set[int]](set)  # of each identity, numbers of those that it shares
    copies: list[int] = []
    for number, rows in enumerate(shared.values()):
        for identity, _ in rows:
            images[identity].add(number)
        copies += [item for _, item in rows[1:]]
    kept = ~torch.isin(items.item, torch.tensor(copies, dtype=items.item.dtype))
    single = Items(*(column[kept] for column in items))
    most = limit
    while True:
        found = find_near_duplicates(single, least, most)
        near = [
            pair for pair in found if images.get(pair.first, set()).isdisjoint(images.get(pair.second, ()))
        ]
        if len(near) >= limit or len(found) < most:
            return Duplicates({digest: [*rows] for digest, rows in [*shared.items()][:limit]}, near[:limit])
        most *= 4  # pairs that share an image took the places of others
