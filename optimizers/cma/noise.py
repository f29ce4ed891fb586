"""Learning rates of CMA-ES that adapt to noise and to rugged losses: LRA-CMA-ES.

M. Nomura, Y. Akimoto and I. Ono, "CMA-ES with learning rate adaptation: can CMA-ES with default population
size solve multimodal and noisy problems?", GECCO 2023. What a generation changes is taken in only by a
share eta: as much as keeps the signal-to-noise ratio of the changes at alpha eta. Constants as there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from optimizers import OptimizerError
from optimizers.cma.shapes import Diagonal, Full, Kind
from optimizers.individuals import FloatArray

if TYPE_CHECKING:
    from optimizers.cma.model import Model


_ALPHA = 1.4
_GAMMA = 0.1
_BETA_MEAN = 0.1
_BETA_COVARIANCE = 0.03


@dataclass(frozen=True)
class Before:
    """A model's parameters before a generation; `shape` is a copy."""

    mean: FloatArray
    sigma: float
    shape: Full | Diagonal


@dataclass
class LearningRates:
    """Shares of the mean and of the covariance, and moving averages of their changes in local coordinates."""

    eta_mean: float
    eta_covariance: float
    change_mean: FloatArray  # (n,)
    change_covariance: FloatArray  # as the covariance
    power_mean: float
    power_covariance: float

    @classmethod
    def start(cls, n: int, kind: Kind) -> LearningRates:
        if kind == "lowmemory":
            raise OptimizerError("learning_rate: adapted needs the covariance full or diagonal.")
        return cls(1.0, 1.0, np.zeros(n), np.zeros((n, n) if kind == "full" else n), 0.0, 0.0)

    def remember(self, model: Model) -> Before:
        assert isinstance(model.shape, Full | Diagonal)
        return Before(model.mean, model.sigma, type(model.shape).load(model.shape.save()))

    def blend(self, model: Model, before: Before) -> None:
        """Take only the share of what the generation changed (algorithm 2 of the paper)."""
        shape = model.shape
        assert isinstance(shape, Full | Diagonal)
        scale = model.spread * before.sigma
        moved = model.mean - before.mean
        old = before.sigma**2 * before.shape.covariance
        grown = model.sigma**2 * shape.covariance - old

        self.change_mean, self.power_mean, eta_mean = _adapted(
            _whitened(before.shape, moved / scale),
            self.change_mean, self.power_mean, self.eta_mean, _BETA_MEAN,
        )  # fmt: skip
        self.change_covariance, self.power_covariance, self.eta_covariance = _adapted(
            _whitened_matrix(before.shape, grown / before.sigma**2) / math.sqrt(2),
            self.change_covariance, self.power_covariance, self.eta_covariance, _BETA_COVARIANCE,
        )  # fmt: skip
        model.mean = before.mean + eta_mean * moved
        covariance = old + self.eta_covariance * grown
        model.sigma = math.exp(_log_determinant(covariance) / 2 / len(moved))
        shape.covariance = covariance / model.sigma**2
        model.sigma *= self.eta_mean / eta_mean
        self.eta_mean = eta_mean


def _adapted(
    change: FloatArray, mean: FloatArray, power: float, eta: float, beta: float
) -> tuple[FloatArray, float, float]:
    """Moving averages of a change and of its squared length, and the share eta that goes with them."""
    mean = (1 - beta) * mean + beta * change
    power = (1 - beta) * power + beta * float((change**2).sum())
    signal = float((mean**2).sum())
    ratio = (signal - beta / (2 - beta) * power) / max(power - signal, 1e-300)
    relative = min(1.0, max(-1.0, ratio / _ALPHA / eta - 1))
    return mean, power, min(1.0, eta * math.exp(min(_GAMMA * eta, beta) * relative))


def _whitened(shape: Full | Diagonal, y: FloatArray) -> FloatArray:
    """C^-1/2 y."""
    return shape.turn(shape.whiten(y))


def _whitened_matrix(shape: Full | Diagonal, matrix: FloatArray) -> FloatArray:
    """C^-1/2 matrix C^-1/2."""
    if isinstance(shape, Diagonal):
        return matrix / shape.covariance
    root = (shape.basis / shape.axes) @ shape.basis.T
    return root @ matrix @ root


def _log_determinant(covariance: FloatArray) -> float:
    values = covariance if covariance.ndim == 1 else np.linalg.eigvalsh(covariance)
    return float(np.log(np.maximum(values, 1e-300)).sum())
