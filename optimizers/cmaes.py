"""CMA-ES with restarts: the default for up to a few hundred real parameters.

The distribution is in `optimizers.cma_model`. Here: generations out of whatever is told, bounds, whole
numbers, and restarts with a doubled population (IPOP: Auger and Hansen, CEC 2005).

* Bounds: the Gaussian lives in R^n; a genome is mapped to the cube by the periodic linear-quadratic
  transformation that is pycma's default (`BoundTransform`): the identity but for a margin at each bound.
  So every sample is valid, optima on the bounds can be reached, and no penalty has to be weighed.
* Whole numbers and choices are decoded by the space. So that a plateau does not end the search in them,
  a coordinate stays so wide that one sample in five leaves its bin somewhere.
* A generation is complete when lambda of the current run were told. Samples of earlier generations count
  (with their step limited); samples of an earlier run do not.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from optimizers import OptimizerError
from optimizers.base import Arrays, Capabilities, FloatArray, Optimizer, Options, Recommendation, Told
from optimizers.cma_model import Model, Strategy
from optimizers.space import Choice, Int, Space

LARGEST_DIMENSION = 2000
SMALLEST_POPULATION = 4
_MARGIN = 0.05  # of the cube, at each bound
_LEAVING = 0.2  # share of samples of a converged distribution that leave the mean's bin


class CMAESOptions(Options):
    """Options of `cmaes`."""

    population: int | None = Field(
        None, ge=SMALLEST_POPULATION, description="lambda of the first run; null: as many as the first ask"
    )
    sigma: float = Field(0.3, gt=0, le=1, description="first standard deviation, as a share of each range")
    restarts: int = Field(9, ge=0, description="how often a converged run starts anew with lambda doubled")
    start: Literal["default", "centre", "random"] = Field("default", description="first mean")


class CMAES(Optimizer):
    """Active CMA-ES with a full covariance matrix and IPOP restarts."""

    name = "cmaes"
    summary = "CMA-ES: learns scales and correlations of up to a few hundred real parameters; bears noise."
    format_version = 1
    Options: ClassVar[type[CMAESOptions]] = CMAESOptions
    capabilities = Capabilities(objectives="single", asynchronous=True)
    options: CMAESOptions

    @classmethod
    def default_batch(cls, dimension: int) -> int:
        return 4 + int(3 * math.log(dimension))

    def _start(self) -> None:
        n = self.space.dimension
        if n > LARGEST_DIMENSION:
            raise OptimizerError(
                f"cmaes keeps an n x n matrix: at most {LARGEST_DIMENSION} dimensions, got {n}. Use genetic."
            )
        self._population = self.options.population or 0  # 0: the first ask will tell
        self._restarts = 0
        self._converged = False
        self._run_first_id = 0  # individuals before it belong to an earlier run
        self._generation_first_id = 0  # individuals before it were drawn from an earlier distribution
        self._told_ids: list[int] = []
        self._told_genomes: list[FloatArray] = []
        self._told_losses: list[float] = []
        self._best_losses: list[float] = []  # best of each of the last generations of this run
        self._score = math.inf  # median loss of this run's last generation
        self._elder: tuple[float, FloatArray] | None = None  # score and mean of the best earlier run
        self._model = Model.start(self._first_mean(), self.options.sigma)

    def _first_mean(self) -> FloatArray:
        if self.options.start == "random":
            return from_unit(self._rng.random(self.space.dimension))
        if self.options.start == "centre":
            return np.full(self.space.dimension, 0.5)
        return from_unit(self.space.encode(self.space.default()))

    def _unit(self, genome: FloatArray) -> FloatArray:
        return to_unit(genome)

    def _genome(self, unit: FloatArray) -> FloatArray:
        return from_unit(unit)

    def _observe(self, told: Told) -> None:
        """Before the first generation, the search begins at the best individual known."""
        if not self._model.generation:
            self._model = Model.start(told.genomes[told.order()[0]], self.options.sigma)

    def _sample(self, n: int) -> FloatArray:
        if not self._population:
            small = n < SMALLEST_POPULATION
            self._population = self.default_batch(self.space.dimension) if small else n
        return self._model.sample(self._rng, n)

    def _learn(self, told: Told) -> None:
        if self._converged:
            return
        mine = told.rows(told.ids >= self._run_first_id)
        self._told_ids += mine.ids.tolist()
        self._told_genomes += list(mine.genomes)
        self._told_losses += mine.losses[:, 0].tolist()
        while len(self._told_ids) >= self._population:
            self._next_generation()

    def _next_generation(self) -> None:
        """Use up the first lambda told."""
        size = self._population
        ids, genomes = np.array(self._told_ids[:size]), np.array(self._told_genomes[:size])
        losses = np.array(self._told_losses[:size])
        del self._told_ids[:size], self._told_genomes[:size], self._told_losses[:size]
        ok = np.isfinite(losses)
        if not ok.any():
            return  # nothing is known about which of them were better: the distribution stays
        order = np.argsort(losses, kind="stable")  # failures, at infinity, come last
        least = least_std(self.space, to_unit(self._model.mean))
        strategy = Strategy.of(self.space.dimension, size)
        injected = ids[order] < self._generation_first_id
        self._model.update(strategy, genomes[order], int(ok.sum()), injected, least)
        self._generation_first_id = self._next_id
        self._score = 2 * float(np.median(losses[ok] / 2))  # the sum of two large losses is infinite
        self._best_losses = [*self._best_losses, float(losses[order[0]])][-self._window() :]
        if self._model.exhausted(self.options.sigma) or self._flat(losses[ok]):
            self._restart()

    def _window(self) -> int:
        return 10 + math.ceil(30 * self.space.dimension / self._population)

    def _flat(self, losses: FloatArray) -> bool:
        """Nothing changes any more (tutorial, B.3: EqualFunValues and TolFun)."""
        if len(self._best_losses) < self._window():
            return False
        spread = max(self._best_losses) - min(self._best_losses)
        return spread == 0 or (spread < 1e-12 and float(np.ptp(losses)) < 1e-12)

    def _restart(self) -> None:
        if self._restarts >= self.options.restarts:
            self._converged = True
            return
        if self._elder is None or self._score < self._elder[0]:
            self._elder = (self._score, self._model.mean)
        self._restarts += 1
        self._population *= 2
        self._run_first_id = self._generation_first_id = self._next_id
        self._told_ids, self._told_genomes, self._told_losses = [], [], []
        self._best_losses = []
        self._score = math.inf
        self._model = Model.start(from_unit(self._rng.random(self.space.dimension)), self.options.sigma)

    def recommend(self) -> Recommendation | None:
        """The mean of the distribution, which noise misleads less than the luckiest individual.

        Of several runs, the one with the lowest median loss in its last generation. Before the first
        generation is complete, the best individual told.
        """
        if self._elder is not None and self._elder[0] <= self._score:
            return Recommendation(self.space.decode(to_unit(self._elder[1])), None, None)
        if self._model.generation:
            return Recommendation(self.space.decode(to_unit(self._model.mean)), None, None)
        return super().recommend()

    def _figures(self) -> dict[str, float]:
        std = self._model.std()
        return {
            "sigma": self._model.sigma,
            "axis_ratio": float(self._model.axes.max() / self._model.axes.min()),
            "std_min": float(std.min()),
            "std_max": float(std.max()),
            "restarts": self._restarts,
            "population": self._population,
            "model_generation": self._model.generation,
            "waiting": len(self._told_ids),
            "median_loss": self._score,
            "converged": self._converged,
        }

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        scalars, members = self._model.save()
        own = {
            "model": scalars,
            "population": self._population,
            "restarts": self._restarts,
            "converged": self._converged,
            "run_first_id": self._run_first_id,
            "generation_first_id": self._generation_first_id,
            "score": self._score if math.isfinite(self._score) else None,
            "elder_score": None if self._elder is None else self._elder[0],
        }
        members["told.ids"] = np.array(self._told_ids, dtype=np.int64)
        members["told.genomes"] = np.array(self._told_genomes).reshape(-1, self.space.dimension)
        members["told.losses"] = np.array(self._told_losses, dtype=np.float64)
        members["best_losses"] = np.array(self._best_losses, dtype=np.float64)
        if self._elder is not None:
            members["elder_mean"] = self._elder[1]
        return own, members

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._population, self._restarts = own["population"], own["restarts"]
        self._converged = own["converged"]
        self._run_first_id, self._generation_first_id = own["run_first_id"], own["generation_first_id"]
        self._score = math.inf if own["score"] is None else own["score"]
        self._elder = None if own["elder_score"] is None else (own["elder_score"], arrays["elder_mean"])
        self._told_ids = arrays["told.ids"].tolist()
        self._told_genomes = list(arrays["told.genomes"])
        self._told_losses = arrays["told.losses"].tolist()
        self._best_losses = arrays["best_losses"].tolist()
        self._model = Model.load(own["model"], arrays)


def to_unit(genome: FloatArray) -> FloatArray:
    """From R^n to the cube: the identity in [margin, 1 - margin], quadratic at the bounds, periodic."""
    period = 2 * (1 + 2 * _MARGIN)
    folded = np.mod(genome + _MARGIN, period)
    folded = np.minimum(folded, period - folded) - _MARGIN  # in [-margin, 1 + margin]
    low = (folded + _MARGIN) ** 2 / (4 * _MARGIN)
    high = 1 - (1 + _MARGIN - folded) ** 2 / (4 * _MARGIN)
    unit = np.where(folded < _MARGIN, low, np.where(folded > 1 - _MARGIN, high, folded))
    return cast(FloatArray, np.clip(unit, 0.0, 1.0))


def from_unit(unit: FloatArray) -> FloatArray:
    """The inverse of `to_unit` in [-margin, 1 + margin]."""
    low = 2 * np.sqrt(_MARGIN * unit) - _MARGIN
    high = 1 + _MARGIN - 2 * np.sqrt(_MARGIN * (1 - unit))
    return np.where(unit < _MARGIN, low, np.where(unit > 1 - _MARGIN, high, unit))


def least_std(space: Space, unit: FloatArray) -> FloatArray:
    """Least standard deviations, shape (dimension,): 0 where continuous, else by the width of the bin.

    From the middle of its bins, a sample leaves at least one with the probability _LEAVING.
    """
    width = bin_width(space, unit)
    discrete = int((width > 0).sum())
    if not discrete:
        return width
    reach = NormalDist().inv_cdf(1 - _LEAVING / discrete / 2)
    return width / 2 / reach


def bin_width(space: Space, unit: FloatArray) -> FloatArray:
    """Width of the bin that holds each coordinate of a point, shape (dimension,); 0 where continuous."""
    width = np.zeros(space.dimension)
    for name, cut in space.slices.items():
        parameter = space.parameters[name]
        if isinstance(parameter, Choice):
            width[cut] = 1 / len(parameter.options)
        elif isinstance(parameter, Int) and parameter.log:
            low, high = parameter.scale()
            value = np.floor(np.exp(low + unit[cut] * (high - low)) + 0.5).clip(parameter.low, parameter.high)
            width[cut] = (np.log(value + 0.5) - np.log(value - 0.5)) / (high - low)
        elif isinstance(parameter, Int):
            width[cut] = 1 / (parameter.high - parameter.low + 1)
    return width
