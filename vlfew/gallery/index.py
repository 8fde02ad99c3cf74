"""The templates of a gallery in memory, kept up to date with its store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.evaluation.templates import Support, make_templates
from vlfew.gallery.exact_search import ExactSearch
from vlfew.gallery.store import Store

PART = 4096
"""Embeddings that are joined at a time."""
MOST_CHANGES = 1000
"""Above so many changed identities, everything is read again."""


class TemplateIndex:
    """Names, templates and kinds of support of all identities; `refresh` follows the store.

    Attributes:
        settings: those of the gallery at the last refresh.
        names: of each identity, by its id.
        support: what each identity is made of.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._version = store, -1
        self.settings: dict[str, Any] = {}
        self.names: dict[int, str] = {}
        self.support: dict[int, Support] = {}
        self._search = ExactSearch(0)

    def __len__(self) -> int:
        return len(self.names)

    def refresh(self) -> None:
        """Takes over what this or another process has written since the last time."""
        with self._store.snapshot():
            version = self._store.version()
            if version == self._version:
                return
            changed = None if self._version < 0 else self._store.changes(self._version)
            if changed is None or len(changed) > MOST_CHANGES:
                self._load_all()
            else:
                self._load(sorted(changed))
            self._version = version

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Scores and ids `[Q, k]` of the best identities, for queries `[Q, D]` of unit length."""
        return self._search.search(queries, k)

    def score(self, query: Tensor, identity: int) -> float:
        """Of a query `[D]` and an identity."""
        return float((self._search.rows_of(identity) @ query).max())

    def templates(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        rows = [self._search.rows_of(identity) for identity in ids]
        return torch.cat(rows), torch.arange(len(ids)).repeat_interleave(torch.tensor([len(r) for r in rows]))

    def kinds(self) -> set[Support]:
        """What the identities are made of."""
        return set(self.support.values())

    def _load_all(self) -> None:
        self.settings = self._store.settings()
        self.names = self._store.names()
        templates, owners = self._templates(list(self.names), None)
        self._search = ExactSearch(self.settings["dim"])
        self._search.load(owners, templates)

    def _load(self, ids: Sequence[int]) -> None:
        names = self._store.names(ids)
        there = sorted(names)
        for removed in set(ids) - set(there):
            self.names.pop(removed, None)
            self.support.pop(removed, None)
            self._search.remove(removed)
        self.names |= names
        templates, owners = self._templates(there, there)
        for identity in there:
            self._search.replace(identity, templates[owners == identity])

    def _templates(self, ids: list[int], wanted: list[int] | None) -> tuple[Tensor, Tensor]:
        """Templates of identities and the id of each, and their `support` on the way.

        Args:
            ids: of the identities, sorted.
            wanted: what the store is asked for; None for all.
        """
        embedding, owner, is_text = read_embeddings(self._store, self.settings["dim"], wanted)
        if not ids:
            self.support = {} if wanted is None else self.support
            return torch.empty(0, self.settings["dim"]), torch.empty(0, dtype=torch.int64)
        all_ids = torch.tensor(ids)
        if (lacking := set(ids) - set(owner.tolist())) or not torch.isin(owner, all_ids).all():
            what = (
                f"identity {self.names[min(lacking)]!r} has no item"
                if lacking
                else "items belong to no identity"
            )
            raise DataError(f"{self._store.name}: {what}: see vlfew gallery check {self._store.name}")
        templates, of, support = make_templates(
            embedding,
            torch.searchsorted(all_ids, owner),
            is_text,
            len(ids),
            self.settings["combine"],
            self.settings["text_weight"],
        )
        if wanted is None:
            self.support = {}
        self.support.update(zip(ids, support, strict=True))
        return templates, all_ids[of]


class Items(NamedTuple):
    """Items of a gallery.

    Attributes:
        embedding: `[S, D]` of unit length.
        identity: `[S]` their identities.
        is_text: `[S]` bool.
        item: `[S]` their own ids.
    """

    embedding: Tensor
    identity: Tensor
    is_text: Tensor
    item: Tensor


def read_embeddings(store: Store, dim: int, ids: list[int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings `[S, D]`, the identity of each `[S]`, and whether it is a text `[S]`.

    Raises:
        DataError: an embedding of another size.
    """
    items = read_items(store, dim, ids)
    return items.embedding, items.identity, items.is_text


def read_items(store: Store, dim: int, ids: list[int] | None = None) -> Items:
    """The items of all identities or of these.

    Raises:
        DataError: an embedding of another size.
    """
    parts: list[np.ndarray] = []
    owners: list[int] = []
    numbers: list[int] = []
    is_text: list[bool] = []
    pending: list[bytes] = []

    def join() -> None:
        parts.append(np.frombuffer(b"".join(pending), "<f4").reshape(-1, dim))
        pending.clear()

    for row in store.embeddings(ids):
        if len(row.embedding) != 4 * dim:
            raise DataError(
                f"{store.name}: the embedding of item {row.item_id} has {len(row.embedding)} bytes, not {4 * dim}: see "
                f"vlfew gallery check {store.name}"
            )
        owners.append(row.identity_id)
        numbers.append(row.item_id)
        is_text.append(row.kind == "text")
        pending.append(row.embedding)
        if len(pending) == PART:
            join()
    join()
    embedding = np.concatenate(parts).astype(np.float32)
    return Items(
        torch.from_numpy(embedding),
        torch.tensor(owners, dtype=torch.int64),
        torch.tensor(is_text, dtype=torch.bool),
        torch.tensor(numbers, dtype=torch.int64),
    )
