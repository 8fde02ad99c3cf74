"""Connected components of items that are linked in pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vlfew.data.class_names import Key


def first_connected(items: Sequence[Key], links: Sequence[tuple[Key, Key]]) -> dict[Key, Key]:
    """Each item, and the first of the items that it is linked with, directly or through others."""
    number = {item: n for n, item in enumerate(items)}
    ends = np.array([(number[a], number[b]) for a, b in links], dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), tuple(ends.T)), shape=(len(items), len(items)))
    component = connected_components(graph, directed=False)[1]
    first = np.unique(component, return_index=True)[1]
    return {item: items[first[c]] for item, c in zip(items, component, strict=True)}
