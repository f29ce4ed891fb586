"""Mixtures of Gaussians fitted to points; one component is a plain Gaussian.

Expectation maximisation (Dempster, Laird and Rubin 1977) from k-means++ seeds (Arthur and Vassilvitskii,
SODA 2007), or from the components of an earlier mixture. So components keep their identity, and each can be
smoothed with what it was before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from optimizers.individuals import FloatArray
from optimizers.versions import Arrays

_ROUNDS = 30  # of expectation and maximisation, at most
_PRIOR = 2.0  # points' worth of the covariance of all points in that of each of several components
_LEAST_WEIGHT = 0.1  # of a component, in shares of an even one: it may come back
_TINY = 1e-300


@dataclass(frozen=True)
class Mixture:
    """Components j = 1..k of dimension d.

    Attributes:
        weights: shape (k,), sum 1.
        means: shape (k, d).
        covariances: shape (k, d, d), or (k, d) where they are diagonal.
    """

    weights: FloatArray
    means: FloatArray
    covariances: FloatArray

    @property
    def full(self) -> bool:
        """Whether there are correlations."""
        return self.covariances.ndim == 3

    def variances(self) -> FloatArray:
        """Of each coordinate within each component, shape (k, d)."""
        return np.einsum("jii->ji", self.covariances) if self.full else self.covariances

    def spread(self) -> FloatArray:
        """Standard deviation of each coordinate over all components, shape (d,)."""
        centre = self.weights @ self.means
        total: FloatArray = np.sqrt(self.weights @ (self.variances() + (self.means - centre) ** 2))
        return total

    def sample(self, rng: np.random.Generator, n: int, noise: FloatArray) -> FloatArray:
        """`n` points, shape (n, d); `noise`, shape (d,), is added to every variance."""
        k, d = self.means.shape
        component = rng.choice(k, n, p=self.weights) if k > 1 else np.zeros(n, dtype=np.int64)
        z = rng.standard_normal((n, d))
        points = np.empty((n, d))
        for j in range(k):
            mine = component == j
            if self.full:
                values, vectors = np.linalg.eigh(self.covariances[j] + np.diag(noise))
                steps = (z[mine] * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
            else:
                steps = z[mine] * np.sqrt(self.covariances[j] + noise)
            points[mine] = self.means[j] + steps
        return points

    def smoothed(self, old: Mixture, share: float) -> Mixture:
        """This mixture with `share` of each parameter from the `old` one, component by component."""
        mixed = [
            share * before + (1 - share) * now
            for before, now in zip(
                (old.weights, old.means, old.covariances),
                (self.weights, self.means, self.covariances),
                strict=True,
            )
        ]
        return Mixture(mixed[0] / mixed[0].sum(), mixed[1], mixed[2])

    def widened(self, share: float, old: Mixture) -> Mixture:
        """This mixture, each covariance with `share` of the squared shift of its mean since `old`."""
        shift = self.means - old.means
        squared = shift[:, :, None] * shift[:, None, :] if self.full else shift**2
        return Mixture(self.weights, self.means, self.covariances + share * squared)

    def responsibilities(self, points: FloatArray) -> FloatArray:
        """Probability of each component to have made each point, shape (n, k)."""
        logs = np.empty((len(points), len(self.weights)))
        for j, (mean, covariance) in enumerate(zip(self.means, self.covariances, strict=True)):
            steps = points - mean
            if self.full:
                values, vectors = np.linalg.eigh(covariance)
                steps = steps @ vectors
            else:
                values = covariance
            values = np.maximum(values, max(1e-14 * float(values.max()), _TINY))
            with np.errstate(over="ignore"):
                squared = np.minimum(steps**2 / values, 1e300 / len(values))
            logs[:, j] = math.log(self.weights[j]) - 0.5 * (squared.sum(axis=1) + np.log(values).sum())
        logs = np.exp(logs - logs.max(axis=1, keepdims=True))
        shares: FloatArray = logs / logs.sum(axis=1, keepdims=True)
        return shares

    def save(self) -> Arrays:
        """Arrays for `load`."""
        return {"weights": self.weights, "means": self.means, "covariances": self.covariances}

    @classmethod
    def load(cls, arrays: Arrays) -> Mixture:
        """Undo `save`; other arrays are passed over."""
        return cls(arrays["weights"], arrays["means"], arrays["covariances"])


def fit(
    points: FloatArray, components: int, full: bool, old: Mixture | None, rng: np.random.Generator
) -> Mixture:
    """The mixture that makes `points`, shape (n >= 2, d), likely.

    Correlations are shrunk as far as there are too few points to know them: by d / (d + n).
    """
    if components == 1:
        return _maximise(points, np.ones((len(points), 1)), full)
    model = old
    if model is None:
        nearest = _nearest(points, _seeds(points, components, rng))
        model = _maximise(points, np.eye(components)[nearest], full)
    before = None
    for _ in range(_ROUNDS):
        shares = model.responsibilities(points)
        if before is not None and float(np.abs(shares - before).max()) < 1e-3:
            break
        model, before = _maximise(points, shares, full, model), shares
    return model


def _maximise(points: FloatArray, shares: FloatArray, full: bool, old: Mixture | None = None) -> Mixture:
    """Components from responsibilities, shape (n, k). One without points stays where it was."""
    n, d = points.shape
    k = shares.shape[1]
    counts = shares.sum(axis=0)
    everything = _covariance(points, np.ones(n), points.mean(axis=0), full) * n / max(1, n - 1)
    means, covariances = [], []
    for j in range(k):
        if k == 1:
            means.append(points.mean(axis=0))
            covariances.append(everything)
        elif old is not None and counts[j] < 1e-6:
            means.append(old.means[j])
            covariances.append(old.covariances[j])
        else:
            weights = shares[:, j] / max(counts[j], _TINY)
            means.append(weights @ points)
            own = _covariance(points, weights * n, means[j], full)
            prior = everything / k ** (2 / d)
            covariances.append((counts[j] * own + _PRIOR * prior) / (counts[j] + _PRIOR))
    result = np.array(covariances)
    if full:
        diagonal = np.einsum("jii->ji", result)[:, :, None] * np.eye(d)
        shrink = (d / (d + counts))[:, None, None]
        result = (1 - shrink) * result + shrink * diagonal
    least = _LEAST_WEIGHT / k
    weights = np.maximum(counts / n, least) if k > 1 else np.ones(1)
    return Mixture(weights / weights.sum(), np.array(means), result)


def _covariance(points: FloatArray, weights: FloatArray, mean: FloatArray, full: bool) -> FloatArray:
    """Of weighted points about a mean; the weights sum to their number."""
    steps = points - mean
    covariance: FloatArray = (
        (steps.T * weights) @ steps / len(points) if full else weights @ steps**2 / len(points)
    )
    return covariance


def _seeds(points: FloatArray, k: int, rng: np.random.Generator) -> FloatArray:
    """k-means++: each further one with a probability that grows with its squared distance from the others."""
    chosen = [points[rng.integers(len(points))]]
    for _ in range(k - 1):
        distance = np.min([((points - one) ** 2).sum(axis=1) for one in chosen], axis=0)
        total = float(distance.sum())
        chosen.append(points[rng.choice(len(points), p=distance / total if total > 0 else None)])
    return np.array(chosen)


def _nearest(points: FloatArray, seeds: FloatArray) -> FloatArray:
    distances = [((points - seed) ** 2).sum(axis=1) for seed in seeds]
    nearest: FloatArray = np.argmin(distances, axis=0)
    return nearest
