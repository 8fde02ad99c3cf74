"""Templates in the database: made in the transaction that changes their items, by the code that makes those in memory.

A template is there in half precision, which is searched, and in single precision, by which the best ones are scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psycopg
import torch
from torch import Tensor

from vlfew.core.errors import ConfigError, DataError
from vlfew.evaluation.templates import make_templates
from vlfew.gallery.postgres_rows import to_wire, write_rows

if TYPE_CHECKING:
    from vlfew.evaluation.templates import Support

PART = 4096
"""Identities whose templates are made at a time."""
BULK = 10_000
"""From so many new identities, and as many as there are, the index is built anew after them."""
MOST_INDEXED = 4000
"""Numbers of a vector that pgvector's HNSW takes."""
INDEX = "templates_by_similarity"
COLUMNS = {"identity_id": "bigint", "support": "text", "rough": "halfvec", "template": "vector"}

Items = Sequence[tuple[str, bytes]]
"""The kind and the embedding of each item of an identity."""


class Rules(NamedTuple):
    """What templates are made by, and how they are searched.

    Attributes:
        dim: D.
        combine, text_weight: see `make_templates`.
        indexed: whether there is an HNSW index.
    """

    dim: int
    combine: Any
    text_weight: float
    indexed: bool

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Rules:
        """
        Raises:
            ConfigError: an index of vectors that are too long.
        """
        indexed = settings.get("search", "exact") == "hnsw"
        if indexed and settings["dim"] > MOST_INDEXED:
            raise ConfigError(
                f"search is 'hnsw', which takes embeddings of up to {MOST_INDEXED:,} numbers, not {settings['dim']:,}; "
                "take search 'exact'"
            )
        return cls(
            settings["dim"], settings.get("combine", "mean"), settings.get("text_weight", 0.5), indexed
        )


def templates_of(
    rules: Rules, identities: Iterable[tuple[int, Items]]
) -> Iterator[tuple[int, Support, Tensor]]:
    """The templates of identities: the id, what it is made of, and `[D]`.

    Raises:
        DataError: an embedding of another size.
    """
    rest = iter(identities)
    while part := list(islice(rest, PART)):
        ids = [identity_id for identity_id, _ in part]
        items = [item for _, own in part for item in own]
        if any(len(embedding) != 4 * rules.dim for _, embedding in items):
            raise DataError(f"an embedding has another size than {4 * rules.dim} bytes")
        embedding = np.frombuffer(b"".join(embedding for _, embedding in items), "<f4").reshape(-1, rules.dim)
        number = torch.tensor([n for n, (_, own) in enumerate(part) for _ in own], dtype=torch.int64)
        is_text = torch.tensor([kind == "text" for kind, _ in items], dtype=torch.bool)
        made, owner, support = make_templates(
            torch.from_numpy(embedding.astype(np.float32)),
            number,
            is_text,
            len(part),
            rules.combine,
            rules.text_weight,
        )
        for n, template in zip(owner.tolist(), made, strict=True):
            yield ids[n], support[n], template


def write_templates(
    db: psycopg.Connection[Any], rules: Rules, identities: Iterable[tuple[int, Items]], many: bool
) -> None:
    """Writes the templates of identities that have none.

    Args:
        db: in a transaction.
        rules: of the gallery.
        identities: ids, and their items.
        many: whether to copy them (see `write_rows`).
    """

    def rows() -> Iterator[tuple[Any, ...]]:
        made = templates_of(rules, identities)
        while part := list(islice(made, PART)):
            vectors = torch.stack([template for _, _, template in part])
            both = zip(to_wire(vectors, half=True), to_wire(vectors), strict=True)
            for (identity_id, support, _), wires in zip(part, both, strict=True):
                yield identity_id, support, *wires

    if many:
        write_rows(db, "templates", COLUMNS, rows(), many=True)
    else:
        for row in rows():
            db.execute("INSERT INTO templates VALUES (%s, %s, %s, %s)", row)


def delete_templates(db: psycopg.Connection[Any], identity_ids: Sequence[int]) -> None:
    db.execute("DELETE FROM templates WHERE identity_id = ANY(%s::bigint[])", (identity_ids,))


def set_size(db: psycopg.Connection[Any], dim: int) -> None:
    """Sets the number of dimensions, while there are no templates."""
    db.execute(
        f"ALTER TABLE templates ALTER rough TYPE halfvec({dim:d}), ALTER template TYPE vector({dim:d})".encode()
    )


def build_index(db: psycopg.Connection[Any]) -> None:
    db.execute(f"CREATE INDEX {INDEX} ON templates USING hnsw (rough halfvec_ip_ops)".encode())


def drop_index(db: psycopg.Connection[Any]) -> None:
    db.execute(f"DROP INDEX IF EXISTS {INDEX}".encode())
