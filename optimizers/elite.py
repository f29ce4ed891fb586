"""The best individuals of one objective, by their mean over all evaluations of each.

Under noise the lowest loss ever seen belongs to the luckiest individual, not to the best. So elites are
evaluated again, and whoever was lucky falls behind by the mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from optimizers.individuals import FloatArray, IntArray

SMALLEST = 10  # elites kept when there are re-evaluations


class Elite:
    """At most `size` individuals, sorted by mean loss, then by id.

    Attributes:
        ids: shape (k,); counts, shape (k,): evaluations of each.
        genomes: shape (k, dimension).
        means: shape (k,).
    """

    def __init__(self, dimension: int, reevaluate: int) -> None:
        self.size = max(SMALLEST, 2 * reevaluate) if reevaluate else 1
        self.ids: IntArray = np.empty(0, dtype=np.int64)
        self.counts: IntArray = np.empty(0, dtype=np.int64)
        self.genomes: FloatArray = np.empty((0, dimension))
        self.means: FloatArray = np.empty(0)

    def admit(self, ids: IntArray, genomes: FloatArray, losses: FloatArray) -> None:
        """Take in new individuals, evaluated once each; infinite losses are no candidates."""
        ok = np.isfinite(losses)
        self.ids = np.concatenate([self.ids, ids[ok]])
        self.counts = np.concatenate([self.counts, np.ones(int(ok.sum()), dtype=np.int64)])
        self.genomes = np.concatenate([self.genomes, genomes[ok]])
        self.means = np.concatenate([self.means, losses[ok]])
        self._prune()

    def again(self, origin: int, loss: float) -> tuple[float, int] | None:
        """Take in another evaluation; (mean, count), or None when that individual is no elite any more."""
        found = np.flatnonzero(self.ids == origin)
        if not len(found):
            return None
        i = found[0]
        self.counts[i] += 1
        # Halves: the difference of two large losses is infinite.
        self.means[i] += 2 * ((loss / 2 - self.means[i] / 2) / self.counts[i])
        result = float(self.means[i]), int(self.counts[i])
        self._prune()
        return result

    def choose(self, n: int, busy: set[int]) -> list[int]:
        """Rows of the `n` best that are not `busy` (ids with a re-evaluation under way)."""
        free = [row for row, individual in enumerate(self.ids.tolist()) if individual not in busy]
        return free[:n]

    def best(self) -> int | None:
        """Row of the best: of those evaluated more than once, if there are any."""
        if not len(self.ids):
            return None
        verified = np.flatnonzero(self.counts > 1)
        return int(verified[0]) if len(verified) else 0

    def save(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for `load`."""
        return {"ids": self.ids, "counts": self.counts, "genomes": self.genomes, "means": self.means}

    def load(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Undo `save`."""
        self.ids, self.counts = arrays["ids"], arrays["counts"]
        self.genomes, self.means = arrays["genomes"], arrays["means"]

    def _prune(self) -> None:
        """Sort and drop the rest. Half of the places are for those evaluated more than once: a generation of
        lucky newcomers must not push them out."""
        order = np.lexsort((self.ids, self.means))
        verified = order[self.counts[order] > 1][: self.size // 2]
        others = order[~np.isin(order, verified)][: self.size - len(verified)]
        kept = order[np.isin(order, np.concatenate([verified, others]))]
        self.ids, self.counts = self.ids[kept], self.counts[kept]
        self.genomes, self.means = self.genomes[kept], self.means[kept]
