"""Separable natural evolution strategy: a Gaussian with one standard deviation per coordinate.

Schaul, Glasmachers and Schmidhuber, "High dimensions and heavy tails for natural evolution strategies",
GECCO 2011; learning rates and utilities: Wierstra et al., "Natural evolution strategies", Journal of Machine
Learning Research 15 (2014), table 1. Time and memory of a generation are O(lambda * dimension).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from optimizers.base import Arrays, Capabilities, FloatArray, Told
from optimizers.evolution.gaussian_search import (
    LARGEST_STD,
    GaussianOptions,
    GaussianSearch,
    natural_utilities,
)
from optimizers.generations import shared_by_rank

_LARGEST_CHANGE = 1.0  # of the logarithm of a standard deviation, in one generation


class SNESOptions(GaussianOptions):
    """Options of `snes`."""

    sigma: float = Field(
        0.2, ge=1e-9, le=1, description="first standard deviations, as a share of each range"
    )
    learning_rate_mean: float = Field(1.0, gt=0, le=10, description="eta of the mean")
    learning_rate_sigma: float | None = Field(
        None, gt=0, le=10, description="eta of the standard deviations; null: (3 + ln D) / (5 sqrt D)"
    )


class SNES(GaussianSearch):
    """N(mean, diag(std^2)), moved along the natural gradient of the expected utility."""

    name = "snes"
    summary = "Separable natural evolution strategy: learns the scale of each of up to 100,000 parameters."
    Options: ClassVar[type[SNESOptions]] = SNESOptions
    capabilities = Capabilities(objectives="single", asynchronous=True, constraints=True)
    options: SNESOptions

    def _begin(self) -> None:
        self._stds = np.full(self.space.dimension, self.options.sigma)

    def _draw(self, n: int) -> FloatArray:
        z = self._rng.standard_normal((n, self.space.dimension))
        return self._mean + self._stds * z

    def _standardised(self, steps: FloatArray) -> FloatArray:
        z: FloatArray = steps / self._stds
        return z

    def _std(self) -> FloatArray:
        return self._stds

    def _step(self, z: FloatArray, told: Told) -> None:
        n = self.space.dimension
        utilities = shared_by_rank(told, natural_utilities(len(z)))
        self._mean = self._mean + self.options.learning_rate_mean * self._stds * (utilities @ z)
        rate = self.options.learning_rate_sigma or (3 + math.log(n)) / (5 * math.sqrt(n))
        change = np.clip(rate / 2 * (utilities @ (z * z - 1)), -_LARGEST_CHANGE, _LARGEST_CHANGE)
        least = self._least_std()
        self._stds = np.clip(self._stds * np.exp(change), least, np.maximum(LARGEST_STD, least))

    def _save_own(self) -> tuple[dict[str, Any], Arrays]:
        return {}, {"stds": self._stds}

    def _restore_own(self, own: dict[str, Any], arrays: Arrays) -> None:  # noqa: ARG002
        self._stds = arrays["stds"]
