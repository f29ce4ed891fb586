"""Evolution strategy for very many parameters: descent along a gradient estimated from ranks.

Mirrored samples, utilities by rank and Adam are those of Salimans, Ho, Chen, Sidor and Sutskever, "Evolution
strategies as a scalable alternative to reinforcement learning", arXiv:1703.03864 (2017); mirrored sampling:
Brockhoff et al., PPSN 2010; Adam: Kingma and Ba, ICLR 2015. Time and memory of a generation are
O(lambda * dimension).

No scale has to be known. Ranks make the losses' scale irrelevant. The estimated gradient is divided by its
standard deviation under random ranks, and the learning rate counts in steps of weighted recombination, so
that 1 is right for any population and dimension. The step size follows the length of the path that the mean
has taken (cumulative step-size adaptation: Ostermeier, Gawelczyk and Hansen 1994; Hansen, arXiv:1604.00772).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from optimizers.base import Arrays, Capabilities, FloatArray, Told
from optimizers.evolution.gaussian_search import (
    LARGEST_STD,
    SMALLEST_STD,
    GaussianOptions,
    GaussianSearch,
    natural_utilities,
)
from optimizers.generations import shared_by_rank

_SECOND_MOMENT = 0.999  # Adam's beta_2


class EvolutionStrategyOptions(GaussianOptions):
    """Options of `evolution_strategy`."""

    sigma: float = Field(0.1, ge=1e-9, le=1, description="first standard deviation, as a share of each range")
    mirrored: bool = Field(True, description="samples come in pairs, opposite to each other about the mean")
    shaping: Literal["log_ranks", "centred_ranks", "losses"] = Field(
        "log_ranks",
        description="what weighs an individual; centred_ranks: faster in over 1,000 dimensions if few fail; "
        "losses: standardised, for losses without outliers",
    )
    update: Literal["plain", "momentum", "adam"] = Field(
        "plain", description="how the mean follows the gradient; adam: scales each coordinate"
    )
    learning_rate: float = Field(
        1.0, gt=0, le=10, description="of the mean, in steps of weighted recombination"
    )
    momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of the last direction kept (momentum, adam); null: 0.9, less in few dimensions",
    )
    adapt_sigma: bool = Field(True, description="adapt the step size; false: it stays `sigma`")


class EvolutionStrategy(GaussianSearch):
    """N(mean, sigma^2 I), whose mean descends along an estimated gradient."""

    name = "evolution_strategy"
    summary = (
        "Evolution strategy with mirrored samples and Adam: for up to 100,000 parameters, such as weights."
    )
    Options: ClassVar[type[EvolutionStrategyOptions]] = EvolutionStrategyOptions
    capabilities = Capabilities(objectives="single", asynchronous=True, constraints=True)
    options: EvolutionStrategyOptions

    def _begin(self) -> None:
        n = self.space.dimension
        self._sigma = self.options.sigma
        self._path = np.zeros(n)
        self._first = np.zeros(n)  # moments of the gradient
        self._second = np.zeros(n)
        self._steps = 0
        self._unpaired = np.empty((0, n))  # the sample whose mirror image comes next

    def _draw(self, n: int) -> FloatArray:
        d = self.space.dimension
        if not self.options.mirrored:
            return self._mean + self._std() * self._rng.standard_normal((n, d))
        late = len(self._unpaired)
        half = self._rng.standard_normal(((n - late + 1) // 2, d))
        z = np.empty((late + 2 * len(half), d))
        z[:late] = -self._unpaired
        z[late::2], z[late + 1 :: 2] = half, -half
        self._unpaired = half[-1:].copy() if len(z) > n else np.empty((0, d))
        return self._mean + self._std() * z[:n]

    def _standardised(self, steps: FloatArray) -> FloatArray:
        return steps / self._std()

    def _std(self) -> FloatArray:
        return np.maximum(self._sigma, self._least_std())

    def _step(self, z: FloatArray, told: Told) -> None:
        weights = self._weights(told)
        norm = math.sqrt(float(weights @ weights))
        if not norm:
            return  # a plateau
        descent = weights @ z / norm  # standard normal, were the ranks random
        self._mean = self._mean + self.options.learning_rate * norm * self._std() * self._direction(
            descent, 1 / norm**2
        )
        if self.options.adapt_sigma:
            self._adapt(descent, 1 / norm**2)

    def _weights(self, told: Told) -> FloatArray:
        """Shape (n,): the more, the better the individual; the sum is 0, that of the positive ones 1."""
        n = len(told.ids)
        if self.options.shaping == "losses":
            weights = _standardised_losses(told)
        elif self.options.shaping == "log_ranks":
            weights = shared_by_rank(told, natural_utilities(n))
        else:
            weights = shared_by_rank(told, np.linspace(1.0, -1.0, n))
        if float(np.ptp(weights)) < 1e-9:
            return np.zeros(n)  # a plateau; what is not 0 is a rounding error
        return weights / float(weights[weights > 0].sum())

    def _direction(self, descent: FloatArray, mu_eff: float) -> FloatArray:
        n = self.space.dimension
        keep = self.options.momentum
        if keep is None:
            keep = min(0.9, 1 - (mu_eff + 2) / (n + mu_eff + 5))
        if self.options.update == "plain":
            return descent
        self._steps += 1
        self._first = keep * self._first + (1 - keep) * descent
        first = self._first / (1 - keep**self._steps)
        if self.options.update == "momentum":
            return first
        self._second = _SECOND_MOMENT * self._second + (1 - _SECOND_MOMENT) * descent**2
        second = self._second / (1 - _SECOND_MOMENT**self._steps)
        return first / np.sqrt(second + 1e-16)

    def _adapt(self, descent: FloatArray, mu_eff: float) -> None:
        """Longer steps while they go the same way, shorter ones when they turn back."""
        n = self.space.dimension
        c = (mu_eff + 2) / (n + mu_eff + 5)
        damping = 1 + 2 * max(0.0, math.sqrt(max(0.0, mu_eff - 1) / (n + 1)) - 1) + c
        self._path = (1 - c) * self._path + math.sqrt(c * (2 - c)) * descent
        usual = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
        change = c / damping * (float(np.linalg.norm(self._path)) / usual - 1)
        self._sigma = min(max(self._sigma * math.exp(min(1.0, change)), SMALLEST_STD), LARGEST_STD)

    def _figures(self) -> dict[str, float]:
        return {**super()._figures(), "sigma": self._sigma}

    def _save_own(self) -> tuple[dict[str, Any], Arrays]:
        arrays = {
            "path": self._path,
            "first": self._first,
            "second": self._second,
            "unpaired": self._unpaired,
        }
        return {"sigma": self._sigma, "steps": self._steps}, arrays

    def _restore_own(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._sigma, self._steps = own["sigma"], own["steps"]
        self._path, self._first, self._second = arrays["path"], arrays["first"], arrays["second"]
        self._unpaired = arrays["unpaired"]


def _standardised_losses(told: Told) -> FloatArray:
    """How far each loss is below the mean, in standard deviations; those without have the worst one."""
    ok = told.ok
    if not ok.any():
        return np.zeros(len(ok))
    losses = np.where(ok, told.losses[:, 0], told.losses[ok, 0].max())
    losses = losses / max(float(np.abs(losses).max()), 1e-300)  # so that no sum is infinite
    spread = float(losses.std())
    return (losses.mean() - losses) / spread if spread else np.zeros(len(ok))
