"""The search in Postgres: by templates that are there as soon as, and as long as, their identities are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vlfew.gallery.exact_search import HALF_ERROR
from vlfew.gallery.postgres_connection import PostgresConnection
from vlfew.gallery.postgres_rows import Wire, from_wire, to_wire
from vlfew.gallery.postgres_templates import Rules
from vlfew.gallery.store import Store, no_identity, stale_model

if TYPE_CHECKING:
    from vlfew.evaluation.templates import Support

EF_SEARCH = 200
"""Candidates of an HNSW search, where the URL says nothing."""
MOST_EF = 1000
"""What pgvector allows."""
SCANNED = 20_000
"""Candidates after which an HNSW search ends, at least."""

Hit = tuple[int, str, "Support", float, float, str]
"""Of a template: id and name of the identity, support, score, score in half precision, JSON of the fingerprint."""


class PostgresIndex:
    """See `Index`. Nothing is kept in memory but the settings, and what the last answer was about.

    Templates are ranked in half precision, in order (exact) or by HNSW, and the best of them scored in float32. The
    exact search looks at more where rounding might have hidden one.

    Args:
        store: of the gallery.
        connection: of the store.
    """

    def __init__(self, store: Store, connection: PostgresConnection) -> None:
        self._store, self._connection = store, connection
        self.settings: dict[str, Any] = {}
        self.names: dict[int, str] = {}
        self.support: dict[int, Support] = {}
        self.ef_search = connection.address.ef_search or EF_SEARCH
        self._settings_version, self._count = -1, 0

    def __len__(self) -> int:
        return self._count

    def refresh(self) -> None:
        self.names, self.support = {}, {}
        with self._connection.use() as db:
            version, self._count = db.execute("SELECT settings_version, identities FROM gallery").fetchall()[
                0
            ]
        if version != self._settings_version:
            self.settings, self._settings_version = self._store.settings(), version

    def search(self, queries: Tensor, k: int, *, exact: bool = False) -> tuple[Tensor, Tensor]:
        """Scores and ids `[Q, k]` of the best identities, for queries `[Q, D]` of unit length.

        Args:
            queries: `[Q, D]`.
            k: number of identities; at most all of them are returned.
            exact: whether to search exactly even where there is an index.

        Raises:
            StaleModel: another process has embedded the gallery again since the last refresh.
        """
        self.names, self.support = {}, {}
        exact = exact or not Rules.of(self.settings).indexed
        found: list[list[tuple[int, float]] | None] = [None] * len(queries)
        wanted = 4 * k + 32
        while open_ := [n for n, own in enumerate(found) if own is None]:
            last = not exact and wanted > SCANNED
            for n, hits in zip(open_, self._hits(queries[open_], wanted, exact or last), strict=True):
                found[n] = _best(
                    hits, k, complete=len(hits) < wanted and (exact or last), exact=exact or last
                )
            wanted *= 4
        best = [own for own in found if own is not None]
        k = min(map(len, best), default=0)  # someone may have been removed since the last refresh
        scores = torch.tensor([[score for _, score in own[:k]] for own in best]).reshape(len(best), k)
        ids = torch.tensor([[i for i, _ in own[:k]] for own in best], dtype=torch.int64).reshape(len(best), k)
        return scores, ids

    def score(self, query: Tensor, identity: int) -> float:
        """Of a query `[D]` and an identity.

        Raises:
            NotFound: it was removed since the last refresh.
            StaleModel: as `search`.
        """
        with self._connection.use() as db:
            hits: list[Hit] = db.execute(
                f"{_HIT} FROM templates t JOIN identities i ON i.id = t.identity_id WHERE i.id = %(identity)s "
                "ORDER BY 4 DESC LIMIT 1".encode(),
                self._values(query) | {"identity": identity},
                binary=True,
            ).fetchall()
        if not hits:
            raise no_identity(identity, self._store.name)
        self._note(hits)
        return hits[0][3]

    def templates(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        with self._connection.use() as db:
            rows = db.execute(
                "SELECT identity_id, vector_send(template) FROM templates WHERE identity_id = ANY(%s::bigint[])",
                ([*ids],),
                binary=True,
            ).fetchall()
        place = {identity: n for n, identity in enumerate(ids)}
        owner = torch.tensor([place[identity] for identity, _ in rows], dtype=torch.int64)
        vectors = from_wire([wire for _, wire in rows]) if rows else torch.empty(0, self.settings["dim"])
        return vectors, owner

    def kinds(self) -> set[Support]:
        with self._connection.use() as db:
            return {kind for (kind,) in db.execute("SELECT DISTINCT support FROM templates")}

    def _hits(self, queries: Tensor, wanted: int, exact: bool) -> list[list[Hit]]:
        """The best templates of each query, in one round trip."""
        # Adding zero keeps the index from being used.
        order = "ORDER BY (rough <#> %(rough)s) + 0" if exact else "ORDER BY rough <#> %(rough)s"
        query = (
            f"{_HIT} FROM (SELECT * FROM templates {order} LIMIT {wanted:d}) t "
            "JOIN identities i ON i.id = t.identity_id"
        ).encode()
        with self._connection.pipeline() if exact else self._connection.transaction(pipeline=True) as db:
            if not exact:
                ef = min(MOST_EF, max(self.ef_search, wanted))
                db.execute(
                    "SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.max_scan_tuples', %s, true), "
                    "set_config('hnsw.iterative_scan', 'relaxed_order', true)",
                    (str(ef), str(max(SCANNED, wanted))),
                )
            cursors = [db.execute(query, self._values(one), binary=True) for one in queries]
            hits = [cursor.fetchall() for cursor in cursors]
        for own in hits:
            self._note(own)
        return hits

    def _values(self, query: Tensor) -> dict[str, Wire]:
        (rough,), (single,) = to_wire(query[None], half=True), to_wire(query[None])
        return {"rough": rough, "query": single}

    def _note(self, hits: list[Hit]) -> None:
        """Keeps names and support of an answer.

        Raises:
            StaleModel: the answer is of another model.
        """
        for identity, name, support, _, _, fingerprint in hits:
            if json.loads(fingerprint) != self.settings["fingerprint"]:
                raise stale_model(self._store.name)
            self.names[identity], self.support[identity] = name, support


def _best(hits: list[Hit], k: int, *, complete: bool, exact: bool) -> list[tuple[int, float]] | None:
    """The k best identities and their scores; None where more templates must be looked at.

    Args:
        hits: the best templates in half precision.
        k: how many.
        complete: whether there are no other templates.
        exact: whether rounding must not have hidden one of the others.
    """
    best: dict[int, float] = {}
    for identity, _, _, score, *_ in hits:
        best[identity] = max(score, best.get(identity, score))
    ranked = sorted(best.items(), key=lambda one: (-one[1], one[0]))[:k]
    if complete:
        return ranked
    if len(ranked) < k:
        return None
    lowest = min(rough for *_, rough, _ in hits)
    return None if exact and ranked[-1][1] < lowest + HALF_ERROR else ranked


_HIT = """
    SELECT i.id, i.name, t.support, -(t.template <#> %(query)s), -(t.rough <#> %(rough)s),
        (SELECT value FROM settings WHERE key = 'fingerprint')
"""
