"""Simulated annealing with parallel chains.

Kirkpatrick, Gelatt and Vecchi, "Optimization by simulated annealing", Science 220 (1983); additive cooling
schedules: Luke, "Simulated annealing cooling schedules" (2005); parallel chains that are resampled at each
fall of the temperature: Hukushima and Iba, "Population annealing and its application to a spin glass"
(2003), Machta, "Population annealing with weighted averages" (2010).

* The first temperature is a share of the spread of the first losses, so acceptance does not depend on the
  scale of the loss.
* Every schedule falls from 1 to `final` in `steps` sweeps (one move of every chain); from then on additive
  ones stay there and the others go on falling, never to 0.
* All chains have the same temperature and share one step size.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from optimizers.base import Capabilities, FloatArray
from optimizers.local.metropolis import ChainOptions, Chains

Schedule = Literal[
    "exponential",
    "logarithmic",
    "linear_multiplicative",
    "quadratic_multiplicative",
    "linear_additive",
    "quadratic_additive",
    "exponential_additive",
    "trigonometric_additive",
]


class SimulatedAnnealingOptions(ChainOptions):
    """Options of `simulated_annealing`."""

    schedule: Schedule = Field("exponential", description="how the temperature falls")
    steps: int = Field(
        100, ge=1, description="sweeps (one move of every chain) until the temperature is `final`"
    )
    temperature: float = Field(
        0.1, gt=0, description="first temperature, as a share of the spread of the first losses"
    )
    final: float = Field(
        1e-6, gt=0, lt=1, description="temperature after `steps` sweeps, as a share of the first"
    )
    resample: bool = Field(
        True, description="chains are resampled by their Boltzmann weights whenever the temperature falls"
    )


class SimulatedAnnealing(Chains):
    """Chains at one temperature that falls."""

    name = "simulated_annealing"
    summary = "Simulated annealing with parallel chains: rugged losses, mixed spaces, any number in flight."
    format_version = 1
    Options: ClassVar[type[SimulatedAnnealingOptions]] = SimulatedAnnealingOptions
    capabilities = Capabilities(objectives="single", asynchronous=True)
    options: SimulatedAnnealingOptions

    def _temperature(self, chain: int) -> float:  # noqa: ARG002
        return self._temperature_at(self._sweep)

    def _temperature_at(self, sweep: int) -> float:
        o = self.options
        return o.temperature * (self._scale or 0.0) * cooling(o.schedule, sweep, o.steps, o.final)

    def _adapt(self, chain: int, error: float) -> None:  # noqa: ARG002
        # A whole sweep that is accepted or rejected changes the common step as much as one chain alone.
        self._steps *= math.exp(error / max(2, self._chains))

    def _after_sweep(self) -> None:
        """Population annealing: chains survive in proportion to exp(-(1/T' - 1/T) E), T' the new T."""
        if self._scale is None or not self.options.resample or self._chains < 2:
            return
        known = np.isfinite(self._losses)
        new, old = self._temperature_at(self._sweep), self._temperature_at(self._sweep - 1)
        # Before the first sweep the temperature was infinite.
        share = 1.0 if self._sweep == 1 else 1 - new / old if new > 0 else 0.0
        if not known.any() or share == 0 or not new > 0:
            return
        weights = np.zeros(self._chains)
        with np.errstate(over="ignore", under="ignore"):
            worse = self._losses[known] - self._losses[known].min()
            # (1/T' - 1/T) E in an order that does not overflow where it need not
            weights[known] = np.exp(-worse / new * share)
        survivors = systematic(weights, float(self._rng.random()))
        self._ids, self._genomes = self._ids[survivors], self._genomes[survivors]
        self._losses = self._losses[survivors]

    def _figures(self) -> dict[str, float]:
        figures = super()._figures()
        figures["states"] = float(len(np.unique(self._ids[self._ids >= 0])))  # that differ
        if self._scale is not None:
            figures["temperature"] = self._temperature_at(self._sweep)
        return figures


def cooling(schedule: Schedule, k: int, n: int, final: float) -> float:
    """Temperature after `k` steps as a share of the first: 1 at k = 0, `final` in (0, 1) at k = n.

    Never rises and is never 0. The names are those of Luke (2005); slopes follow from `n` and `final`.
    """
    if schedule.endswith("_additive"):
        return final + (1 - final) * _additive(schedule, min(k / n, 1.0), final)
    fall = 1 / final - 1
    if schedule == "exponential":
        exponent = min(k / n * -math.log(final), 700.0)
        return math.exp(-exponent)
    if schedule == "logarithmic":
        return 1 / (1 + fall * math.log1p(k) / math.log1p(n))
    if schedule == "linear_multiplicative":
        return 1 / (1 + fall * (k / n))
    return 1 / (1 + fall * (k / n) ** 2)  # quadratic_multiplicative


def _additive(schedule: Schedule, x: float, final: float) -> float:
    """From 1 at x = 0 to 0 at x = 1."""
    if schedule == "linear_additive":
        return 1 - x
    if schedule == "quadratic_additive":
        return (1 - x) ** 2
    if schedule == "trigonometric_additive":
        return (1 + math.cos(math.pi * x)) / 2
    # exponential_additive: a logistic curve, the steeper the lower the end, made to meet both ends.
    steepness = max(-2 * math.log(final), 1e-3)
    edge = math.tanh(steepness / 4)
    return min(1.0, max(0.0, (1 - math.tanh(steepness / 2 * (x - 0.5)) / edge) / 2))


def systematic(weights: FloatArray, offset: float) -> list[int]:
    """Systematic resampling: as many rows as there are, row i about n w_i / sum(w) times, ascending."""
    n = len(weights)
    ends = np.cumsum(weights)
    places = (np.arange(n) + offset) / n * ends[-1]
    return [min(int(i), n - 1) for i in np.searchsorted(ends, places, side="right")]
