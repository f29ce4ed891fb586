"""Latin hypercube: of n individuals, each nth part of each coordinate's range holds exactly one.

McKay, Beckman and Conover, "A comparison of three methods for selecting values of input variables",
Technometrics 21 (1979). Optimised: random pairs in a column are swapped whenever that lowers the centred
discrepancy (Jin, Chen and Sudjianto, "An efficient algorithm for constructing optimal design of computer
experiments", 2005). The state holds the rows that were not asked for yet.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from optimizers import OptimizerError
from optimizers.base import Arrays, Capabilities, FloatArray, Options
from optimizers.designs.design import Design

LARGEST_SIZE = 10_000_000  # numbers in the design; the state holds them
LARGEST_OPTIMISED = 2000  # individuals; the optimisation takes their square in memory and some seconds
_LARGEST_DIMENSION = 1000  # that is optimised; the products over more coordinates overflow
_SWAPS = 20  # attempted per individual


class LatinHypercubeOptions(Options):
    """Options of `latin_hypercube`."""

    samples: int = Field(100, ge=1, description="individuals of the design; then it is done")
    optimised: bool = Field(
        True, description="spread more evenly by swaps, up to 2000 samples and 1000 dimensions; or plain"
    )


class LatinHypercube(Design):
    """Its design is drawn at the first ask."""

    name = "latin_hypercube"
    summary = "Latin hypercube: a given number of individuals, even along each parameter; for surveys."
    format_version = 1
    Options: ClassVar[type[LatinHypercubeOptions]] = LatinHypercubeOptions
    capabilities = Capabilities(objectives="any", asynchronous=True)
    options: LatinHypercubeOptions

    def _start(self) -> None:
        samples, d = self.options.samples, self.space.dimension
        if samples * d > LARGEST_SIZE:
            raise OptimizerError(
                f"latin_hypercube: {samples} individuals of {d} dimensions are too many; their product can "
                f"be {LARGEST_SIZE} at most. Use sobol."
            )
        self._set_total(samples, "Use sobol.")
        self._rest = np.empty((0, d))  # rows from `_drawn` on, once there is a design

    def _rows(self, first: int, last: int) -> FloatArray:
        if not first:
            self._rest = latin_hypercube(self._total, self.space.dimension, self._rng)
            few = 1 < self._total <= LARGEST_OPTIMISED and self.space.dimension <= _LARGEST_DIMENSION
            if self.options.optimised and few:
                lower_discrepancy(self._rest, _SWAPS * self._total, self._rng)
        rows, self._rest = self._rest[: last - first], self._rest[last - first :]
        return rows

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        own, arrays = super()._save()
        return own, {**arrays, "rest": self._rest}

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        super()._restore(own, arrays)
        self._rest = arrays["rest"]


def latin_hypercube(n: int, dimension: int, rng: np.random.Generator) -> FloatArray:
    """A random Latin hypercube of `n` points, shape (n, dimension)."""
    places = np.argsort(rng.random((n, dimension)), axis=0)
    points: FloatArray = (places + rng.random((n, dimension))) / n
    return points


def lower_discrepancy(points: FloatArray, swaps: int, rng: np.random.Generator) -> None:
    """Swap elements of columns, in place, whenever that lowers the centred L2 discrepancy.

    Its square is a sum over pairs of points of products over the columns. So a swap in one column changes
    the terms of two points by a factor each, which costs O(n).
    """
    n, d = points.shape
    z = points - 0.5
    size = np.abs(z)
    pairs = np.ones((n, n))
    for k in range(d):
        pairs *= _pair_factor(z[:, k, None], z[:, k])
    single = (1 + size / 2 - z**2 / 2).prod(axis=1)
    columns = rng.integers(0, d, swaps).tolist()
    ones, others = rng.integers(0, n, swaps).tolist(), rng.integers(1, n, swaps).tolist()
    for k, i, step in zip(columns, ones, others, strict=True):
        j, column = (i + step) % n, z[:, k]
        to_j = _pair_factor(column[j], column) / _pair_factor(column[i], column)
        row_i, row_j = pairs[i] * to_j, pairs[j] / to_j
        row_i[j], row_j[i] = pairs[i, j], pairs[j, i]
        # On the diagonal a factor is 1 + |z|, and it is not the product of two changes.
        change = (1 + size[j, k]) / (1 + size[i, k])
        row_i[i], row_j[j] = pairs[i, i] * change, pairs[j, j] / change
        ratio = (1 + size[j, k] / 2 - z[j, k] ** 2 / 2) / (1 + size[i, k] / 2 - z[i, k] ** 2 / 2)
        gain_pairs = 2 * (row_i.sum() - pairs[i].sum() + row_j.sum() - pairs[j].sum())
        gain_pairs -= row_i[i] - pairs[i, i] + row_j[j] - pairs[j, j]
        gain_single = single[i] * (ratio - 1) + single[j] * (1 / ratio - 1)
        if gain_pairs / n**2 - 2 * gain_single / n < 0:
            pairs[i], pairs[:, i], pairs[j], pairs[:, j] = row_i, row_i, row_j, row_j
            single[i], single[j] = single[i] * ratio, single[j] / ratio
            for values in (points, z, size):
                values[i, k], values[j, k] = values[j, k], values[i, k]


def _pair_factor(one: Any, other: FloatArray) -> FloatArray:
    """What a column contributes to the term of two points, given centred: 1 + (|a| + |b| - |a - b|) / 2."""
    factor: FloatArray = 1 + (np.abs(one) + np.abs(other) - np.abs(one - other)) / 2
    return factor
