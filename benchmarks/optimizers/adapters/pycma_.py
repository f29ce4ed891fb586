"""pycma: full and diagonal CMA-ES with its own bound handling, IPOP restarts around it.

Failures are told as NaN, which pycma replaces itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cma
import numpy as np

from benchmarks.optimizers.adapters import SIGMA, Adapter, Restarting, Task
from optimizers.individuals import FloatArray


class Pycma(Restarting):
    """One cma.CMAEvolutionStrategy after another."""

    def __init__(self, task: Task, options: Mapping[str, Any]) -> None:
        super().__init__(task)
        self._options = {"bounds": [task.low, task.high], "verbose": -9, "verb_disp": 0, **options}
        self._population = task.batch
        self._begin()
        self.batch = self._population = int(self._strategy.popsize)

    def _begin(self) -> None:
        own = {"seed": self.task.seed + self._runs, "popsize": self._population}
        given = {**self._options, **{key: value for key, value in own.items() if value is not None}}
        self._strategy: Any = cma.CMAEvolutionStrategy(self.first_mean(), SIGMA, given)

    def ask(self, n: int) -> FloatArray:  # noqa: ARG002
        return np.array(self._strategy.ask())

    def tell(self, points: FloatArray, losses: FloatArray) -> None:
        told = np.where(np.isfinite(losses[:, 0]), losses[:, 0], np.nan)
        if np.isnan(told).all():
            return
        self._strategy.tell(list(points), told.tolist())
        stop = bool(self._strategy.stop())
        if self.converged(losses[:, 0], np.array(self._strategy.result.xfavorite), stop):
            self._population = 2 * int(self._strategy.popsize)
            self._begin()

    def recommend(self) -> FloatArray | None:
        return self.better_mean(np.array(self._strategy.result.xfavorite))


def make(name: str, task: Task, options: Mapping[str, Any]) -> Adapter:
    return Pycma(task, {**({"CMA_diagonal": True} if name == "diagonal" else {}), **options})
