"""Points that were good elsewhere, to be evaluated here first."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from optimizers.individuals import FloatArray, Told

CAPACITY = 100


class Seeds:
    """The best points observed, each to be taken once; for methods that must evaluate a point themselves
    before they can use it."""

    def __init__(self, dimension: int) -> None:
        self._genomes = np.empty((0, dimension))
        self._losses = np.empty(0)

    def add(self, told: Told) -> None:
        """Take in observations; of more than CAPACITY, the best are kept."""
        losses = np.concatenate([self._losses, told.losses[:, 0]])
        best = np.argsort(losses, kind="stable")[:CAPACITY]
        self._genomes = np.concatenate([self._genomes, told.genomes])[best]
        self._losses = losses[best]

    def take(self, n: int) -> FloatArray:
        """Up to `n` points, the best first, shape (k, dimension); they are not given again."""
        taken = self._genomes[:n]
        self._genomes, self._losses = self._genomes[n:], self._losses[n:]
        return taken

    def save(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for `load`."""
        return {"seeds.genomes": self._genomes, "seeds.losses": self._losses}

    def load(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Undo `save`; other arrays are passed over."""
        self._genomes, self._losses = arrays["seeds.genomes"], arrays["seeds.losses"]
