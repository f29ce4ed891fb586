"""The incumbent's own optimizers (package L2LforHPC), driven without its environment.

The classes are the package's; only the trajectory is a stub that keeps parameters and forgets results. With
the batch left open, the settings are those of the package's example scripts, population included; with a
batch, the population is the batch. `-tuned` ones have settings that were chosen once, because those of the
scripts hardly move. What begins at a point begins at the task's, populations begin uniform in the box; points
are clipped to it. Failures are told as infinity: NaN ends most of them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import random
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from l2l.optimizers.crossentropy.distribution import Gaussian, NoisyGaussian
from l2l.optimizers.crossentropy.optimizer import CrossEntropyOptimizer, CrossEntropyParameters
from l2l.optimizers.evolution import GeneticAlgorithmOptimizer, GeneticAlgorithmParameters
from l2l.optimizers.evolutionstrategies import EvolutionStrategiesOptimizer, EvolutionStrategiesParameters
from l2l.optimizers.face.optimizer import FACEOptimizer, FACEParameters
from l2l.optimizers.gradientdescent import optimizer as descent
from l2l.optimizers.gridsearch import GridSearchOptimizer, GridSearchParameters
from l2l.optimizers.naturalevolutionstrategies import (
    NaturalEvolutionStrategiesOptimizer,
    NaturalEvolutionStrategiesParameters,
)
from l2l.optimizers.paralleltempering import optimizer as tempering
from l2l.optimizers.simulatedannealing import optimizer as annealing

from benchmarks.optimizers.adapters import SIGMA, Adapter, Task, UnsupportedError
from optimizers.individuals import FloatArray

logging.getLogger("optimizers.face").setLevel(logging.ERROR)  # the incumbent's logger, not ours

ENDLESS = 10**9
FROM_START = ("es", "nes", "gd-")
Setting = tuple[Any, Any, int]
"""(optimizer class, its parameters, individuals per generation)"""


class Parameters(dict[str, Any]):
    """Parameters by attribute or key, as the incumbent's."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)

    def f_add_parameter(self, name: str, value: Any, comment: str = "") -> None:  # noqa: ARG002
        self[name] = value


class Results:
    """Takes any result and keeps none."""

    def __getattr__(self, name: str) -> Any:
        return self.ignore if name.startswith("f_add") else self

    def ignore(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is kept."""


class Trajectory:
    """What the optimizers need of the incumbent's trajectory, without its history."""

    def __init__(self) -> None:
        self.parameters = self.par = Parameters()
        self.results = Results()
        self.is_loaded = False
        self.hall_of_fame: Any = None

    @property
    def v_idx(self) -> int:
        return int(self.parameters["ind_idx"])

    @v_idx.setter
    def v_idx(self, index: int) -> None:
        """The run's index is the individual's: there is one run per individual."""
        self.parameters["ind_idx"] = index

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.parameters.get(name)

    def f_add_parameter(self, name: str, value: Any, comment: str = "") -> None:
        self.parameters.f_add_parameter(name, value, comment)

    f_add_derived_parameter = f_add_parameter

    def f_add_parameter_group(self, name: str, comment: str = "") -> None:  # noqa: ARG002
        self.parameters[name] = Parameters()

    def f_add_result(self, *args: Any, **kwargs: Any) -> None:
        """Results are not kept."""

    def f_expand(self, *args: Any, **kwargs: Any) -> None:
        """The individuals are read from the optimizer."""


class L2L(Adapter):
    """One of the incumbent's optimizers."""

    def __init__(self, name: str, task: Task, options: Mapping[str, Any]) -> None:
        random.seed(task.seed)  # the genetic algorithm and tempering use the global generators
        np.random.seed(task.seed)
        chance = np.random.default_rng(task.seed)
        kind, parameters, self.batch = _setting(name, task)
        if options:
            parameters = parameters._replace(**options)

        def individual() -> dict[str, FloatArray]:
            if name.startswith(FROM_START):
                return {"x": task.start.copy()}
            return {"x": chance.uniform(task.low, task.high, task.dimension)}

        def bounded(one: dict[str, Any]) -> dict[str, FloatArray]:
            return {"x": np.clip(one["x"], task.low, task.high)}

        self._task = task
        self._trajectory = Trajectory()
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            self._optimizer: Any = kind(
                self._trajectory,
                optimizee_create_individual=individual,
                optimizee_fitness_weights=(-1.0,),
                parameters=parameters,
                # As in its script; it would print every individual that it bounds.
                optimizee_bounding_func=None if name == "ga" else bounded,
            )
        self._grid = np.array(self._optimizer.param_list["x"]) if name == "grid" else None

    def ask(self, n: int) -> FloatArray:  # noqa: ARG002
        if self._grid is not None:
            points, self._grid = self._grid, self._grid[:0]
            return points
        rows = [np.asarray(one["x"], dtype=np.float64) for one in self._optimizer.eval_pop]
        points = np.array(rows).reshape(-1, self._task.dimension)
        return np.clip(points, self._task.low, self._task.high)

    def tell(self, points: FloatArray, losses: FloatArray) -> None:  # noqa: ARG002
        if self._grid is None:
            with contextlib.redirect_stdout(io.StringIO()):
                results = [(i, (loss,)) for i, loss in enumerate(losses[:, 0])]
                self._optimizer.post_process(self._trajectory, results)


def _setting(name: str, task: Task) -> Setting:
    """The optimizer with the settings of the package's example scripts; SA and PT cool over the budget."""
    if name == "ga":
        n = task.batch or 50
        return (
            GeneticAlgorithmOptimizer,
            GeneticAlgorithmParameters(0, n, 0.5, 0.3, ENDLESS, 0.02, 15, 0.5, 1),
            n,
        )
    if name in {"ce", "ce-gauss"}:
        return _cross_entropy(name, task)
    if name == "face":
        n = task.batch or 20
        face = FACEParameters(
            n, n * 5 // 2, n // 2, 0.2, 0, ENDLESS, Gaussian(), max(1, n // 4), np.inf, task.seed
        )
        return FACEOptimizer, face, n
    if name in {"es", "es-tuned"}:
        pairs = (task.batch - 1) // 2 if task.batch else 20
        # Tuned, so that a step of the mean is about one standard deviation.
        rate, std = (0.1, 1.0) if name == "es" else (0.18 * pairs, 0.3)
        es = EvolutionStrategiesParameters(rate, std, True, True, pairs, ENDLESS, np.inf, task.seed)
        return EvolutionStrategiesOptimizer, es, 2 * pairs + 1
    if name == "nes":
        n = task.batch or 4 + int(3 * np.log(task.dimension))
        sigma = np.full(task.dimension, SIGMA)
        nes = NaturalEvolutionStrategiesParameters(
            None, None, task.start.copy(), sigma, False, True, n, ENDLESS, np.inf, task.seed
        )
        return NaturalEvolutionStrategiesOptimizer, nes, n
    if name == "grid":
        points = int(task.budget ** (1 / task.dimension) + 1e-9)
        if points < 2:
            raise UnsupportedError("the budget is no grid of two points per axis")
        grid = GridSearchParameters({"x": (task.low, task.high, points - 1)})
        return GridSearchOptimizer, grid, points**task.dimension
    if name in {"sa", "pt"}:
        return _annealing(name, task)
    return _tuned_annealing(name, task) if name in {"sa-tuned", "pt-tuned"} else _descent(name, task)


def _cross_entropy(name: str, task: Task) -> Setting:
    """`ce`: the script's settings; `ce-gauss`: chosen better, with a plain Gaussian."""
    if name == "ce":
        n = task.batch or 10
        noisy = NoisyGaussian(noise_magnitude=1.0, noise_decay=0.99)
        ce = CrossEntropyParameters(n, 0.9, 0.0, 0, ENDLESS, noisy, np.inf, task.seed)
    else:
        n = task.batch or 50
        ce = CrossEntropyParameters(n, 0.25, 0.3, 0, ENDLESS, Gaussian(), np.inf, task.seed)
    return CrossEntropyOptimizer, ce, n


def _annealing(name: str, task: Task) -> Setting:
    n = task.batch or {"sa": 50, "pt": 5}[name]
    steps = max(1, task.budget // n)
    if name == "sa":
        cooling = annealing.AvailableCoolingSchedules.QUADRATIC_ADDAPTIVE
        sa = annealing.SimulatedAnnealingParameters(n, 0.03, 0.99, steps, np.inf, task.seed, cooling)
        return annealing.SimulatedAnnealingOptimizer, sa, n
    kinds = tempering.AvailableCoolingSchedules
    schedules = [kinds.EXPONENTIAL_ADDAPTIVE] * 3 + [kinds.LINEAR_ADDAPTIVE] * 2
    bounds = np.array([[0.8, 0], [0.7, 0], [0.6, 0], [1, 0.1], [0.9, 0.2]])
    rows = np.arange(n) % len(bounds)
    pt = tempering.ParallelTemperingParameters(
        n, 0.03, steps, np.inf, task.seed, [schedules[i] for i in rows], bounds[rows], np.full(n, 0.99)
    )
    return tempering.ParallelTemperingOptimizer, pt, n


def _tuned_annealing(name: str, task: Task) -> Setting:
    """Temperatures, which also are the step sizes, fall geometrically from 1 to 1e-4 over the budget."""
    n = task.batch or 10
    steps = max(1, task.budget // n)
    if name == "sa-tuned":
        cooling = annealing.AvailableCoolingSchedules.DEFAULT
        sa = annealing.SimulatedAnnealingParameters(
            n, 1.0, 1e-4 ** (1 / steps), steps, np.inf, task.seed, cooling
        )
        return annealing.SimulatedAnnealingOptimizer, sa, n
    last = np.logspace(-4, -1, n)
    schedules = [tempering.AvailableCoolingSchedules.DEFAULT] * n
    bounds = np.column_stack([np.ones(n), last])
    pt = tempering.ParallelTemperingParameters(
        n, 1.0, steps, np.inf, task.seed, schedules, bounds, last ** (1 / steps)
    )
    return tempering.ParallelTemperingOptimizer, pt, n


def _descent(name: str, task: Task) -> Setting:
    probes = task.batch - 1 if task.batch else 5
    own: dict[str, tuple[Any, dict[str, float]]] = {
        "gd-classic": (descent.ClassicGDParameters, {}),
        "gd-stochastic": (
            descent.StochasticGDParameters,
            {"stochastic_deviation": 1, "stochastic_decay": 0.99},
        ),
        "gd-rmsprop": (descent.RMSPropParameters, {"momentum_decay": 0.5}),
        "gd-adam": (descent.AdamParameters, {"first_order_decay": 0.8, "second_order_decay": 0.8}),
        "gd-adam-tuned": (
            descent.AdamParameters,
            {"learning_rate": 0.1, "first_order_decay": 0.9, "second_order_decay": 0.999},
        ),
        "gd-adamax": (
            descent.AdaMaxParameters,
            {"learning_rate": 0.02, "first_order_decay": 0.9, "second_order_decay": 0.999},
        ),
    }
    kind, more = own[name]
    shared = {
        "learning_rate": 0.01,
        "exploration_step_size": 0.01,
        "n_random_steps": probes,
        "n_iteration": ENDLESS,
        "stop_criterion": np.inf,
        "seed": task.seed,
    }
    return descent.GradientDescentOptimizer, kind(**{**shared, **more}), probes + 1


def make(name: str, task: Task, options: Mapping[str, Any]) -> Adapter:
    return L2L(name, task, options)
