"""Optuna: TPE, its CMA-ES and random search, by a study in memory. Failures are told as failed trials.

With a batch, TPE is given `constant_liar`, as its documentation advises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna

from benchmarks.optimizers.adapters import Adapter, Task
from optimizers.individuals import FloatArray


class Optuna(Adapter):
    """A study, asked one by one when the task leaves the batch open."""

    def __init__(self, name: str, task: Task, options: Mapping[str, Any]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.batch = task.batch or 1
        self._names = [f"x{i}" for i in range(task.dimension)]
        uniform = optuna.distributions.FloatDistribution(task.low, task.high)
        self._space = dict.fromkeys(self._names, uniform)
        sampler: Any
        if name == "tpe":
            sampler = optuna.samplers.TPESampler(seed=task.seed, constant_liar=self.batch > 1, **options)
        elif name == "cmaes":
            first = dict(zip(self._names, task.start.tolist(), strict=True))
            sampler = optuna.samplers.CmaEsSampler(x0=first, seed=task.seed, popsize=task.batch, **options)
        else:
            sampler = optuna.samplers.RandomSampler(seed=task.seed, **options)
        self._study: Any = optuna.create_study(sampler=sampler)
        self._asked: list[Any] = []

    def ask(self, n: int) -> FloatArray:
        self._asked = [self._study.ask(self._space) for _ in range(n)]
        return np.array([[trial.params[name] for name in self._names] for trial in self._asked])

    def tell(self, points: FloatArray, losses: FloatArray) -> None:  # noqa: ARG002
        for trial, loss in zip(self._asked, losses[:, 0].tolist(), strict=True):
            if math.isfinite(loss):
                self._study.tell(trial, loss)
            else:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)


def make(name: str, task: Task, options: Mapping[str, Any]) -> Adapter:
    return Optuna(name, task, options)
