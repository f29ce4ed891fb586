"""How points of R^n stand for points of the unit cube: no sample has to be thrown away or penalised."""

from __future__ import annotations

from typing import cast

import numpy as np

from optimizers.individuals import FloatArray

_EDGE = 0.05  # of the cube, at each bound


def to_unit(genome: FloatArray) -> FloatArray:
    """From R^n to the cube: the identity in [margin, 1 - margin], quadratic at the bounds, periodic."""
    folded = fold(genome)
    low = (folded + _EDGE) ** 2 / (4 * _EDGE)
    high = 1 - (1 + _EDGE - folded) ** 2 / (4 * _EDGE)
    unit = np.where(folded < _EDGE, low, np.where(folded > 1 - _EDGE, high, folded))
    return cast(FloatArray, np.clip(unit, 0.0, 1.0))


def from_unit(unit: FloatArray) -> FloatArray:
    """The inverse of `to_unit` in [-margin, 1 + margin]."""
    low = 2 * np.sqrt(_EDGE * unit) - _EDGE
    high = 1 + _EDGE - 2 * np.sqrt(_EDGE * (1 - unit))
    return np.where(unit < _EDGE, low, np.where(unit > 1 - _EDGE, high, unit))


def fold(genome: FloatArray) -> FloatArray:
    """The point of [-margin, 1 + margin] that stands for the same point of the cube."""
    period = 2 * (1 + 2 * _EDGE)
    folded = np.mod(genome + _EDGE, period)
    return np.minimum(folded, period - folded) - _EDGE


def reflected(points: FloatArray) -> FloatArray:
    """Points of R^n, mirrored at the bounds of the cube as often as it takes."""
    folded: FloatArray = np.mod(points, 2.0)
    return np.minimum(folded, 2.0 - folded)
