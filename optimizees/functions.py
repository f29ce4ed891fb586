"""Standard test functions of continuous optimisation, with noise, run times and failures to order.

They cost nothing by themselves, so they serve to try optimizers, sites and campaigns. The bounds are not
symmetric about the optimum: an optimizer that starts at the centre of the box must not be right by luck.
Definitions: Surjanovic & Bingham, Virtual Library of Simulation Experiments.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from typing import Any, ClassVar, Dict, Tuple

import numpy as np

from optimizees.base import Context, Optimizee, Result, check_number, check_whole
from optimizers.space import Float, Space


class BenchmarkFunction(Optimizee):
    """A function of `x` (a vector of `dimension` numbers) that is minimised; the minimum is 0.

    Options:
        dimension: length of x.
        noise: standard deviation of the normal noise on the loss; the metric `value` stays free of noise.
        run_time: mean duration of an evaluation in seconds (slept, lognormal).
        run_time_cv: coefficient of variation of that duration.
        fail: probability that an evaluation raises an exception; drawn from its seed, so every attempt at
            that evaluation fails, as with a real bug.
    """

    bounds: ClassVar[Tuple[float, float]]
    smallest: ClassVar[int] = 1

    def __init__(
        self,
        dimension: int = 2,
        noise: float = 0.0,
        run_time: float = 0.0,
        run_time_cv: float = 0.0,
        fail: float = 0.0,
    ) -> None:
        self.dimension = check_whole("dimension", dimension, self.smallest)
        self.noise = check_number("noise", noise, 0.0)
        self.run_time = check_number("run_time", run_time, 0.0)
        self.run_time_cv = check_number("run_time_cv", run_time_cv, 0.0)
        self.fail = check_number("fail", fail, 0.0, 1.0)

    @staticmethod
    @abstractmethod
    def value(x: np.ndarray) -> float:
        """The function at x, shape (dimension,)."""

    def space(self) -> Space:
        low, high = self.bounds
        return Space({"x": Float(low, high, shape=(self.dimension,))})

    def evaluate(
        self,
        params: Dict[str, Any],
        task: Dict[str, Any],  # noqa: ARG002
        rng: np.random.Generator,
        context: Context,
    ) -> Result:
        noise, fate = float(rng.standard_normal()), float(rng.random())
        if self.run_time > 0:
            variance = math.log1p(self.run_time_cv**2)
            factor = math.exp(math.sqrt(variance) * float(rng.standard_normal()) - variance / 2)
            time.sleep(self.run_time * factor)
        if fate < self.fail:
            raise RuntimeError(f"ordered by the option fail={self.fail:g} (seed {context.seed})")
        value = self.value(np.asarray(params["x"], dtype=float))
        return Result([value + self.noise * noise], {"value": value})


class Sphere(BenchmarkFunction):
    """Sum of squares: one basin, no ridges."""

    summary = "sum of squares; the easiest function, minimum 0 at x = 0"
    bounds = (-5.0, 10.0)

    @staticmethod
    def value(x: np.ndarray) -> float:
        return float(np.sum(x**2))


class Rosenbrock(BenchmarkFunction):
    """A narrow bent valley: easy to find, slow to follow."""

    summary = "a narrow bent valley, minimum 0 at x = 1"
    bounds = (-5.0, 10.0)
    smallest = 2

    @staticmethod
    def value(x: np.ndarray) -> float:
        return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


class Rastrigin(BenchmarkFunction):
    """A bowl covered with regular dents: many local minima."""

    summary = "a bowl with very many local minima, minimum 0 at x = 0"
    bounds = (-4.0, 6.0)

    @staticmethod
    def value(x: np.ndarray) -> float:
        return float(10.0 * x.size + np.sum(x**2 - 10.0 * np.cos(2.0 * math.pi * x)))


class Ackley(BenchmarkFunction):
    """A nearly flat plain with dents and one deep hole."""

    summary = "a plain with dents and one deep hole, minimum 0 at x = 0"
    bounds = (-15.0, 30.0)

    @staticmethod
    def value(x: np.ndarray) -> float:
        root = math.sqrt(float(np.mean(x**2)))
        waves = float(np.mean(np.cos(2.0 * math.pi * x)))
        return -20.0 * math.exp(-0.2 * root) - math.exp(waves) + 20.0 + math.e
