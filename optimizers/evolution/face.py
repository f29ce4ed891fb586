"""Fully adaptive cross-entropy (FACE): the population grows while the best do not get better.

De Boer, Kroese, Mannor and Rubinstein, "A tutorial on the cross-entropy method", Annals of Operations
Research 134 (2005), section 5.

A fit needs an improvement over the last one, of the best loss or of the elite's worst. Without it, more are
drawn from the same distribution and join those told. After an improvement, the population shrinks half of the
way to its least. At its largest, the distribution is fitted all the same, so that the search goes on.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from pydantic import Field

from optimizers import OptimizerError
from optimizers.base import Arrays, Capabilities, Told
from optimizers.evolution.distribution_search import (
    SMALLEST_POPULATION,
    DistributionOptions,
    DistributionSearch,
)


class FACEOptions(DistributionOptions):
    """Options of `face`."""

    population_min: int | None = Field(
        None, ge=SMALLEST_POPULATION, description="least told for a fit; null: as many as the first ask"
    )
    population_max: int | None = Field(
        None, ge=SMALLEST_POPULATION, description="most told for a fit; null: four times the least"
    )
    n_elite: int | None = Field(
        None, ge=2, description="best individuals that are fitted; null: a quarter of the least population"
    )
    n_expand: int | None = Field(
        None, ge=1, description="how many more are told without an improvement; null: half of the least"
    )


class FACE(DistributionSearch):
    """Cross-entropy with a population between two bounds and an elite of fixed number."""

    name = "face"
    summary = "Fully adaptive cross-entropy: spends more on a generation only while the best do not improve."
    format_version = 1
    Options: ClassVar[type[FACEOptions]] = FACEOptions
    capabilities = Capabilities(objectives="single", asynchronous=True, constraints=True)
    options: FACEOptions

    def _start(self) -> None:
        super()._start()
        least, most = self.options.population_min, self.options.population_max
        if least and most and least > most:
            raise OptimizerError(
                f"Options of face: population_min {least} is larger than population_max {most}."
            )
        self._least = 0  # 0: the first ask will tell
        self._last = (math.inf, math.inf)  # best loss and worst of the elite, at the last fit
        self._stagnations = 0  # fits without an improvement

    def _first_population(self, n: int) -> int:
        least = self.options.population_min or self._size_for(n, SMALLEST_POPULATION)
        self._least = min(least, self.options.population_max or least)
        return self._least

    def _n_elite(self, n: int) -> int:
        return min(n, self.options.n_elite or max(2, math.ceil(self._least / 4)))

    def _take(self) -> Told | None:
        most = self.options.population_max or 4 * self._least
        while len(self._waiting) >= self._population:
            told = self._waiting.peek(self._population)
            losses = told.losses[told.order(), 0]
            now = (float(losses[0]), float(losses[self._n_elite(len(losses)) - 1]))
            better = now[0] < self._last[0] or now[1] < self._last[1]
            if better or self._population >= most:
                self._waiting.take(self._population)
                self._population = (self._population + self._least) // 2
                self._stagnations += not better
                self._last = now
                return told
            expand = self.options.n_expand or max(1, self._least // 2)
            self._population = min(most, self._population + expand)
        return None

    def _figures(self) -> dict[str, float]:
        return {**super()._figures(), "stagnations": self._stagnations}

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        own, arrays = super()._save()
        last = [value if math.isfinite(value) else None for value in self._last]
        return {**own, "least": self._least, "last": last, "stagnations": self._stagnations}, arrays

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        super()._restore(own, arrays)
        self._least, self._stagnations = own["least"], own["stagnations"]
        best, worst = (math.inf if value is None else value for value in own["last"])
        self._last = (best, worst)
