"""Parallel tempering (replica exchange): chains at a ladder of temperatures that exchange their states.

Swendsen and Wang (1986); Geyer, "Markov chain Monte Carlo maximum likelihood" (1991); Earl and Deem,
"Parallel tempering: theory, applications, and new perspectives" (2005). Hot replicas cross barriers, cold
ones refine. After every sweep, neighbours on the ladder swap their states with the probability
min(1, exp((E_i - E_j) (1/T_i - 1/T_j))), even and odd pairs by turns, which keeps detailed balance at every
temperature. Swaps cost no evaluation, so there are several rounds of them. An adapted ladder narrows the
gaps over which few swaps are accepted, with a gain that falls (after Vousden, Farr and Mandel, "Dynamic
temperature selection for parallel tempering", MNRAS 455, 2016); its ends stay.

Each replica samples exp(-E / T) only while at most one of its proposals is in flight (`chains` not below the
batch) and there is a real parameter. More in flight search faster, and the samples are then biased.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from optimizers.base import Arrays, Capabilities, FloatArray
from optimizers.local.metropolis import ChainOptions, Chains

_PASSES = 100  # rounds of swaps after a sweep: as many as replicas, at most this
_PATIENCE = 20.0  # sweeps after which the gain of the ladder's adaptation has halved
_SMOOTHING = 0.1  # share of the newest swap in the running mean of a gap


class ParallelTemperingOptions(ChainOptions):
    """Options of `parallel_tempering`."""

    chains: int | None = Field(
        None, ge=2, description="replicas, one per temperature; null: a quarter of the first ask, at least 8"
    )
    acceptance: float = Field(
        0.25, gt=0, lt=1, description="share of accepted moves that the step sizes are adapted to"
    )
    hottest: float = Field(
        0.1, gt=0, description="highest temperature, as a share of the spread of the first losses"
    )
    coldest: float = Field(1e-6, gt=0, lt=1, description="lowest temperature, as a share of the highest")
    ladder: Literal["adapted", "geometric"] = Field(
        "adapted", description="temperatures between: by how many swaps are accepted, or at equal ratios"
    )


class ParallelTempering(Chains):
    """Chain 0 is the coldest."""

    name = "parallel_tempering"
    summary = "Parallel tempering: replicas at fixed temperatures swap states; rugged losses, long campaigns."
    format_version = 1
    Options: ClassVar[type[ParallelTemperingOptions]] = ParallelTemperingOptions
    capabilities = Capabilities(objectives="single", asynchronous=True)
    options: ParallelTemperingOptions

    def _start(self) -> None:
        self._tried, self._swapped = 0, 0
        super()._start()

    def _chains_for(self, n: int) -> int:
        # Several proposals per replica: with few sweeps, a long ladder would never cool down.
        return max(8, n // 4)

    def _resize(self, chains: int) -> None:
        super()._resize(chains)
        # Logarithms of the ratios of neighbouring temperatures, and the running mean of their swaps.
        self._gaps = np.full(chains - 1, -math.log(self.options.coldest) / (chains - 1))
        self._rates = np.full(chains - 1, 0.5)

    def _shares(self) -> FloatArray:
        """Temperatures as shares of the hottest, ascending, shape (chains,)."""
        below: FloatArray = np.append(np.cumsum(self._gaps[::-1])[::-1], 0.0)
        return np.exp(-below)

    def _temperature(self, chain: int) -> float:
        return float(self.options.hottest * (self._scale or 0.0) * self._shares()[chain])

    def _after_sweep(self) -> None:
        if self._scale is None:
            return
        temperatures = self.options.hottest * self._scale * self._shares()
        for turn in range(min(self._chains, _PASSES)):
            self._swap_neighbours(temperatures, (self._sweep + turn) % 2)
        if self.options.ladder == "adapted":
            self._adapt_ladder()

    def _swap_neighbours(self, temperatures: FloatArray, first: int) -> None:
        """Try to swap the states of the pairs (first, first + 1), (first + 2, first + 3), ...; step sizes and
        individuals in flight stay with the temperature."""
        cold = np.arange(first, self._chains - 1, 2)
        chances = self._rng.random(len(cold))
        known = np.isfinite(self._losses[cold]) & np.isfinite(self._losses[cold + 1])
        cold, chances = cold[known], chances[known]
        swapped = chances < swap_probability(
            self._losses[cold], self._losses[cold + 1], temperatures[cold], temperatures[cold + 1]
        )
        self._tried += len(cold)
        self._swapped += int(swapped.sum())
        self._rates[cold] += _SMOOTHING * (swapped - self._rates[cold])
        one, other = cold[swapped], cold[swapped] + 1
        there, back = np.concatenate([one, other]), np.concatenate([other, one])
        for values in (self._ids, self._genomes, self._losses):
            values[there] = values[back]

    def _adapt_ladder(self) -> None:
        """Widen gaps with more swaps than the mean, narrow the others; the sum stays."""
        gain = _SMOOTHING * _PATIENCE / (_PATIENCE + self._sweep)
        gaps = self._gaps * np.exp(gain * (self._rates - self._rates.mean()))
        self._gaps = gaps * (-math.log(self.options.coldest) / gaps.sum())

    def _figures(self) -> dict[str, float]:
        figures = super()._figures()
        figures |= {"swaps_tried": float(self._tried), "swaps": float(self._swapped)}
        if self._tried:
            figures["swapped_share"] = self._swapped / self._tried
        if self._scale is not None and self._chains:
            hottest = self.options.hottest * self._scale
            figures |= {"temperature_max": hottest, "temperature_min": hottest * self.options.coldest}
        return figures

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        own, arrays = super()._save()
        own |= {"tried": self._tried, "swapped": self._swapped}
        known = self._chains > 0
        arrays["gaps"] = self._gaps if known else np.empty(0)
        arrays["rates"] = self._rates if known else np.empty(0)
        return own, arrays

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        super()._restore(own, arrays)
        self._tried, self._swapped = own["tried"], own["swapped"]
        self._gaps, self._rates = arrays["gaps"], arrays["rates"]


def swap_probability(
    cold: FloatArray, hot: FloatArray, cold_temperature: FloatArray, hot_temperature: FloatArray
) -> FloatArray:
    """Of states with the losses `cold` and `hot` at these temperatures (cold < hot): Metropolis' rule."""
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        # (1/T_cold - 1/T_hot) dE in an order that does not overflow where it need not
        chance = np.exp((cold - hot) / cold_temperature * (1 - cold_temperature / hot_temperature))
    return np.where(hot <= cold, 1.0, np.where(cold_temperature > 0, np.minimum(chance, 1.0), 0.0))
