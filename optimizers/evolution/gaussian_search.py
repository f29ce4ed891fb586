"""What optimizers share that move a Gaussian by the ranks of a generation: start, bounds, generations.

The Gaussian lives in R^n; its samples are folded into the cube as those of `cmaes` are. A generation is
complete when lambda were told, whichever were asked first. Steps of individuals that were drawn from an
earlier distribution are limited (Hansen, "Injecting external solutions into CMA-ES", arXiv:1110.4181).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from optimizers.base import Arrays, FloatArray, Migration, Optimizer, Options, Recommendation, Told
from optimizers.bins import least_std
from optimizers.bounds import from_unit, to_unit
from optimizers.generations import Waiting
from optimizers.starts import Start, first_point
from optimizers.versions import part

SMALLEST_POPULATION = 4
LARGEST_STD = 1 / 3  # of the cube
SMALLEST_STD = 1e-12


class GaussianOptions(Options):
    """Options of all optimizers that move a Gaussian."""

    population: int | None = Field(
        None, ge=SMALLEST_POPULATION, description="lambda, told for each step; null: as many as the first ask"
    )
    sigma: float = Field(0.3, ge=1e-9, le=1, description="first standard deviation, as a share of each range")
    start: Start = Field("default", description="first mean")


class GaussianSearch(Optimizer):
    """Subclasses provide `_begin`, `_draw`, `_standardised`, `_step`, `_std`, `_save_own`, `_restore_own`."""

    format_version = 2
    migrations: ClassVar[dict[int, Migration]] = {1: lambda meta, _: meta["own"].update(start_loss=None)}
    Options: ClassVar[type[GaussianOptions]] = GaussianOptions
    options: GaussianOptions

    @classmethod
    def default_batch(cls, dimension: int) -> int:
        return 4 + int(3 * math.log(dimension))

    def _start(self) -> None:
        self._population = self.options.population or 0  # 0: the first ask will tell
        self._generation = 0
        self._generation_first_id = 0  # individuals before it were drawn from an earlier distribution
        self._waiting = Waiting(self.space.dimension)
        self._mean = from_unit(first_point(self.space, self.options.start, self._rng))
        self._start_loss: float | None = None  # of the first mean, if it was observed
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Set the distribution around `_mean`."""

    @abstractmethod
    def _draw(self, n: int) -> FloatArray:
        """`n` samples, shape (n, dimension)."""

    @abstractmethod
    def _standardised(self, steps: FloatArray) -> FloatArray:
        """Steps from the mean, shape (n, dimension), as those of a standard normal distribution."""

    @abstractmethod
    def _step(self, z: FloatArray, told: Told) -> None:
        """Change the distribution; `z`, shape (n, dimension), are the standardised steps of `told`."""

    @abstractmethod
    def _std(self) -> FloatArray:
        """Standard deviation of each coordinate, shape (dimension,)."""

    @abstractmethod
    def _save_own(self) -> tuple[dict[str, Any], Arrays]:
        """The distribution but for its mean."""

    @abstractmethod
    def _restore_own(self, own: dict[str, Any], arrays: Arrays) -> None:
        """Undo `_save_own`."""

    def _unit(self, genome: FloatArray) -> FloatArray:
        return to_unit(genome)

    def _genome(self, unit: FloatArray) -> FloatArray:
        return from_unit(unit)

    def _observe(self, told: Told) -> None:
        """Before the first step, the search begins at the best individual known."""
        best = told.order()[0]
        loss = float(told.losses[best, 0])
        known = math.inf if self._start_loss is None else self._start_loss
        if not self._generation and loss < known:
            self._mean, self._start_loss = told.genomes[best], loss

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._waiting.revise(individual, loss)

    def _sample(self, n: int) -> FloatArray:
        if not self._population:
            self._population = self._size_for(n, SMALLEST_POPULATION)
        return self._draw(n)

    def _learn(self, told: Told) -> None:
        self._waiting.add(told)
        while (generation := self._waiting.take(self._population)) is not None:
            if np.isfinite(generation.violations).any():  # else nothing is known about who was better
                self._next_generation(generation)

    def _next_generation(self, told: Told) -> None:
        z = self._standardised(told.genomes - self._mean)
        n = self.space.dimension
        limit = math.sqrt(n) + 2 * n / (n + 2)
        length = np.sqrt(np.einsum("ij,ij->i", z, z))
        far = (told.ids < self._generation_first_id) & (length > limit)
        z *= np.where(far, limit / np.maximum(length, 1e-300), 1.0)[:, None]
        self._step(z, told)
        self._generation += 1
        self._generation_first_id = self._next_id

    def _least_std(self) -> FloatArray:
        """Coordinates are kept at least as wide as this, shape (dimension,)."""
        return np.maximum(least_std(self.space, to_unit(self._mean)), SMALLEST_STD)

    def recommend(self) -> Recommendation | None:
        """The mean of the distribution, which noise misleads less than the luckiest individual; before the
        first step, the best individual told."""
        if self._generation:
            return Recommendation(self.space.decode(to_unit(self._mean)), None, None)
        return super().recommend()

    def _figures(self) -> dict[str, float]:
        std = self._std()
        return {
            "std_min": float(std.min()),
            "std_max": float(std.max()),
            "population": self._population,
            "model_generation": self._generation,
            "waiting": len(self._waiting),
        }

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        own, arrays = self._save_own()
        own |= {
            "population": self._population,
            "generation": self._generation,
            "start_loss": self._start_loss,
            "generation_first_id": self._generation_first_id,
        }
        waiting = {f"waiting.{name}": array for name, array in self._waiting.save().items()}
        return own, {**arrays, **waiting, "mean": self._mean}

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._population, self._generation = own["population"], own["generation"]
        self._generation_first_id, self._start_loss = own["generation_first_id"], own["start_loss"]
        self._waiting.load(part(arrays, "waiting."))
        self._mean = arrays["mean"]
        self._restore_own(own, arrays)


def natural_utilities(n: int) -> FloatArray:
    """Utilities of natural evolution strategies for `n` ranks, best first: logarithmic above the middle,
    equal below it; the sum is 0."""
    raw = np.maximum(0.0, math.log(n / 2 + 1) - np.log(np.arange(1, n + 1)))
    utilities: FloatArray = raw / raw.sum() - 1 / n
    return utilities
