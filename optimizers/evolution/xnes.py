"""Exponential natural evolution strategy: a Gaussian with all correlations, on an exponential map.

Glasmachers, Schaul, Sun, Wierstra and Schmidhuber, "Exponential natural evolution strategies", GECCO 2010;
learning rates and utilities: Wierstra et al., "Natural evolution strategies", Journal of Machine Learning
Research 15 (2014), table 1. There, one small rate holds for the step size and the shape, whatever the
population. Here the step size, a single number, has the rate of the separable strategy, and the rate of the
shape grows with the population, as that of the rank-mu update in CMA-ES does.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from optimizers import OptimizerError
from optimizers.base import Arrays, Capabilities, FloatArray, Told
from optimizers.evolution.gaussian_search import (
    LARGEST_STD,
    GaussianOptions,
    GaussianSearch,
    natural_utilities,
)
from optimizers.generations import shared_by_rank

LARGEST_DIMENSION = 1000
_LARGEST_CHANGE = 1.0  # of the logarithm of any standard deviation, in one generation


class XNESOptions(GaussianOptions):
    """Options of `xnes`."""

    learning_rate_mean: float = Field(1.0, gt=0, le=10, description="eta of the mean")
    learning_rate_sigma: float | None = Field(
        None, gt=0, le=10, description="eta of the step size; null: (3 + ln D) / (5 sqrt D)"
    )
    learning_rate_shape: float | None = Field(
        None, gt=0, le=10, description="eta of the shape; null: 3 / D of that, more in large populations"
    )


class XNES(GaussianSearch):
    """N(mean, sigma^2 B B^T), moved along the natural gradient of the expected utility."""

    name = "xnes"
    summary = (
        "Exponential natural evolution strategy: learns scales and correlations of some tens of parameters."
    )
    Options: ClassVar[type[XNESOptions]] = XNESOptions
    capabilities = Capabilities(objectives="single", asynchronous=True, constraints=True)
    options: XNESOptions

    def _begin(self) -> None:
        n = self.space.dimension
        if n > LARGEST_DIMENSION:
            raise OptimizerError(
                f"xnes keeps an n x n matrix: at most {LARGEST_DIMENSION} dimensions, got {n}. Use snes."
            )
        self._root = self.options.sigma * np.eye(n)  # A = sigma B; the covariance is A A^T

    def _draw(self, n: int) -> FloatArray:
        z = self._rng.standard_normal((n, self.space.dimension))
        return self._mean + z @ self._root.T

    def _standardised(self, steps: FloatArray) -> FloatArray:
        return np.ascontiguousarray(np.linalg.solve(self._root, steps.T).T)

    def _std(self) -> FloatArray:
        std: FloatArray = np.sqrt(np.einsum("ij,ij->i", self._root, self._root))
        return std

    def _step(self, z: FloatArray, told: Told) -> None:
        n = self.space.dimension
        utilities = shared_by_rank(told, natural_utilities(len(z)))
        gradient = (z.T * utilities) @ z - utilities.sum() * np.eye(n)
        along_sigma = float(np.trace(gradient)) / n
        along_shape = gradient - along_sigma * np.eye(n)
        self._mean = self._mean + self.options.learning_rate_mean * (self._root @ (utilities @ z))
        rate_sigma, rate_shape = self._rates(len(z))
        values, vectors = np.linalg.eigh((along_shape + along_shape.T) / 2)
        change = rate_shape / 2 * values + rate_sigma / 2 * along_sigma
        change = np.clip(change, -_LARGEST_CHANGE, _LARGEST_CHANGE)
        self._root = self._root @ ((vectors * np.exp(change)) @ vectors.T)
        std, least = self._std(), self._least_std()
        self._root *= (np.clip(std, least, np.maximum(LARGEST_STD, least)) / std)[:, None]

    def _rates(self, population: int) -> tuple[float, float]:
        n = self.space.dimension
        rate = (3 + math.log(n)) / (5 * math.sqrt(n))
        recombination = natural_utilities(population) + 1 / population
        mu_eff = 1 / float(recombination @ recombination)
        shape = min(1.0, 3 * rate / n * max(1.0, mu_eff / 4))
        return self.options.learning_rate_sigma or rate, self.options.learning_rate_shape or shape

    def _save_own(self) -> tuple[dict[str, Any], Arrays]:
        return {}, {"root": self._root}

    def _restore_own(self, own: dict[str, Any], arrays: Arrays) -> None:  # noqa: ARG002
        self._root = arrays["root"]
