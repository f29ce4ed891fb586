"""nevergrad: optimizers of its registry, told the budget and the number of workers as it wants them.

Failures are told as infinity, which it replaces by a large number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nevergrad
import numpy as np

from benchmarks.optimizers.adapters import Adapter, Task
from optimizers.individuals import FloatArray


class Nevergrad(Adapter):
    """One optimizer; asked one by one when the task leaves the batch open."""

    def __init__(self, name: str, task: Task, options: Mapping[str, Any]) -> None:
        self.batch = task.batch or 1
        box = nevergrad.p.Array(init=task.start).set_bounds(task.low, task.high)
        box.random_state.seed(task.seed)
        kind = nevergrad.optimizers.registry[name]
        self._optimizer: Any = kind(
            parametrization=box, budget=task.budget, num_workers=self.batch, **options
        )
        self._asked: list[Any] = []

    def ask(self, n: int) -> FloatArray:
        self._asked = [self._optimizer.ask() for _ in range(n)]
        return np.array([one.value for one in self._asked])

    def tell(self, points: FloatArray, losses: FloatArray) -> None:  # noqa: ARG002
        for one, loss in zip(self._asked, losses[:, 0].tolist(), strict=True):
            self._optimizer.tell(one, loss)

    def recommend(self) -> FloatArray | None:
        return np.array(self._optimizer.provide_recommendation().value)


def make(name: str, task: Task, options: Mapping[str, Any]) -> Adapter:
    return Nevergrad(name, task, options)
