"""Whether the free pages of an SQLite database hold anything: what was removed must not be readable there.

The file format is https://www.sqlite.org/fileformat2.html, section 1.5: the free list has trunk pages with the numbers
of other free pages.
"""

from __future__ import annotations

import struct


def unclean_free_pages(content: bytes) -> list[int]:
    """Numbers of the free pages that hold anything but zeros and page numbers.

    Args:
        content: of the database file, with an empty log.
    """
    size, pages, trunk = struct.unpack_from(">H", content, 16)[0], *struct.unpack_from(">II", content, 28)
    size = 65536 if size == 1 else size
    unclean, seen = [], set[int]()
    while 0 < trunk <= pages and trunk not in seen:
        seen.add(trunk)
        numbers = struct.unpack_from(f">{size // 4}I", content, (trunk - 1) * size)
        # Behind the numbers in use, there are those of pages that were free before.
        if max(numbers) > pages:
            unclean.append(trunk)
        for leaf in numbers[2 : 2 + numbers[1]]:
            page = content[(leaf - 1) * size : leaf * size]
            if page.count(0) != len(page):
                unclean.append(leaf)
        trunk = numbers[0]
    return unclean
