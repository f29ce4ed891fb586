"""Several objectives, all minimised: dominance, crowding, hypervolume, and an archive of bounded size."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from optimizers.individuals import FloatArray, IntArray

CAPACITY = 200  # individuals that the archive keeps


def dominates(losses: FloatArray, others: FloatArray) -> npt.NDArray[np.bool_]:
    """[i, j]: losses[i] is nowhere worse and somewhere better than others[j]; shape (n, m)."""
    no_worse = (losses[:, None, :] <= others[None, :, :]).all(axis=2)
    better = (losses[:, None, :] < others[None, :, :]).any(axis=2)
    return cast(npt.NDArray[np.bool_], no_worse & better)


def nondominated(losses: FloatArray) -> npt.NDArray[np.bool_]:
    """Which rows no other row dominates, shape (n,); memory grows with the front only."""
    kept = np.zeros(len(losses), dtype=np.bool_)
    # Whoever dominates a row comes before it in lexicographic order.
    for row in np.lexsort(losses.T[::-1]):
        kept[row] = not dominates(losses[kept], losses[row][None]).any()
    return kept


def nondominated_ranks(losses: FloatArray) -> IntArray:
    """Front of each row, shape (n,): 0 is dominated by nobody, 1 only by front 0, ... (Deb et al. 2002)."""
    worse = dominates(losses, losses)
    dominators = worse.sum(axis=0)
    ranks = np.full(len(losses), -1, dtype=np.int64)
    for rank in range(len(losses)):
        front = (dominators == 0) & (ranks < 0)
        if not front.any():
            break
        ranks[front] = rank
        dominators = dominators - worse[front].sum(axis=0)
    return ranks


def crowding_distance(losses: FloatArray) -> FloatArray:
    """Of one front, shape (n,): the larger, the lonelier; infinite at the ends (Deb et al. 2002)."""
    n = len(losses)
    distance = np.zeros(n)
    for column in losses.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if n > 2 and span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance


def hypervolume(losses: FloatArray, reference: FloatArray) -> float:
    """Volume that the rows dominate below `reference`; exact, by slicing along the last objective."""
    inside = losses[(losses < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    order = np.argsort(inside[:, -1], kind="stable")
    inside = inside[order]
    heights = np.append(inside[1:, -1], reference[-1]) - inside[:, -1]
    if inside.shape[1] == 2:
        widths = reference[0] - np.minimum.accumulate(inside[:, 0])
        return float((widths * heights).sum())
    return sum(
        float(height) * hypervolume(inside[: i + 1, :-1], reference[:-1])
        for i, height in enumerate(heights)
        if height > 0
    )


class Front:
    """The individuals that nobody known dominates; the most crowded leave when there are too many.

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
        while len(rows) > CAPACITY:
            rows = np.delete(rows, int(np.argmin(crowding_distance(losses[rows]))))
        rows = rows[np.argsort(ids[rows], kind="stable")]
        self.ids, self.genomes, self.losses = ids[rows], genomes[rows], losses[rows]

    def save(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for `load`."""
        return {"ids": self.ids, "genomes": self.genomes, "losses": self.losses}

    def load(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Undo `save`."""
        self.ids, self.genomes, self.losses = arrays["ids"], arrays["genomes"], arrays["losses"]
