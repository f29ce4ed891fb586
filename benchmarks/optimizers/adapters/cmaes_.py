"""The library `cmaes`: CMA-ES, Sep-CMA-ES, xNES and CMA-ES with learning rate adaptation, IPOP around them.

Failures are told as infinity: NaN would spoil its sort.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cmaes
import numpy as np

from benchmarks.optimizers.adapters import SIGMA, Adapter, Restarting, Task
from optimizers.individuals import FloatArray

KINDS = {"cma": "CMA", "lra": "CMA", "sepcma": "SepCMA", "xnes": "XNES"}


class Cmaes(Restarting):
    """One of the library's classes after another."""

    def __init__(self, name: str, task: Task, options: Mapping[str, Any]) -> None:
        super().__init__(task)
        self._kind: Any = getattr(cmaes, KINDS[name])
        self._options = {**({"lr_adapt": True} if name == "lra" else {}), **options}
        self._population = task.batch
        self._begin()
        self.batch = self._population = int(self._model.population_size)

    def _begin(self) -> None:
        bounds = np.array([[self.task.low, self.task.high]] * self.task.dimension)
        self._model: Any = self._kind(
            mean=self.first_mean().copy(),
            sigma=SIGMA,
            bounds=bounds,
            seed=self.task.seed + self._runs,
            population_size=self._population,
            **self._options,
        )

    def ask(self, n: int) -> FloatArray:  # noqa: ARG002
        return np.array([self._model.ask() for _ in range(self._model.population_size)])

    def tell(self, points: FloatArray, losses: FloatArray) -> None:
        if not np.isfinite(losses[:, 0]).any():
            return
        self._model.tell(list(zip(points, losses[:, 0].tolist(), strict=True)))
        if self.converged(losses[:, 0], self._mean(), bool(self._model.should_stop())):
            self._population = 2 * int(self._model.population_size)
            self._begin()

    def _mean(self) -> FloatArray:
        mean = self._model._mean if isinstance(self._model, cmaes.XNES) else self._model.mean
        return np.array(mean).clip(self.task.low, self.task.high)

    def recommend(self) -> FloatArray | None:
        return self.better_mean(self._mean())


def make(name: str, task: Task, options: Mapping[str, Any]) -> Adapter:
    return Cmaes(name, task, options)
