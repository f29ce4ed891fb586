"""Which scales and crossover rates of differential evolution succeeded, and new ones drawn near them.

Tanabe and Fukunaga, "Success-history based parameter adaptation for differential evolution", CEC 2013.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from optimizers.individuals import FloatArray

SLOTS = 6
_WIDTH = 0.1  # of the distributions around a remembered value


class History:
    """Means of what succeeded in each of the last generations, in slots that are renewed in turn."""

    def __init__(self) -> None:
        self._scales = np.full(SLOTS, 0.5)
        self._rates = np.full(SLOTS, 0.5)
        self._slot = 0
        self._tried = 0
        self._won: list[tuple[float, float, float]] = []  # scale, rate, gain (-1: no number)

    def draw(self, rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
        """Scales in (0, 1], by Cauchy distributions, and rates in [0, 1], by normal ones; shape (n,) each."""
        slot = rng.integers(0, SLOTS, n)
        rates = np.clip(self._rates[slot] + _WIDTH * rng.standard_normal(n), 0.0, 1.0)
        scales = self._scales[slot] + _WIDTH * rng.standard_cauchy(n)
        for _ in range(50):
            bad = scales <= 0
            if not bad.any():
                break
            scales[bad] = self._scales[slot[bad]] + _WIDTH * rng.standard_cauchy(int(bad.sum()))
        return np.clip(scales, 1e-3, 1.0), rates

    def succeeded(self, scale: float, rate: float, gain: float | None) -> None:
        """A trial was better than its target by `gain` > 0; None: it cannot be said by how much."""
        self._won.append((scale, rate, -1.0 if gain is None else gain))

    def tried(self, generation: int) -> None:
        """One more trial was told; after `generation` of them, the next slot is renewed."""
        self._tried += 1
        if self._tried < generation:
            return
        if self._won:
            scales, rates, gains = np.array(self._won).T
            weights = _weights(gains)
            self._scales[self._slot] = (weights @ scales**2) / (weights @ scales)
            self._rates[self._slot] = weights @ rates
            self._slot = (self._slot + 1) % SLOTS
        self._tried, self._won = 0, []

    def figures(self) -> dict[str, float]:
        """Means over the slots."""
        return {"scale": float(self._scales.mean()), "crossover_rate": float(self._rates.mean())}

    def save(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """JSON and arrays for `load`."""
        return {"slot": self._slot, "tried": self._tried}, {
            "history.scales": self._scales,
            "history.rates": self._rates,
            "history.won": np.array(self._won, dtype=np.float64).reshape(-1, 3),
        }

    @classmethod
    def load(cls, own: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> History:
        """Undo `save`; other arrays are passed over."""
        new = cls()
        new._slot, new._tried = own["slot"], own["tried"]
        new._scales, new._rates = arrays["history.scales"], arrays["history.rates"]
        new._won = [(scale, rate, gain) for scale, rate, gain in arrays["history.won"].tolist()]
        return new


def _weights(gains: FloatArray) -> FloatArray:
    """In proportion to the gains, sum 1; a gain that is no number (-1) counts as the largest."""
    largest = float(gains.max())
    if largest <= 0:
        return np.full(len(gains), 1 / len(gains))
    shares = np.where(gains < 0, 1.0, np.maximum(gains, 0.0) / largest)
    weights: FloatArray = shares / shares.sum()
    return weights
