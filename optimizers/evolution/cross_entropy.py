"""Cross-entropy method: fit a distribution to the best of a generation, draw the next one from it.

Rubinstein and Kroese, "The cross-entropy method" (2004); de Boer, Kroese, Mannor and Rubinstein, "A tutorial
on the cross-entropy method", Annals of Operations Research 134 (2005); noise against premature convergence:
Szita and Lorincz, "Learning Tetris using the noisy cross-entropy method", Neural Computation 18 (2006).
"""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import Field

from optimizers.base import Capabilities, Told
from optimizers.evolution.distribution_search import (
    SMALLEST_POPULATION,
    DistributionOptions,
    DistributionSearch,
)


class CrossEntropyOptions(DistributionOptions):
    """Options of `cross_entropy`."""

    population: int | None = Field(
        None, ge=SMALLEST_POPULATION, description="told for each fit; null: as many as the first ask"
    )
    rho: float = Field(0.15, gt=0, le=1, description="share of the best, to which the distribution is fitted")


class CrossEntropy(DistributionSearch):
    """A Gaussian or a mixture of Gaussians, fitted to the best share of every population told."""

    name = "cross_entropy"
    summary = "Cross-entropy method: fits a Gaussian, or a mixture of them, to the best of each generation."
    format_version = 1
    Options: ClassVar[type[CrossEntropyOptions]] = CrossEntropyOptions
    capabilities = Capabilities(objectives="single", asynchronous=True, constraints=True)
    options: CrossEntropyOptions

    def _first_population(self, n: int) -> int:
        return self.options.population or self._size_for(n, SMALLEST_POPULATION)

    def _take(self) -> Told | None:
        return self._waiting.take(self._population)

    def _n_elite(self, n: int) -> int:
        return math.ceil(self.options.rho * n)
