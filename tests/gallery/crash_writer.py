"""Enrolls one identity after another, removes one in seven, and acknowledges each on its standard output.

`python crash_writer.py GALLERY WRITER FIRST`; it goes on until it is killed.
"""

from __future__ import annotations

import random
import struct
import sys

from vlfew.gallery.store import NewIdentity, NewItem
from vlfew.gallery.stores import open_store

DIM, ITEMS = 8, 4


def request(writer: int, number: int) -> NewIdentity:
    """Identity `number` of a writer: four items, with the same bytes each time."""
    rng = random.Random(1000 * writer + number)
    items = [
        NewItem(
            "image",
            rng.randbytes(32),
            struct.pack(f"<{DIM}f", *(rng.gauss(0, 1) for _ in range(DIM))),
            source="x" * 50,
            thumbnail=rng.randbytes(3000),
        )
        for _ in range(ITEMS)
    ]
    return NewIdentity(f"{writer}-{number}", items, key=f"{writer}-{number}", request=b"same")


def main() -> None:
    store, writer = open_store(sys.argv[1]), int(sys.argv[2])
    for number in range(int(sys.argv[3]), 10**9):
        enrolled = request(writer, number)
        store.enroll([enrolled], "f")
        print(number, flush=True)
        if number % 7 == 6:
            row = store.find(enrolled.name)
            assert row is not None
            store.remove([row.id])
            print(-number, flush=True)


if __name__ == "__main__":
    main()
