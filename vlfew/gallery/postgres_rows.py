"""Rows and vectors on their way into a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
import torch
from psycopg.adapt import Dumper
from psycopg.pq import Format
from torch import Tensor


class Wire(bytes):
    """A vector as pgvector sends it; the server takes its type from the statement."""


class WireDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return obj


def to_wire(vectors: Tensor, half: bool = False) -> list[Wire]:
    """Vectors `[S, D]` as pgvector takes them: the number of dimensions, then big-endian numbers."""
    header = np.array([vectors.shape[1], 0], ">i2").tobytes()
    return [Wire(header + row.tobytes()) for row in vectors.numpy().astype(">f2" if half else ">f4")]


def from_wire(vectors: Sequence[bytes]) -> Tensor:
    """Vectors in single precision `[S, D]`, S at least 1, from what `vector_send` gives."""
    numbers = np.frombuffer(b"".join(vector[4:] for vector in vectors), ">f4")
    return torch.from_numpy(numbers.astype(np.float32)).reshape(len(vectors), -1)


def write_rows(
    db: psycopg.Connection[Any],
    table: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
    many: bool,
) -> None:
    """Inserts rows: many by COPY, few by one statement, which can be sent together with others.

    Args:
        db: in a transaction, and in a pipeline only for few rows.
        table: its name.
        columns: names and types.
        rows: their values.
        many: how.
    """
    names = ", ".join(columns)
    if many:
        copying = f"COPY {table} ({names}) FROM STDIN (FORMAT BINARY)".encode()
        with db.cursor() as cursor, cursor.copy(copying) as copy:
            # In this format, the bytes of a vector have no type.
            copy.set_types([kind if "vec" not in kind else "bytea" for kind in columns.values()])
            for row in rows:
                copy.write_row(row)
    elif values := [[*column] for column in zip(*rows, strict=True)]:
        given = ", ".join(f"%b::{kind}[]" for kind in columns.values())
        db.execute(f"INSERT INTO {table} ({names}) SELECT * FROM unnest({given})".encode(), values)
