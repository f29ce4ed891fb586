"""This project's optimizers, with their default options, by the registry's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import optimizers
from benchmarks.optimizers.adapters import Adapter, Task, UnsupportedError
from benchmarks.optimizers.families import family
from optimizers import OptimizerError
from optimizers.base import Evaluated, Optimizer, Suggestion
from optimizers.individuals import FloatArray
from optimizers.space import Float, Space


class Own(Adapter):
    """An optimizer of the registry on the parameter x of the task's box."""

    def __init__(self, name: str, task: Task, options: Mapping[str, Any]) -> None:
        kind = optimizers.get(name)
        at = task.start.tolist()
        space = Space({"x": Float(task.low, task.high, shape=(task.dimension,), default=at)})
        try:
            self.optimizer: Optimizer = kind(space, task.objectives, options, task.seed)
        except OptimizerError as error:
            raise UnsupportedError(str(error)) from error
        if needed := kind.measures(self.optimizer.options):
            raise UnsupportedError(f"{name} learns from measures, not from losses: {', '.join(needed)}")
        self.batch = task.batch or kind.default_batch(task.dimension)
        self._asked: list[Suggestion] = []
        self._dimension = task.dimension

    def ask(self, n: int) -> FloatArray:
        self._asked = self.optimizer.ask(n)
        return np.array([one.params["x"] for one in self._asked]).reshape(-1, self._dimension)

    def tell(self, points: FloatArray, losses: FloatArray) -> None:  # noqa: ARG002
        evaluated = []
        for one, values in zip(self._asked, losses.tolist(), strict=True):
            ok = bool(np.isfinite(values).all())
            evaluated.append(Evaluated(one.id, tuple(values) if ok else None, "ok" if ok else "failed"))
        self.optimizer.tell(evaluated)

    def recommend(self) -> FloatArray | None:
        if self.optimizer.n_objectives > 1:
            return None
        recommended = self.optimizer.recommend()
        return None if recommended is None else np.array(recommended.params["x"])


def make(name: str, task: Task, options: Mapping[str, Any]) -> Adapter:
    return Own(name, task, options)


def names(objectives: int) -> list[str]:
    """Optimizers of the registry for so many objectives that need nothing but losses."""
    task = Task(2, -5.0, 5.0, np.zeros(2), 1, 100, None, objectives)
    found = []
    for name in optimizers.names():
        if objectives > 1 and family(f"own:{name}") == "designs":
            continue  # they do not look at losses; the tables of one objective have them
        try:
            Own(name, task, {})
        except UnsupportedError:
            continue
        found.append(name)
    return found
