"""What generation-based optimizers share: waiting for enough told individuals, and utilities by rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimizers.individuals import FloatArray, Told, stacked
from optimizers.versions import Arrays


class Waiting:
    """Told individuals that wait until there are enough of them; first come, first served.

    `save` and `load` keep them in an optimizer's state, with the measures of the given names.
    """

    def __init__(self, dimension: int, n_objectives: int = 1, measures: Sequence[str] = ()) -> None:
        self._shape = (dimension, n_objectives)
        self._measures: dict[str, list[FloatArray | None]] = {name: [] for name in measures}
        self.clear()

    def __len__(self) -> int:
        return len(self._ids)

    def clear(self) -> None:
        """Forget all."""
        self._ids: list[int] = []
        self._genomes: list[FloatArray] = []
        self._losses: list[FloatArray] = []
        self._violations: list[float] = []
        for values in self._measures.values():
            values.clear()

    def add(self, told: Told) -> None:
        """Take in individuals, behind those that wait."""
        self._ids += told.ids.tolist()
        self._genomes += list(told.genomes)
        self._losses += list(told.losses)
        self._violations += told.violations.tolist()
        for name, values in self._measures.items():
            values += told.measures[name]

    def take(self, n: int) -> Told | None:
        """The first `n`, in the order of their ids, which then wait no more; None while there are fewer."""
        if len(self._ids) < n:
            return None
        taken = self.peek(n)
        del self._ids[:n], self._genomes[:n], self._losses[:n], self._violations[:n]
        for values in self._measures.values():
            del values[:n]
        return taken

    def peek(self, n: int | None = None) -> Told:
        """The first `n` or fewer (None: all) that wait, in the order of their ids; they go on waiting."""
        ids = np.array(self._ids[:n], dtype=np.int64)
        order = np.argsort(ids, kind="stable")
        return Told(
            ids[order],
            stacked([self._genomes[i] for i in order], self._shape[0]),
            stacked([self._losses[i] for i in order], self._shape[1]),
            np.array(self._violations[:n], dtype=np.float64)[order],
            {name: [values[i] for i in order] for name, values in self._measures.items()},
        )

    def revise(self, individual: int, loss: float) -> bool:
        """Another loss (of one objective) for an individual; whether it waits."""
        if individual not in self._ids:
            return False
        self._losses[self._ids.index(individual)] = np.array([loss])
        return True

    def save(self) -> Arrays:
        """Arrays for `load`."""
        arrays: Arrays = {
            "ids": np.array(self._ids, dtype=np.int64),
            "genomes": stacked(self._genomes, self._shape[0]),
            "losses": stacked(self._losses, self._shape[1]),
            "violations": np.array(self._violations, dtype=np.float64),
        }
        for name, values in self._measures.items():
            arrays |= {f"measures.{name}.{i}": value for i, value in enumerate(values) if value is not None}
        return arrays

    def load(self, arrays: Arrays) -> None:
        """Undo `save`; other arrays are passed over."""
        self._ids = arrays["ids"].tolist()
        self._genomes, self._losses = list(arrays["genomes"]), list(arrays["losses"])
        self._violations = arrays["violations"].tolist()
        for name, values in self._measures.items():
            values[:] = [arrays.get(f"measures.{name}.{i}") for i in range(len(self._ids))]


def shared_by_rank(told: Told, values: FloatArray) -> FloatArray:
    """For each row of `told` the value of its rank, shape (n,); `values` (n,) are given best rank first.

    Individuals that cannot be told apart (equal losses; infeasible ones of equal violation; failed ones)
    share the mean of theirs. So failures do not differ by chance, and a plateau pulls nowhere.
    """
    order = told.order()
    losses, violations = told.losses[order, 0], told.violations[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (losses[1:] != losses[:-1]) | (violations[1:] != violations[:-1])
    group = np.cumsum(first) - 1
    means = np.bincount(group, values) / np.bincount(group)
    shared: FloatArray = np.empty(len(order))
    shared[order] = means[group]
    return shared
