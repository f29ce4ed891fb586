"""Grid search: every combination of some values of each parameter (full factorial design).

The order is a pseudo-random permutation, so a grid that is stopped early is an even sample of the whole. It
is computed, not stored: a Feistel network over the next power of four, of which values that are too large
are permuted again (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from optimizers import OptimizerError
from optimizers.base import Capabilities, FloatArray, Options
from optimizers.bins import coordinates
from optimizers.designs.design import Design
from optimizers.space import Choice, Int, Parameter

UintArray = npt.NDArray[np.uint64]
Points = Annotated[int, Field(ge=1)]

DEFAULT_POINTS = 5
_ROUNDS = 8


class GridOptions(Options):
    """Options of `grid`."""

    points: Points | dict[str, Points] = Field(
        DEFAULT_POINTS,
        description="values per coordinate, both ends included: for all numbers, or by parameter name (5 for "
        "those not named); whole numbers with fewer values and choices have all of them",
    )


class Grid(Design):
    """Point i of the permuted grid is a function of (seed, i) alone."""

    name = "grid"
    summary = "Grid: all combinations of some values of each parameter; for one to four parameters."
    format_version = 1
    Options: ClassVar[type[GridOptions]] = GridOptions
    capabilities = Capabilities(objectives="any", asynchronous=True)
    options: GridOptions

    def _start(self) -> None:
        points = self.options.points
        by_name = points if isinstance(points, dict) else {}
        parameters = self.space.parameters
        for name in by_name:
            if name not in parameters or parameters[name].kind not in ("float", "int"):
                raise OptimizerError(f"Options of grid: points: {name!r} is no free number of this space.")
        usual = DEFAULT_POINTS if isinstance(points, dict) else points
        self._levels: list[FloatArray] = []  # of each coordinate, within [0, 1], ascending
        for name, cut in self.space.slices.items():
            size = cut.stop - cut.start
            if size:
                self._levels += [levels(parameters[name], by_name.get(name, usual))] * size
        total = math.prod(len(values) for values in self._levels)
        self._set_total(total, "Ask for fewer points, fix parameters, or use sobol.")
        # Raw bits of PCG64 are the same in every version of numpy.
        self._keys = np.random.PCG64(self.seed).random_raw(_ROUNDS)

    def _rows(self, first: int, last: int) -> FloatArray:
        index = permuted(np.arange(first, last, dtype=np.uint64), self._total, self._keys)
        genomes = np.empty((last - first, self.space.dimension))
        for column in range(self.space.dimension - 1, -1, -1):
            values = self._levels[column]
            index, digit = np.divmod(index, np.uint64(len(values)))
            genomes[:, column] = values[digit]
        return genomes


def levels(parameter: Parameter, points: int) -> FloatArray:
    """Coordinates of the grid along one element of a parameter, ascending."""
    if isinstance(parameter, Choice):
        return coordinates(parameter, np.arange(float(len(parameter.options))))
    if isinstance(parameter, Int):
        if parameter.high - parameter.low < points:
            values = np.arange(parameter.low, parameter.high + 1, dtype=np.float64)
        elif points == 1:
            return np.array([0.5])
        else:
            ends = np.array([parameter.low, parameter.high], dtype=np.float64)
            ends = np.log(ends) if parameter.log else ends
            between = np.linspace(ends[0], ends[1], points)
            values = np.unique(np.round(np.exp(between) if parameter.log else between))
        return np.clip(coordinates(parameter, values), 0.0, 1.0)
    return np.linspace(0.0, 1.0, points) if points > 1 else np.array([0.5])


def permuted(index: UintArray, n: int, keys: UintArray) -> UintArray:
    """Where a permutation of 0 .. n - 1, chosen by `keys`, takes each index."""
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    result = _feistel(index, half, mask, keys)
    while (outside := result >= n).any():  # the walk of a value below n comes back below n
        result[outside] = _feistel(result[outside], half, mask, keys)
    return result


def _feistel(value: UintArray, half: np.uint64, mask: np.uint64, keys: UintArray) -> UintArray:
    left, right = value >> half, value & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & mask)
    return (left << half) | right


def _mixed(x: UintArray) -> UintArray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014); wraps around on purpose."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
