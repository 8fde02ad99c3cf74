"""Episodes as index tensors, drawn before anything is scored, so that every method gets the same ones.

Longer than other files: four ways to draw episodes share one type, one sampler without replacement and its checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlfew.core.checks import check_at_least
from vlfew.core.errors import ConfigError, DataError
from vlfew.core.random import generator_at
from vlfew.core.tensor_file import load_tensors, save_tensors

Ints = NDArray[np.int64]
CountOrAll = int | Literal["all"]
BLOCK = 2**18
"""Random numbers, or table entries, that are processed at a time: they stay in the processor's cache."""


@dataclass(frozen=True)
class Episodes:
    """E episodes of N classes.

    Attributes:
        support: `[E, N, K]` int64 positions in the feature bank.
        query: `[E, N, Q]` int64 positions in the feature bank; -1 where a class has no more images.
        classes: `[E, N]` int64 class numbers.
    """

    support: Tensor
    query: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def reindex(self, positions: Tensor) -> Episodes:
        """Episodes drawn from a part of a bank, with positions in the full bank.

        Args:
            positions: `[P]` of the part in the bank.
        """
        query = torch.where(self.query < 0, self.query, positions[self.query])
        return Episodes(positions[self.support], query, self.classes)

    def save(self, path: Path, fingerprint: str) -> None:
        """Writes a safetensors file that records which data (and split) the positions belong to."""
        save_tensors(path, vars(self), {"fingerprint": fingerprint})

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> Episodes:
        """The episodes that `save` wrote.

        Raises:
            DataError: missing, damaged, or drawn from other data.
        """
        return cls(**load_tensors(path, "episodes", fingerprint)[0])


def sample_without_replacement(sizes: Ints, randoms: NDArray[np.float64]) -> Ints:
    """Ordered samples without replacement from many sets at once.

    Row r is the start of a uniformly random permutation of `0..sizes[r]-1`: Fisher-Yates, one step
    for all rows at a time. All orders are equally likely, so the first K may be the support.

    Args:
        sizes: `[R]`, each at least 1.
        randoms: `[R, m]` uniform in `[0, 1)`, one for each draw.

    Returns:
        `[R, m]`; -1 from column `sizes[r]` on.
    """
    draws = randoms.shape[1]
    columns = np.arange(draws)
    width = max(int(sizes.max()), draws)
    # An exhausted set draws its own next column again and again; masked out at the end.
    swap = (columns + randoms * np.maximum(sizes[:, None] - columns, 1)).astype(np.int64)
    out = np.empty(randoms.shape, np.int64)
    step = max(1, BLOCK // width)
    table = np.tile(np.arange(width, dtype=np.int32), (min(step, len(sizes)), 1))
    for start in range(0, len(sizes), step):
        block = swap[start : start + step]
        rows = np.arange(len(block))
        for j in columns:
            out[start : start + step, j] = table[rows, block[:, j]]
            table[rows, block[:, j]] = table[rows, j]
        table[rows[:, None], block] = block
        table[:, :draws] = columns
    out[columns >= sizes[:, None]] = -1
    return out


def images_needed(shots: int, queries: CountOrAll) -> int:
    """The images that a class must have for an episode; at least one query, where all images left are queries."""
    return shots + (1 if queries == "all" else queries)


def check_two_classes(classes: Sequence[int], class_names: Sequence[str]) -> None:
    """
    Raises:
        DataError: fewer than two `classes`; names the only one.
    """
    if len(classes) < 2:
        only = f"one class, {_name(classes[0], class_names)}" if len(classes) else "no class"
        raise DataError(f"the split has {only}; at least 2 are needed to tell them apart")


def numbered(count: int, one: str, many: str = "") -> str:
    """A number with its noun, whose plural ends in s unless `many` is given."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def and_others(classes: int) -> str:
    """How many more classes have too few images than the one that a message names; "" for none."""
    return (
        f" (and {classes} more {'class has' if classes == 1 else 'classes have'} too few)" if classes else ""
    )


def _name(number: int, class_names: Sequence[str]) -> str:
    return repr(class_names[number]) if class_names else f"number {number}"


def sample_episodes(
    labels: Tensor,
    ways: CountOrAll,
    shots: int,
    queries: CountOrAll,
    episodes: int,
    seed: int,
    class_names: Sequence[str] = (),
) -> Episodes:
    """Uniformly random episodes; all draws are without replacement.

    Episode e depends on the arguments and the seed only, not on the number of episodes.

    Args:
        labels: `[S]` class number of each image of the bank.
        ways: N, at least 2, or `all`: each class once, in ascending order.
        shots: K support images per class; 0 where the support is text alone.
        queries: Q query images per class, or `all` that are left.
        episodes: E.
        seed: of the draws.
        class_names: by class number, for messages.

    Raises:
        DataError: fewer classes than N, or than 2; a class (named) with fewer images than K+Q.
        ConfigError: fewer than 2 ways, another count below 1.
    """
    check_at_least("episodes", episodes)
    order, numbers, starts, sizes, n = _group_by_class(labels, ways, shots, queries, class_names)
    need = images_needed(shots, queries)
    draws = int(sizes.max()) if queries == "all" else need
    rng = generator_at(seed, "episodes")
    chosen = np.empty((episodes, n), np.int64)
    positions = np.empty((episodes, n, draws), np.int64)
    step = max(1, BLOCK // (n * (1 + draws)))
    for start in range(0, episodes, step):
        count = min(step, episodes - start)
        randoms = rng.random((count, n * (1 + draws)))
        if ways == "all":
            picked = np.broadcast_to(np.arange(n), (count, n))
        else:
            picked = sample_without_replacement(np.full(count, len(numbers)), randoms[:, :n])
        within = sample_without_replacement(sizes[picked].ravel(), randoms[:, n:].reshape(count * n, draws))
        found = _positions(order, starts[picked].reshape(-1, 1), within)
        positions[start : start + count] = found.reshape(count, n, draws)
        chosen[start : start + count] = numbers[picked]
    both = torch.from_numpy(positions)
    return Episodes(both[..., :shots].contiguous(), both[..., shots:].contiguous(), torch.from_numpy(chosen))


def _positions(order: Ints, starts: Ints, within: Ints) -> Ints:
    """Positions in the bank of images by their number `within` a class that begins at `starts` in `order`; -1 stays."""
    found: Ints = np.where(within < 0, -1, order[np.maximum(starts + within, 0)])
    return found


def enumerate_supports(
    labels: Tensor,
    ways: CountOrAll,
    shots: int,
    queries: CountOrAll,
    seed: int,
    class_names: Sequence[str] = (),
) -> Episodes:
    """Every image in turn is the support: in episode e the e-th image of every class.

    As many episodes as the smallest class has images; the classes are in ascending order.

    Args:
        labels: `[S]` class number of each image of the bank.
        ways: `all`, or the number of classes there are.
        shots: 1.
        queries: Q of the other images of a class, or `all` of them.
        seed: of the draws, where not all are queries.
        class_names: by class number, for messages.

    Raises:
        DataError: as `sample_episodes`.
        ConfigError: more than one shot, fewer than all classes, or no query.
    """
    if shots != 1:
        raise ConfigError(
            f"episodes=each takes one image of a class in turn, so shots must be 1, not {shots}; "
            "give a number of episodes"
        )
    order, numbers, starts, sizes, n = _group_by_class(labels, ways, shots, queries, class_names)
    if n < len(numbers):
        raise ConfigError(
            f"episodes=each takes all {len(numbers)} classes of the split, not {n} of them; use ways=all"
        )
    turns = int(sizes.min())
    turn, others = np.arange(turns)[:, None], np.tile(sizes - 1, turns)
    if queries == "all":
        every = np.arange(sizes.max() - 1)
        within = np.where(every < others[:, None], every, -1)
    else:
        within = sample_without_replacement(others, generator_at(seed, "each").random((turns * n, queries)))
    within = within.reshape(turns, n, -1)
    within += within >= turn[..., None]  # the support image itself is left out
    query = _positions(order, starts[:, None], within)
    support = order[starts + turn][..., None]
    classes = torch.from_numpy(numbers).expand(turns, n).contiguous()
    return Episodes(torch.from_numpy(support), torch.from_numpy(query), classes)


def _group_by_class(
    labels: Tensor, ways: CountOrAll, shots: int, queries: CountOrAll, class_names: Sequence[str]
) -> tuple[Ints, Ints, Ints, Ints, int]:
    """The images of each class, at least as many as an episode needs; see `sample_episodes`.

    Returns:
        Positions sorted by class `[S]`; class numbers, first places and sizes, each `[classes]`; N.
    """
    check_at_least("shots", shots, 0)
    check_at_least("queries", 1 if queries == "all" else queries)
    numbers = np.unique(labels.numpy())
    n = _count_ways(ways, numbers, class_names, "but the split has")
    order, starts, sizes = _places(labels, numbers)
    need = images_needed(shots, queries)
    short = np.flatnonzero(sizes < need)
    if len(short):
        smallest = short[sizes[short].argmin()]
        name = _name(int(numbers[smallest]), class_names)
        wanted = "at least 1 query" if queries == "all" else numbered(queries, "query", "queries")
        raise DataError(
            f"class {name} has {numbered(sizes[smallest], 'image')}, but {numbered(shots, 'shot')} and {wanted} "
            f"need {need}{and_others(len(short) - 1)}; {_fewer_images(int(sizes.min()), shots, queries)}"
        )
    return order, numbers, starts, sizes, n


def _count_ways(ways: CountOrAll, numbers: Ints, class_names: Sequence[str], has: str) -> int:
    """N, at least 2, of the classes `numbers [C]`."""
    if ways == "all":
        check_two_classes(numbers.tolist(), class_names)
        return len(numbers)
    check_at_least("ways", ways, 2)
    if len(numbers) < ways:
        raise DataError(
            f"{ways}-way episodes need {ways} classes, {has} {len(numbers)}; {_fewer_ways(len(numbers))}"
        )
    return ways


def _fewer_ways(classes: int) -> str:
    """What to do where there are fewer classes than ways."""
    return f"set ways={classes} or fewer" if classes >= 2 else "two are needed: add classes"


def _fewer_images(smallest: int, shots: int, queries: CountOrAll) -> str:
    """What to do where the smallest class has fewer images than an episode needs."""
    if smallest > shots:
        return f"set queries={smallest - shots} or fewer, or queries=all"
    if smallest > 1:
        return f"set shots={smallest - 1}" + ("" if queries in (1, "all") else " and queries=1")
    return "add images to it, or leave it out" if shots else "leave it out"


def _places(labels: Tensor, numbers: Ints) -> tuple[Ints, Ints, Ints]:
    """Positions sorted by class `[S]`, and where in them each class of `numbers [C]` begins and how many it has."""
    order = labels.argsort(stable=True).numpy()
    ranked = labels.numpy()[order]
    starts = np.searchsorted(ranked, numbers)
    return order, starts, np.searchsorted(ranked, numbers, side="right") - starts


def sample_cross_split(
    support_labels: Tensor,
    query_labels: Tensor,
    ways: CountOrAll,
    shots: int,
    queries: CountOrAll,
    episodes: int,
    seed: int,
    class_names: Sequence[str] = (),
) -> Episodes:
    """Episodes whose support images come from another split than the queries.

    Classes are those that both splits have. Positions of the queries continue after those of the support.
    Episode e depends on the arguments and the seed only, not on the number of episodes.

    Args:
        support_labels: `[A]` class number of each image that may be support.
        query_labels: `[B]` class number of each image that may be a query; its position is `A + b`.
        ways: N, at least 2, or `all`: each class once, in ascending order.
        shots: K support images per class, at least 1.
        queries: Q query images per class, or `all`.
        episodes: E.
        seed: of the draws.
        class_names: by class number, for messages.

    Raises:
        DataError: fewer classes in both than N, or than 2; a class (named) with fewer images than K
            or Q.
        ConfigError: fewer than 2 ways, another count below 1.
    """
    check_at_least("episodes", episodes)
    check_at_least("shots", shots)
    check_at_least("queries", 1 if queries == "all" else queries)
    numbers = np.intersect1d(support_labels.numpy(), query_labels.numpy())
    n = _count_ways(ways, numbers, class_names, "but the two splits share")
    sides = []
    for labels, need, option in ((support_labels, shots, "shots"), (query_labels, queries, "queries")):
        order, starts, sizes = _places(labels, numbers)
        draws = int(sizes.max()) if need == "all" else need
        short = np.flatnonzero(sizes < (1 if need == "all" else need))
        if len(short):
            name = _name(int(numbers[short[0]]), class_names)
            images = numbered(sizes[short[0]], "image")
            raise DataError(
                f"class {name} has {images}, but {option} is {need}; set {option}={sizes[short].min()} or fewer"
            )
        sides.append((order, starts, sizes, draws))
    drawn: list[Tensor] = []
    picked = np.empty((episodes, n), np.int64)
    for e in range(episodes):
        rng = generator_at(seed, "episodes apart", e)
        picked[e] = np.arange(n) if ways == "all" else rng.permutation(len(numbers))[:n]
        for order, starts, sizes, draws in sides:
            within = sample_without_replacement(sizes[picked[e]], rng.random((n, draws)))
            drawn.append(torch.from_numpy(_positions(order, starts[picked[e], None], within)))
    support, query = torch.stack(drawn[::2]), torch.stack(drawn[1::2])
    query = torch.where(query < 0, query, query + len(support_labels))
    return Episodes(support, query, torch.from_numpy(numbers[picked]))


def sample_omniglot_trials(
    labels: Tensor, class_group: Tensor, source_id: Tensor, ways: int, draws: int, seed: int
) -> Episodes:
    """Within-alphabet one-shot trials with two drawers (Lake et al. 2015).

    A draw is an alphabet, two drawers and `ways` characters that both drew: one drawer's characters
    are the support and the other's the queries, so a draw holds `ways` one-shot trials.

    Args:
        labels: `[S]` class (character) of each image of the bank.
        class_group: `[classes]` alphabet of each class.
        source_id: `[S]` drawer of each image of the bank.
        ways: N characters, at least 2.
        draws: E.
        seed: of the draws.

    Returns:
        `support [E, N, 1]` and `query [E, N, 1]`.

    Raises:
        DataError: no alphabet with `ways` characters by the same two drawers.
        ConfigError: fewer than 2 ways, or no draw.
    """
    check_at_least("ways", ways, 2)
    check_at_least("trials", draws)
    drawers = int(source_id.max()) + 1
    position = torch.full((int(labels.max()) + 1, drawers), -1)
    position[labels, source_id] = torch.arange(len(labels))
    characters, rng = labels.unique(), generator_at(seed, "trials")
    choices, largest = [], 0
    for alphabet in class_group[characters].unique():
        members = characters[class_group[characters] == alphabet]
        drawn = (position[members] >= 0).long()
        shared_by = (drawn.T @ drawn).fill_diagonal_(0)
        largest = max(largest, int(shared_by.max()))
        enough = (shared_by >= ways).nonzero()
        if len(enough):
            choices.append((members, enough))
    if not choices:
        raise DataError(
            f"{ways}-way trials need an alphabet with {ways} characters by the same two drawers, and no two here drew "
            f"more than {largest}; {_fewer_ways(largest)}"
        )
    support, query, chosen = [], [], []
    for randoms in rng.random((draws, 2 + ways)):
        members, pairs = choices[int(randoms[0] * len(choices))]
        a, b = pairs[int(randoms[1] * len(pairs))].tolist()
        shared = members[(position[members][:, [a, b]] >= 0).all(1)]
        within = sample_without_replacement(np.array([len(shared)]), randoms[None, 2:])[0]
        picked = shared[torch.from_numpy(within)]
        support.append(position[picked, a])
        query.append(position[picked, b])
        chosen.append(picked)
    return Episodes(torch.stack(support)[..., None], torch.stack(query)[..., None], torch.stack(chosen))
