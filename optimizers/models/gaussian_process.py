"""Gaussian process regression: Matern 5/2 kernel with one length scale per coordinate.

Rasmussen and Williams, "Gaussian processes for machine learning" (2006). The hyperparameters maximise the
likelihood times weak priors, with the exact gradient; the prior of the length scales grows with the square
root of the dimension (Hvarfner, Hellsten and Nardi, ICML 2024).

Points are given as *features*, shape (n, f). `groups`, shape (f,), says to which coordinate each column
belongs: all columns of a coordinate share its length scale.

Cost: O(n^3 + n^2 f) time and O(n^2) memory.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from optimizers.individuals import FloatArray, IntArray

_LENGTH = (math.log(0.02), math.log(30.0))  # bounds of the logarithms of the hyperparameters
_SIGNAL = (-4.0, 6.0)
_NOISE = (-14.0, 1.0)
_JITTER = 1e-8
_PRIOR = (0.0, -8.0)  # means of the priors of the logarithms of signal and noise variance ...
_SPREAD = (1.5, 2.0)  # ... and standard deviations; they make noise the last explanation of few points


def first_theta(dimension: int) -> FloatArray:
    """Logarithms of the length scales (dimension,), of the signal's and of the noise's variance."""
    return np.append(np.full(dimension, math.log(0.5) + 0.5 * math.log(dimension)), [0.0, -6.0])


def fit(
    features: FloatArray,
    groups: IntArray,
    values: FloatArray,
    counts: FloatArray,
    starts: list[FloatArray],
    iterations: int,
) -> FloatArray:
    """Hyperparameters `theta`, shape (dimension + 2,), as `first_theta`: the best found from some `starts`.

    `values` have mean 0 and variance 1. The result is rounded, so that the last bits of a BLAS do not decide
    where a search goes.
    """
    dimension = len(starts[0]) - 2
    bounds = [_LENGTH] * dimension + [_SIGNAL, _NOISE]
    options = {"maxiter": iterations}
    arguments = (features, groups, values, counts)
    found = [
        minimize(_loss, start, arguments, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        for start in starts
    ]
    best = min(found, key=lambda one: float(one.fun))
    return np.asarray(np.round(best.x, 3))


def _loss(
    theta: FloatArray, features: FloatArray, groups: IntArray, values: FloatArray, counts: FloatArray
) -> tuple[float, FloatArray]:
    """Negative logarithm of likelihood times priors (but for a constant), and its gradient."""
    dimension, n = len(theta) - 2, len(values)
    scaled = features / np.exp(theta[:dimension])[groups]
    signal, noise = math.exp(theta[-2]), math.exp(theta[-1])
    kernel, slope = _matern(_squares(scaled, scaled))
    covariance = signal * kernel
    covariance[np.diag_indices(n)] += noise / counts + _JITTER
    try:
        factor = cholesky(covariance, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return 1e25, np.zeros_like(theta)
    weights = cho_solve((factor, True), values, check_finite=False)
    loss = 0.5 * float(values @ weights) + float(np.log(np.diag(factor)).sum())
    inner = cho_solve((factor, True), np.eye(n), check_finite=False) - np.outer(weights, weights)
    # d kernel / d log(length) = slope * squared distance along the coordinate; the sum over all pairs of
    # B_ij (x_i - x_j)^2 is 2 (sum_i x_i^2 sum_j B_ij - x' B x).
    pull = inner * slope * signal
    columns = pull.sum(axis=1) @ scaled**2 - np.einsum("ij,ij->j", scaled, pull @ scaled)
    gradient = np.zeros(dimension + 2)
    np.add.at(gradient, groups, columns)
    gradient[-2] = 0.5 * signal * float((inner * kernel).sum())
    gradient[-1] = 0.5 * noise * float((np.diag(inner) / counts).sum())
    mean = np.append(np.full(dimension, math.sqrt(2) + 0.5 * math.log(dimension)), _PRIOR)
    spread = np.append(np.full(dimension, math.sqrt(3.0)), _SPREAD)
    off = (theta - mean) / spread
    return loss + 0.5 * float(off @ off), gradient + off / spread


class Posterior:
    """The process, given values at points; their noise variance is divided by `counts`, shape (n,)."""

    def __init__(
        self,
        features: FloatArray,
        groups: IntArray,
        values: FloatArray,
        counts: FloatArray,
        theta: FloatArray,
    ) -> None:
        self._lengths = np.exp(theta[:-2])[groups]
        self._signal = math.exp(theta[-2])
        self._scaled = features / self._lengths
        covariance = self._signal * _matern(_squares(self._scaled, self._scaled))[0]
        diagonal = math.exp(theta[-1]) / counts + _JITTER
        self._factor = _cholesky(covariance, diagonal)
        self._weights = cho_solve((self._factor, True), values, check_finite=False)

    def mean(self, features: FloatArray) -> FloatArray:
        """Expected values, shape (m,)."""
        return np.asarray(self._cross(features / self._lengths).T @ self._weights)

    def sample(self, features: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
        """`n` functions drawn from the process, at m points, without noise; shape (m, n)."""
        scaled = features / self._lengths
        cross = self._cross(scaled)
        solved = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        covariance = self._signal * _matern(_squares(scaled, scaled))[0] - solved.T @ solved
        factor = _cholesky(covariance, np.full(len(scaled), 1e-6 * self._signal))
        drawn = (cross.T @ self._weights)[:, None] + factor @ rng.standard_normal((len(scaled), n))
        return np.asarray(drawn)

    def _cross(self, scaled: FloatArray) -> FloatArray:
        return np.asarray(self._signal * _matern(_squares(self._scaled, scaled))[0])


def _squares(one: FloatArray, other: FloatArray) -> FloatArray:
    """Squared distances, shape (n, m)."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :] - 2 * one @ other.T
    return np.asarray(np.maximum(squares, 0.0))


def _matern(squares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The kernel, and its derivative by -squares / 2."""
    root = np.sqrt(5 * squares)
    decay = np.exp(-root)
    return (1 + root + 5 / 3 * squares) * decay, 5 / 3 * (1 + root) * decay


def _cholesky(matrix: npt.NDArray[np.float64], diagonal: FloatArray) -> FloatArray:
    """Lower factor of matrix + diagonal; where rounding made it indefinite, of one with more diagonal."""
    rows = np.diag_indices(len(matrix))
    plain = matrix[rows].copy()
    for more in (0.0, 1e-6, 1e-4, 1e-2):
        matrix[rows] = plain + diagonal + more * plain.max()
        try:
            return np.asarray(cholesky(matrix, lower=True, check_finite=False))
        except np.linalg.LinAlgError:
            continue
    return np.diag(np.sqrt(np.maximum(matrix[rows], 1e-12)))
