"""pymoo: GA, DE and PSO for one objective, NSGA-II and NSGA-III for several.

Failures are told as infinity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.soo.nonconvex.de import DE
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.algorithms.soo.nonconvex.pso import PSO
from pymoo.core.evaluator import Evaluator
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.problems.static import StaticProblem
from pymoo.util.ref_dirs import get_reference_directions

from benchmarks.optimizers.adapters import Adapter, Task
from optimizers.individuals import FloatArray

KINDS = {"ga": GA, "de": DE, "pso": PSO, "nsga2": NSGA2, "nsga3": NSGA3}


class Pymoo(Adapter):
    """One algorithm of pymoo; a generation at a time."""

    def __init__(self, name: str, task: Task, options: Mapping[str, Any]) -> None:
        self._problem = Problem(
            n_var=task.dimension, n_obj=task.objectives, xl=np.full(task.dimension, task.low), xu=task.high
        )
        given = dict(options)
        if task.batch is not None:
            given["pop_size"] = task.batch
        if name == "nsga3":
            partitions = {2: 99, 3: 12}[task.objectives]
            given["ref_dirs"] = get_reference_directions(
                "das-dennis", task.objectives, n_partitions=partitions
            )
        self._algorithm: Any = KINDS[name](**given)
        self._algorithm.setup(self._problem, termination=NoTermination(), seed=task.seed, verbose=False)
        self.batch = int(self._algorithm.pop_size)
        self._asked: Any = None

    def ask(self, n: int) -> FloatArray:  # noqa: ARG002
        self._asked = self._algorithm.ask()
        if self._asked is None or len(self._asked) == 0:
            return np.empty((0, self._problem.n_var))
        return np.array(self._asked.get("X"), dtype=np.float64)

    def tell(self, points: FloatArray, losses: FloatArray) -> None:  # noqa: ARG002
        Evaluator().eval(StaticProblem(self._problem, F=losses), self._asked)
        self._algorithm.tell(infills=self._asked)


def make(name: str, task: Task, options: Mapping[str, Any]) -> Adapter:
    return Pymoo(name, task, options)
