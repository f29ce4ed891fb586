"""Covariance matrices of CMA-ES: full, diagonal, or a product of few directions.

`Full` after N. Hansen, "The CMA evolution strategy: a tutorial", arXiv:1604.00772. `Diagonal` (separable)
after R. Ros and N. Hansen, "A simple modification in CMA-ES achieving linear time and space complexity"
(PPSN 2008), with negative weights and the learning rates of pycma. `LowMemory` after I. Loshchilov,
T. Glasmachers and H.-G. Beyer, "Large scale black-box optimization by limited-memory matrix adaptation"
(LM-MA-ES), IEEE Transactions on Evolutionary Computation 23 (2019).

Rows are points: y ~ N(0, C) is a *coloured* step, z ~ N(0, I) the *white* one that it was made of.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt

from optimizers.individuals import FloatArray

Kind = Literal["full", "diagonal", "lowmemory"]
_TINY = 1e-300
_LEAST_FACTOR = 0.25  # of a variance in one generation: negative weights must not make it negative


@dataclass(frozen=True)
class Strategy:
    """Constants for dimension n and population lambda (tutorial, table 1 and eq. 49-58)."""

    weights: FloatArray  # (lambda,); the positive ones sum to 1
    mu: int
    mu_eff: float
    c_c: float
    c_sigma: float
    c_1: float
    c_mu: float
    d_sigma: float
    chi_n: float
    eigen_gap: int

    @classmethod
    def of(cls, n: int, population: int, kind: Kind = "full") -> Strategy:
        mu = population // 2
        raw = math.log((population + 1) / 2) - np.log(np.arange(1, population + 1))
        mu_eff = float(raw[:mu].sum() ** 2 / (raw[:mu] ** 2).sum())
        mu_eff_minus = float(raw[mu:].sum() ** 2 / (raw[mu:] ** 2).sum())
        c_c = (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)
        c_sigma = (mu_eff + 2) / (n + mu_eff + 5)
        c_1 = 2 / ((n + 1.3) ** 2 + mu_eff)
        c_mu = min(1 - c_1, 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((n + 2) ** 2 + mu_eff))
        if kind == "diagonal":  # n numbers to learn in place of n^2 / 2: the rates of pycma's CMA_diagonal
            root = math.sqrt(n)
            c_c = (1 + (1 + mu_eff) / n) / (root + (1 + 2 * mu_eff) / n)
            c_1 = 1 / (n + 2 * root + mu_eff / n)
            c_mu = min(1 - c_1, (0.25 + mu_eff + 1 / mu_eff - 2) / (n + 4 * root + mu_eff / 2))
        minus = min(1 + c_1 / c_mu, 1 + 2 * mu_eff_minus / (mu_eff + 2))
        if kind == "full":  # so that the matrix stays positive definite
            minus = min(minus, (1 - c_1 - c_mu) / (n * c_mu))
        d_sigma = 1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (n + 1)) - 1) + c_sigma
        if kind == "lowmemory":
            minus, c_sigma, d_sigma = 0.0, min(0.5, 2 * population / n), 1.0
        weights = np.where(raw >= 0, raw / raw[raw > 0].sum(), minus * raw / -raw[raw < 0].sum())
        return cls(
            weights=weights,
            mu=mu,
            mu_eff=mu_eff,
            c_c=c_c,
            c_sigma=c_sigma,
            c_1=c_1,
            c_mu=c_mu,
            d_sigma=d_sigma,
            chi_n=math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n)),
            eigen_gap=max(1, math.ceil(1 / (10 * n * (c_1 + c_mu)))),
        )


@dataclass(frozen=True)
class Step:
    """What a generation says about the shape; rows sorted, the best first."""

    weights: FloatArray  # (lambda,)
    mu_eff: float
    y: FloatArray  # (lambda, n)
    z: FloatArray  # (lambda, n)
    length: FloatArray  # (lambda,): of the rows of z
    path_c: FloatArray  # (n,)
    h_sigma: bool

    def shares(self, s: Strategy) -> tuple[float, FloatArray]:
        """Factor of the old matrix, and that of each row's outer product (tutorial, eq. 46-47)."""
        n = self.y.shape[1]
        scaled = np.where(self.weights < 0, self.weights * n / (self.length**2 + 1e-8), self.weights)
        delta = 0.0 if self.h_sigma else s.c_c * (2 - s.c_c)
        return 1 + s.c_1 * delta - s.c_1 - s.c_mu * float(self.weights.sum()), s.c_mu * scaled


class Shape(ABC):
    """C without the step size. Sampling, learning and state cost no more than its size times lambda."""

    kind: ClassVar[Kind]

    @classmethod
    @abstractmethod
    def start(cls, n: int) -> Self:
        """The identity."""

    @abstractmethod
    def colour(self, z: FloatArray) -> FloatArray:
        """White steps made coloured, shape (m, n)."""

    @abstractmethod
    def whiten(self, y: FloatArray) -> FloatArray:
        """The inverse of `colour`."""

    def turn(self, z: FloatArray) -> FloatArray:
        """A white step, shape (n,), in the axes of the space, in which the path of sigma is kept."""
        return z

    @abstractmethod
    def adapt(self, s: Strategy, step: Step) -> None:
        """Learn from one generation."""

    def settle(self, generation: int, gap: int, least: FloatArray | None) -> None:  # noqa: B027
        """Make ready for sampling; `least`, shape (n,): variances to be widened to."""

    @abstractmethod
    def variances(self) -> FloatArray:
        """Diagonal of C, shape (n,)."""

    @abstractmethod
    def axis_ratio(self) -> float:
        """Longest by shortest axis."""

    @abstractmethod
    def axis(self, i: int) -> FloatArray:
        """Some direction times the standard deviation along it, shape (n,); a different one for each i."""

    def save(self) -> dict[str, npt.NDArray[Any] | int]:
        """Values by field name."""
        return {field.name: getattr(self, field.name) for field in fields(cast(Any, self))}

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> Self:
        """Undo `save`; other values are passed over."""
        return cls(**{field.name: values[field.name] for field in fields(cast(Any, cls))})


@dataclass
class Full(Shape):
    """n x n. `basis` and `axes` are C's eigenvectors (columns) and the roots of its eigenvalues as of
    `eigen_generation`; they are state, because another CPU's eigendecomposition of the same C differs in
    the last bits."""

    covariance: FloatArray  # (n, n)
    basis: FloatArray  # (n, n)
    axes: FloatArray  # (n,)
    eigen_generation: int
    kind = "full"

    @classmethod
    def start(cls, n: int) -> Self:
        return cls(np.eye(n), np.eye(n), np.ones(n), 0)

    def colour(self, z: FloatArray) -> FloatArray:
        return (z * self.axes) @ self.basis.T

    def whiten(self, y: FloatArray) -> FloatArray:
        return (y @ self.basis) / self.axes

    def turn(self, z: FloatArray) -> FloatArray:
        return self.basis @ z

    def adapt(self, s: Strategy, step: Step) -> None:
        old, rows = step.shares(s)
        all_rows = np.vstack([step.path_c, step.y])
        self.covariance = old * self.covariance
        self.covariance += (all_rows.T * np.concatenate([[s.c_1], rows])) @ all_rows

    def settle(self, generation: int, gap: int, least: FloatArray | None) -> None:
        if generation - self.eigen_generation < gap:
            return
        c = (self.covariance + self.covariance.T) / 2
        if least is not None:
            np.fill_diagonal(c, np.maximum(np.diag(c), least))
        values, basis = np.linalg.eigh(c)
        self.covariance, self.basis = c, np.ascontiguousarray(basis)
        self.axes = np.sqrt(np.maximum(values, _TINY))
        self.eigen_generation = generation

    def variances(self) -> FloatArray:
        return cast(FloatArray, np.diag(self.covariance))

    def axis_ratio(self) -> float:
        return float(self.axes.max() / self.axes.min())

    def axis(self, i: int) -> FloatArray:
        return cast(FloatArray, self.axes[i] * self.basis[:, i])


@dataclass
class Diagonal(Shape):
    """n variances: time and state linear in n, correlations are not learned."""

    covariance: FloatArray  # (n,)
    kind = "diagonal"

    @classmethod
    def start(cls, n: int) -> Self:
        return cls(np.ones(n))

    def colour(self, z: FloatArray) -> FloatArray:
        return z * np.sqrt(self.covariance)

    def whiten(self, y: FloatArray) -> FloatArray:
        return y / np.sqrt(self.covariance)

    def adapt(self, s: Strategy, step: Step) -> None:
        old, rows = step.shares(s)
        c = old * self.covariance + s.c_1 * step.path_c**2 + rows @ step.y**2
        self.covariance = np.maximum(c, self.covariance * _LEAST_FACTOR)

    def variances(self) -> FloatArray:
        return self.covariance

    def axis_ratio(self) -> float:
        return math.sqrt(float(self.covariance.max() / self.covariance.min()))

    def axis(self, i: int) -> FloatArray:
        direction = np.zeros(len(self.covariance))
        direction[i] = math.sqrt(self.covariance[i])
        return direction


@dataclass
class LowMemory(Shape):
    """C = A A', A = F_k ... F_1, F_j = (1 - a_j) I + a_j M_j M_j': some 4 + 3 ln n directions M_j, each the
    mean of the steps over another span of generations. Time and state linear in n; no negative weights."""

    directions: FloatArray  # (number, n)
    learned: int  # generations; the first `learned` directions are in use
    kind = "lowmemory"

    @classmethod
    def start(cls, n: int) -> Self:
        return cls(np.zeros((min(n, 4 + int(3 * math.log(n))), n)), 0)

    def _factors(self) -> list[tuple[float, FloatArray]]:
        """(a_j, M_j) of the directions in use."""
        n = self.directions.shape[1]
        return [(min(0.5, 1 / (1.5**j * n)), m) for j, m in enumerate(self.directions[: self.learned])]

    def colour(self, z: FloatArray) -> FloatArray:
        for a, m in self._factors():
            z = (1 - a) * z + np.multiply.outer(a * (z @ m), m)
        return z

    def whiten(self, y: FloatArray) -> FloatArray:
        for a, m in reversed(self._factors()):
            along = a / (1 - a + a * float(m @ m))
            y = (y - np.multiply.outer(along * (y @ m), m)) / (1 - a)
        return y

    def adapt(self, s: Strategy, step: Step) -> None:  # noqa: ARG002
        best = step.weights > 0
        white = math.sqrt(step.mu_eff) * (step.weights[best] @ step.z[best])
        population, n = step.z.shape
        rates = np.minimum(0.9, population / (4.0 ** np.arange(len(self.directions)) * n))[:, None]
        self.directions = (1 - rates) * self.directions + np.sqrt(rates * (2 - rates)) * white
        self.learned += 1

    def variances(self) -> FloatArray:
        """A = alpha I + U V', built factor by factor; then the squared lengths of its rows."""
        n, alpha = self.directions.shape[1], 1.0
        u, v = np.empty((0, n)), np.empty((0, n))
        for a, m in self._factors():
            row = alpha * m + (u @ m) @ v
            u, v = np.vstack([(1 - a) * u, a * m]), np.vstack([v, row])
            alpha *= 1 - a
        squares: FloatArray = alpha**2 + np.einsum("ij,ij->j", u, 2 * alpha * v + (v @ v.T) @ u)
        return squares

    def axis_ratio(self) -> float:
        variances = self.variances()
        return math.sqrt(float(variances.max() / variances.min()))

    def axis(self, i: int) -> FloatArray:
        unit = np.zeros(self.directions.shape[1])
        unit[i] = 1.0
        return self.colour(unit)


SHAPES: dict[str, type[Shape]] = {shape.kind: shape for shape in (Full, Diagonal, LowMemory)}
