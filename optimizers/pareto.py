"""Several objectives, all minimised: dominance, crowding, hypervolume, and an archive of bounded size.

Memory: O(n) per call, and blocks of pairs of a fixed size; nothing here holds a matrix of all pairs.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from optimizers.individuals import FloatArray, IntArray

CAPACITY = 200  # individuals that the archive keeps
_PAIRS = 2**17  # pairs of rows that are compared at once: they fit into the cache


def dominates(losses: FloatArray, others: FloatArray) -> npt.NDArray[np.bool_]:
    """[i, j]: losses[i] is nowhere worse and somewhere better than others[j]; shape (n, k)."""
    no_worse = np.ones((len(losses), len(others)), dtype=np.bool_)
    better = np.zeros((len(losses), len(others)), dtype=np.bool_)
    for one, other in zip(losses.T, others.T, strict=True):
        no_worse &= one[:, None] <= other
        better |= one[:, None] < other
    return no_worse & better


def nondominated(losses: FloatArray) -> npt.NDArray[np.bool_]:
    """Which rows no other row dominates, shape (n,)."""
    if not len(losses):
        return np.zeros(0, dtype=np.bool_)
    # Whoever dominates a row comes before it in the lexicographic order of np.unique.
    rows, back = _distinct(losses)
    kept = np.zeros(len(rows), dtype=np.bool_)
    if rows.shape[1] == 2:
        kept[0] = True
        kept[1:] = rows[1:, 1] < np.minimum.accumulate(rows[:-1, 1])
        return cast(npt.NDArray[np.bool_], kept[back])
    front = rows[:0]
    for block in _blocks(len(rows), 512):
        left = block[~_dominated(rows[block], front)]
        left = left[~dominates(rows[left], rows[left]).any(axis=0)]
        kept[left] = True
        front = np.concatenate([front, rows[left]])
    return cast(npt.NDArray[np.bool_], kept[back])


def nondominated_ranks(losses: FloatArray) -> IntArray:
    """Front of each row, shape (n,): 0 is dominated by nobody, 1 only by front 0, ... (Deb et al. 2002).

    Time O(n log n) for two objectives, O(m n^2) for more.
    """
    if not len(losses):
        return np.zeros(0, dtype=np.int64)
    rows, back = _distinct(losses)
    ranks = _ranks_of_two(rows) if rows.shape[1] == 2 else _ranks_of_many(rows)
    return ranks[back]


def crowding_distance(losses: FloatArray) -> FloatArray:
    """Of one front, shape (n,): the larger, the lonelier; infinite at the ends (Deb et al. 2002)."""
    n = len(losses)
    distance = np.zeros(n)
    if not n:
        return distance
    for column in losses.T / 2:  # halves: the difference of two large losses is infinite
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if n > 2 and span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


def thin(losses: FloatArray, size: int) -> IntArray:
    """`size` >= 0 rows of a front, ascending: the most crowded one leaves, again and again.

    Leaving all at once would tear holes where it was dense (Kukkonen and Deb, "Improved pruning of
    non-dominated solutions based on crowding distance", 2006). O(m n log n) for n rows.
    """
    n = len(losses)
    if size >= n:
        return np.arange(n)
    distance = crowding_distance(losses)
    gaps = _Gaps(losses)
    heap = [(float(value), row) for row, value in enumerate(distance)]
    heapq.heapify(heap)
    present = n
    while present > size:
        value, row = heapq.heappop(heap)
        if value != distance[row]:
            continue  # it has lost a neighbour since
        distance[row] = np.nan
        present -= 1
        for neighbour in gaps.close(row):
            if np.isfinite(distance[neighbour]):
                distance[neighbour] = gaps.distance(neighbour)
                heapq.heappush(heap, (float(distance[neighbour]), neighbour))
    return np.flatnonzero(~np.isnan(distance))


class _Gaps:
    """Who is next to whom in each objective, while rows leave."""

    def __init__(self, losses: FloatArray) -> None:
        n, m = losses.shape
        half = losses / 2
        spans = half.max(axis=0) - half.min(axis=0)
        order = np.argsort(half, axis=0, kind="stable")
        before, after = np.full((m, n), -1), np.full((m, n), -1)
        for j in range(m):
            before[j, order[1:, j]] = order[:-1, j]
            after[j, order[:-1, j]] = order[1:, j]
        self._columns = [
            (below, above, column, span)
            for below, above, column, span in zip(
                before.tolist(), after.tolist(), half.T.tolist(), spans.tolist(), strict=True
            )
        ]

    def close(self, row: int) -> set[int]:
        """Take out a row; those that were its neighbours."""
        touched = set()
        for before, after, _, _ in self._columns:
            low, high = before[row], after[row]
            if low >= 0:
                after[low] = high
            if high >= 0:
                before[high] = low
            touched |= {low, high}
        return touched - {-1}

    def distance(self, row: int) -> float:
        """Crowding distance of a row that is at no end."""
        shares = [
            (column[after[row]] - column[before[row]]) / span
            for before, after, column, span in self._columns
            if span > 0 and before[row] >= 0 and after[row] >= 0
        ]
        return float(sum(shares))


def hypervolume(losses: FloatArray, reference: FloatArray) -> float:
    """Volume that the rows dominate below `reference`; exact, by slicing along the last objective. Infinite
    where it, or an edge of it, is larger than a float64 can be.

    Time O(n log n) for two objectives, about O(n log n) for three, a factor n more for each further one.
    """
    inside = losses[(losses < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        volume = _volume(inside[nondominated(inside)], reference)
    return math.inf if math.isnan(volume) else volume  # of an infinite edge and one of length 0


def _volume(losses: FloatArray, reference: FloatArray) -> float:
    """Of at least one row, all below the reference."""
    objectives = losses.shape[1]
    if objectives == 1:
        return float(reference[0] - losses.min())
    order = np.argsort(losses[:, -1], kind="stable")
    losses = losses[order]
    heights = np.append(losses[1:, -1], reference[-1]) - losses[:, -1]
    if objectives == 2:
        widths = reference[0] - np.minimum.accumulate(losses[:, 0])
        return float((widths * heights).sum())
    if objectives == 3:
        slices = zip(_areas(losses, reference), heights.tolist(), strict=True)
        return float(sum(area * height for area, height in slices))
    total = 0.0
    for i, height in enumerate(heights.tolist()):
        if height > 0:
            lower = losses[: i + 1, :-1]
            total += height * _volume(lower[nondominated(lower)], reference[:-1])
    return total


def _areas(losses: FloatArray, reference: FloatArray) -> Iterator[float]:
    """Area of the first two objectives dominated by the first row, the first two rows, ...

    A staircase: `xs` ascending, `ys` descending; each step comes and goes once.
    """
    right, top = float(reference[0]), float(reference[1])
    xs: list[float] = []
    ys: list[float] = []
    area = 0.0
    for x, y in losses[:, :2].tolist():
        first = bisect_left(xs, x)
        if (first == 0 or ys[first - 1] > y) and not (first < len(xs) and xs[first] == x and ys[first] <= y):
            roof = ys[first - 1] if first else top
            last, left = first, x
            while last < len(xs) and ys[last] >= y:
                area += (xs[last] - left) * (roof - y)
                left, roof = xs[last], ys[last]
                last += 1
            area += ((xs[last] if last < len(xs) else right) - left) * (roof - y)
            xs[first:last], ys[first:last] = [x], [y]
        yield area


class Front:
    """The individuals that nobody known dominates; the most crowded leave when there are too many. Who has
    left is forgotten, so one that only it dominates may come in later.

    Attributes:
        ids: shape (k,), genomes: shape (k, dimension), losses: shape (k, n_objectives).
    """

    def __init__(self, dimension: int, n_objectives: int) -> None:
        self.ids: IntArray = np.empty(0, dtype=np.int64)
        self.genomes: FloatArray = np.empty((0, dimension))
        self.losses: FloatArray = np.empty((0, n_objectives))

    def admit(self, ids: IntArray, genomes: FloatArray, losses: FloatArray) -> None:
        """Take in individuals; those with infinite losses are no candidates."""
        ok = np.isfinite(losses).all(axis=1)
        self._keep(
            np.concatenate([self.ids, ids[ok]]),
            np.concatenate([self.genomes, genomes[ok]]),
            np.concatenate([self.losses, losses[ok]]),
        )

    def _keep(self, ids: IntArray, genomes: FloatArray, losses: FloatArray) -> None:
        rows = np.flatnonzero(nondominated(losses))
        rows = rows[thin(losses[rows], CAPACITY)]
        rows = rows[np.argsort(ids[rows], kind="stable")]
        self.ids, self.genomes, self.losses = ids[rows], genomes[rows], losses[rows]

    def save(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for `load`."""
        return {"ids": self.ids, "genomes": self.genomes, "losses": self.losses}

    def load(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Undo `save`."""
        self.ids, self.genomes, self.losses = arrays["ids"], arrays["genomes"], arrays["losses"]


def _distinct(losses: FloatArray) -> tuple[FloatArray, IntArray]:
    """The different rows in lexicographic order, and where each row is among them."""
    rows, back = np.unique(losses, axis=0, return_inverse=True)
    return rows, back.reshape(-1)


def _blocks(n: int, size: int) -> Iterator[IntArray]:
    for first in range(0, n, size):
        yield np.arange(first, min(n, first + size))


def _no_worse(by: FloatArray, losses: FloatArray) -> npt.NDArray[np.bool_]:
    """[i, j]: by[i] is nowhere worse than losses[j]: of different rows, dominance."""
    found = by[:, 0][:, None] <= losses[:, 0]
    for j in range(1, by.shape[1]):
        found &= by[:, j][:, None] <= losses[:, j]
    return found


def _dominated(losses: FloatArray, by: FloatArray) -> npt.NDArray[np.bool_]:
    """Which of `losses` some row of `by` dominates; all rows differ."""
    found = np.zeros(len(losses), dtype=np.bool_)
    for block in _blocks(len(by), max(1, _PAIRS // max(1, len(losses)))):
        found |= _no_worse(by[block], losses).any(axis=0)
    return found


def _dominators(losses: FloatArray, by: FloatArray) -> IntArray:
    """How many rows of `by` are no worse than each row of `losses`; both are in lexicographic order."""
    count = np.zeros(len(losses), dtype=np.int64)
    # Nobody is dominated by a row that comes after it.
    before = np.searchsorted(by[:, 0], losses[:, 0], side="right")
    for block in _blocks(len(losses), 256):
        for other in _blocks(int(before[block[-1]]), _PAIRS // 256):
            count[block] += np.count_nonzero(_no_worse(by[other], losses[block]), axis=0)
    return count


def _ranks_of_two(rows: FloatArray) -> IntArray:
    """Of different rows in lexicographic order (M. T. Jensen, "Reducing the run-time complexity of
    multiobjective EAs", 2003). The least second loss of the fronts never falls from one to the next."""
    ranks = np.empty(len(rows), dtype=np.int64)
    least: list[float] = []
    for i, second in enumerate(rows[:, 1].tolist()):
        rank = bisect_right(least, second)
        least[rank : rank + 1] = [second]
        ranks[i] = rank
    return ranks


def _ranks_of_many(rows: FloatArray) -> IntArray:
    """Of different rows in lexicographic order: fronts are peeled off, each row is compared twice."""
    ranks = np.full(len(rows), -1, dtype=np.int64)
    left = np.arange(len(rows))
    dominators = _dominators(rows, rows) - 1  # each is no worse than itself
    rank = 0
    while len(left):
        first = dominators == 0
        ranks[left[first]] = rank
        rest = ~first
        dominators = dominators[rest] - _dominators(rows[left[rest]], rows[left[first]])
        left = left[rest]
        rank += 1
    return ranks
