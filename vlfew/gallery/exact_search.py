"""Exact search of the most similar owners in memory."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

BLOCK = 16384
"""Rows that are scored at a time for several queries: their scores stay in the processor's cache."""
GROUP = 64
"""Rows of which only the highest score is looked at first; a multiple of it is a block."""
HALF_ERROR = 2e-3
"""Most that a cosine in half precision can be off: three roundings (row, query, score) of 2**-11, and some room."""
FEW = 4
"""Up to so many queries are scored one by one in half precision, which reads half the bytes; more are one product."""


class ExactSearch:
    """The best cosines between queries and rows `[S, D]` of unit length, where an owner may have several rows.

    One query is scored in half precision; the rows that may belong to the best ones, given the largest error of that,
    are scored again in float32. Several queries are scored in float32 at once, which processors without half-precision
    arithmetic do faster. Either way the result is exact.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._allocate(0)
        self._size = 0
        self._rows: dict[int, list[int]] = {}

    def __len__(self) -> int:
        """Number of owners."""
        return len(self._rows)

    @property
    def vectors(self) -> Tensor:
        """The rows `[S, D]`."""
        return self._vectors[: self._size]

    def load(self, owners: Tensor, vectors: Tensor) -> None:
        """Replaces everything.

        Args:
            owners: of each row, `[S]`.
            vectors: `[S, D]`, unit length or zero.
        """
        size = len(owners)
        self._owners, self._vectors, self._half = owners.clone(), vectors, vectors.half()
        self._size, self._rows = size, {}
        for row, owner in enumerate(owners.tolist()):
            self._rows.setdefault(owner, []).append(row)

    def replace(self, owner: int, vectors: Tensor) -> None:
        """Sets the rows `[R, D]` of an owner; none removes it."""
        rows = sorted(self._rows.pop(owner, []))
        for row in reversed(rows[len(vectors) :]):  # what is moved into their place lies behind the kept rows
            self._drop(row)
        rows = rows[: len(vectors)]
        while len(rows) < len(vectors):
            rows.append(self._append())
        for row, vector in zip(rows, vectors, strict=True):
            self._owners[row], self._vectors[row], self._half[row] = owner, vector, vector.half()
        if rows:
            self._rows[owner] = rows

    def remove(self, owner: int) -> None:
        """Removes the rows of an owner from memory."""
        self.replace(owner, torch.empty(0, self.dim))

    def rows_of(self, owner: int) -> Tensor:
        """The rows `[R, D]` of an owner."""
        return self._vectors[self._rows[owner]]

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k best owners of each query, an owner counting by its best row.

        Args:
            queries: `[Q, D]`, unit length.
            k: number of owners; at most all of them are returned.

        Returns:
            Scores `[Q, k]`, sorted, and owners `[Q, k]`.
        """
        k = min(k, len(self))
        if k == 0 or not len(queries):
            return torch.empty(len(queries), k), torch.empty(len(queries), k, dtype=torch.int64)
        # Owners with several rows may take several of the best places.
        wanted, found = k, None
        while found is None:
            few = len(queries) <= FEW
            best = (
                [self._best_of_one(q, wanted) for q in queries]
                if few
                else self._best_of_many(queries, wanted)
            )
            found = self._owners_of(best, k, complete=wanted >= self._size)
            wanted *= 4
        return found

    def _best_of_one(self, query: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
        """Scores and rows: the `wanted` best rows, and some more."""
        wanted = min(wanted, self._size)
        rough = torch.mv(self._half[: self._size], query.half()).float()
        groups = self._size // GROUP
        # So many rows reach the lowest of the best groups' scores; the others of the best ones do, too.
        if groups >= wanted:
            lowest = rough[: groups * GROUP].view(groups, GROUP).amax(1).topk(wanted).values[-1]
        else:
            lowest = rough.topk(wanted).values[-1]
        rows = (rough >= lowest - 2 * HALF_ERROR).nonzero().flatten()
        return self._vectors[rows] @ query, rows

    def _best_of_many(self, queries: Tensor, wanted: int) -> list[tuple[Tensor, Tensor]]:
        """Scores and rows of each query: its `wanted` best rows."""
        scores = torch.empty(len(queries), 0)
        rows = torch.empty(len(queries), 0, dtype=torch.int64)
        for start in range(0, self._size, BLOCK):
            block = self._vectors[start : min(start + BLOCK, self._size)]
            # This way round, the product of few queries is faster.
            own, at = _best_rows(block @ queries.T, wanted)
            scores, rows = torch.cat([scores, own], 1), torch.cat([rows, at + start], 1)
            if scores.shape[1] > wanted:
                scores, order = scores.topk(wanted)
                rows = rows.gather(1, order)
        return list(zip(scores, rows, strict=True))

    def _owners_of(
        self, best: Iterable[tuple[Tensor, Tensor]], k: int, complete: bool
    ) -> tuple[Tensor, Tensor] | None:
        """The k best owners of each query; None where its rows have fewer owners."""
        all_scores, all_owners = [], []
        for scores, rows in best:
            scores, order = scores.sort(descending=True, stable=True)
            seen: dict[int, float] = {}
            for owner, score in zip(self._owners[rows[order]].tolist(), scores.tolist(), strict=True):
                seen.setdefault(owner, score)
                if len(seen) == k:
                    break
            if len(seen) < k:
                assert not complete
                return None
            all_owners.append([*seen])
            all_scores.append([*seen.values()])
        return torch.tensor(all_scores), torch.tensor(all_owners)

    def _allocate(self, capacity: int) -> None:
        self._owners = torch.zeros(capacity, dtype=torch.int64)
        self._vectors = torch.zeros(capacity, self.dim)
        self._half = torch.zeros(capacity, self.dim, dtype=torch.half)

    def _append(self) -> int:
        """A new row at the end; the memory grows by half."""
        if self._size == len(self._owners):
            old = self._owners, self._vectors, self._half
            self._allocate(max(16, self._size * 3 // 2))
            for new, part in zip((self._owners, self._vectors, self._half), old, strict=True):
                new[: self._size] = part[: self._size]
                part.zero_()
        self._size += 1
        return self._size - 1

    def _drop(self, row: int) -> None:
        """Puts the last row in the place of a row, and zeros into the last."""
        last = self._size - 1
        if row != last:
            owner = int(self._owners[last])
            self._owners[row], self._vectors[row], self._half[row] = (
                owner,
                self._vectors[last],
                self._half[last],
            )
            if owner in self._rows:
                self._rows[owner][self._rows[owner].index(last)] = row
        self._vectors[last], self._half[last] = 0, 0
        self._size = last


def _best_rows(scores: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """The `wanted` highest scores of each column of `[B, Q]`, and their rows, both `[Q, wanted]` and in no order.

    They are in the groups of rows with the highest maxima, which is much faster than sorting them all.
    """
    rows, queries = scores.shape
    groups = rows // GROUP
    if groups * GROUP != rows or groups <= wanted:
        best = scores.T.topk(min(wanted, rows))
        return best.values, best.indices
    of_group = scores.view(groups, GROUP, queries)
    chosen = of_group.amax(1).T.topk(wanted).indices
    candidates = of_group[chosen, :, torch.arange(queries)[:, None]].flatten(1)
    best = candidates.topk(wanted)
    return best.values, chosen.gather(1, best.indices // GROUP) * GROUP + best.indices % GROUP
