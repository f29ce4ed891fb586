"""One small interface over our optimizers and the libraries: ask, tell, recommend.

An algorithm is named `library:algorithm`, and with options `library:algorithm:option=value:...`; `own` is
this project. A library is imported only when one of its algorithms is made.
"""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, cast

import numpy as np

from optimizers.individuals import FloatArray

SIGMA = 2.0
"""First standard deviation in [-5, 5]^D for libraries that have no default: a fifth of the range."""


class UnsupportedError(Exception):
    """This algorithm is not for this task."""


@dataclass(frozen=True)
class Task:
    """What an algorithm knows of its problem.

    Attributes:
        start: where to begin, for algorithms that begin at a point; shape (dimension,).
        batch: how many points are evaluated at a time; None: as the algorithm likes it best.
        budget: how many evaluations there will be; only algorithms that declare `uses_budget` may look.
    """

    dimension: int
    low: float
    high: float
    start: FloatArray
    seed: int
    budget: int
    batch: int | None = None
    objectives: int = 1


class Adapter(ABC):
    """An algorithm at work on a task.

    Attributes:
        batch: how many points to ask for. What comes may be another number (a whole generation, say).
    """

    batch: int

    @abstractmethod
    def ask(self, n: int) -> FloatArray:
        """Points to evaluate, shape (m, dimension); m = 0: there is nothing left to try."""

    @abstractmethod
    def tell(self, points: FloatArray, losses: FloatArray) -> None:
        """All that were asked last, in that order; losses have shape (m, objectives), inf where it failed."""

    def recommend(self) -> FloatArray | None:
        """What the algorithm would use now; None: the point with the lowest loss told."""
        return None

    def close(self) -> None:  # noqa: B027
        """End threads, if there are any."""


class Restarting(Adapter):
    """A method that converges and begins anew with a doubled population (IPOP), as the field runs CMA-ES.

    Recommended is the mean of the run with the lowest median loss in its last generation.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._chance = np.random.default_rng(task.seed)
        self._runs = 0
        self._elder: tuple[float, FloatArray] | None = None
        self._median = np.inf

    def first_mean(self) -> FloatArray:
        """The task's start; for restarts, a random point of the box, as for ours."""
        if not self._runs:
            return self.task.start
        return self._chance.uniform(self.task.low, self.task.high, self.task.dimension)

    def converged(self, losses: FloatArray, mean: FloatArray, stop: bool) -> bool:
        """Note the generation; True: begin anew."""
        self._median = float(np.median(losses))
        if stop:
            self._runs += 1
            if self._elder is None or self._median < self._elder[0]:
                self._elder = (self._median, mean)
        return stop

    def better_mean(self, mean: FloatArray) -> FloatArray:
        """This run's mean, or that of a better earlier run."""
        return mean if self._elder is None or self._median < self._elder[0] else self._elder[1]


ALGORITHMS: Mapping[str, tuple[str, ...]] = {
    "pycma": ("cma", "diagonal"),
    "cmaes": ("cma", "sepcma", "xnes", "lra"),
    "nevergrad": ("NGOpt", "CMA", "DE", "TwoPointsDE", "PSO", "RandomSearch"),
    "optuna": ("tpe", "cmaes", "random"),
    "pymoo": ("ga", "de", "pso"),
    "scipy": ("de", "dual-annealing"),
    "l2l": (
        *("ga", "ce", "ce-gauss", "face", "es", "nes", "sa", "pt", "grid"),
        *("gd-classic", "gd-stochastic", "gd-rmsprop", "gd-adam", "gd-adamax"),
        *("es-tuned", "sa-tuned", "pt-tuned", "gd-adam-tuned"),
    ),
}
"""The libraries' algorithms for one objective. `l2l` is the incumbent."""

PYMOO_MULTI = ("nsga2", "nsga3")


@dataclass(frozen=True)
class Algorithm:
    """A name, taken apart."""

    library: str
    name: str
    options: Mapping[str, Any]

    USES_BUDGET: ClassVar[frozenset[str]] = frozenset(
        {"nevergrad", "l2l:sa", "l2l:pt", "l2l:sa-tuned", "l2l:pt-tuned", "l2l:grid"}
    )

    @classmethod
    def parse(cls, text: str) -> Algorithm:
        """`own:genetic:reevaluate=4` and the like; values are JSON, or else texts."""
        library, name, *given = text.split(":")
        options = {}
        for item in given:
            key, _, value = item.partition("=")
            try:
                options[key] = json.loads(value)
            except ValueError:
                options[key] = value
        return cls(library, name, options)

    @property
    def uses_budget(self) -> bool:
        """Whether it does something else when the budget is another one. What does not is run once, with
        the largest budget, and read off at the smaller ones."""
        return not {self.library, f"{self.library}:{self.name}"}.isdisjoint(self.USES_BUDGET)


def load(text: str) -> ModuleType:
    """Import the library of the named algorithm; the module with its adapter."""
    return importlib.import_module(f"benchmarks.optimizers.adapters.{Algorithm.parse(text).library}_")


def make(text: str, task: Task) -> Adapter:
    """The named algorithm, ready to be asked.

    Raises:
        UnsupportedError: it is not for this task.
    """
    algorithm = Algorithm.parse(text)
    if algorithm.library != "own" and algorithm.library not in ALGORITHMS:
        raise ValueError(f"{text}: no such library; there are own, {', '.join(ALGORITHMS)}")
    known = ALGORITHMS.get(algorithm.library, ()) + (PYMOO_MULTI if algorithm.library == "pymoo" else ())
    if algorithm.library != "own" and algorithm.name not in known:
        raise ValueError(f"{text}: no such algorithm; there are {', '.join(known)}")
    maker = cast(Callable[[str, Task, Mapping[str, Any]], Adapter], load(text).make)
    return maker(algorithm.name, task, algorithm.options)


def expand(patterns: list[str], objectives: int = 1) -> list[str]:
    """The names; `library:*` stands for all of a library, sorted out by the number of objectives."""
    chosen: list[str] = []
    for pattern in patterns:
        library, _, name = pattern.partition(":")
        if name != "*":
            chosen.append(pattern)
        elif library == "own":
            from benchmarks.optimizers.adapters import own_

            chosen += [f"own:{found}" for found in own_.names(objectives)]
        elif objectives == 1:
            chosen += [f"{library}:{found}" for found in ALGORITHMS[library]]
        else:
            chosen += [f"pymoo:{found}" for found in PYMOO_MULTI if library == "pymoo"]
    return list(dict.fromkeys(chosen))
