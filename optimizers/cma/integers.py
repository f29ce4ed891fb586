"""Whole numbers and choices in CMA-ES: their coordinates must not become narrower than their bins.

The space decodes each bin of a coordinate to one value, so losses are flat within it and selection there
says nothing. Left alone, the distribution shrinks into one bin and the value is never searched again.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from optimizers.cma.model import Model
from optimizers.space import Choice, Int, Space

FloatArray = npt.NDArray[np.float64]

_EDGE = 0.05  # of the cube, at each bound
_LEAVING = 0.2  # share of samples of a converged distribution that leave the mean's bin


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


def bins(space: Space, unit: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Ends of the bins that hold a point, each of shape (dimension,); both the point where continuous."""
    low, high = unit.copy(), unit.copy()
    for name, cut in space.slices.items():
        parameter = space.parameters[name]
        if isinstance(parameter, Int) and parameter.log:
            start, end = parameter.scale()
            value = np.floor(np.exp(start + unit[cut] * (end - start)) + 0.5)
            value = value.clip(parameter.low, parameter.high)
            low[cut] = (np.log(value - 0.5) - start) / (end - start)
            high[cut] = (np.log(value + 0.5) - start) / (end - start)
        elif isinstance(parameter, Choice | Int):
            if isinstance(parameter, Choice):
                number = len(parameter.options)
            else:
                number = parameter.high - parameter.low + 1
            index = np.minimum(np.floor(unit[cut] * number), number - 1)
            low[cut], high[cut] = index / number, (index + 1) / number
    return low, high


def bin_width(space: Space, unit: FloatArray) -> FloatArray:
    """Width of the bin that holds each coordinate of a point, shape (dimension,); 0 where continuous."""
    low, high = bins(space, unit)
    return high - low


def discrete(space: Space) -> npt.NDArray[np.bool_]:
    """Which coordinates have bins, shape (dimension,)."""
    mask = np.zeros(space.dimension, dtype=np.bool_)
    for name, cut in space.slices.items():
        mask[cut] = isinstance(space.parameters[name], Choice | Int)
    return mask


def keep_margin(model: Model, space: Space, chosen: npt.NDArray[np.bool_], alpha: float) -> None:
    """Move and widen the distribution so that each of the `chosen` coordinates leaves its bin with a
    probability of at least `alpha`, in each direction alpha / 2 where the bin has two neighbours.

    R. Hamano, S. Saito, M. Nomura and S. Shirakawa, "CMA-ES with margin: lower-bounding marginal probability
    for mixed-integer black-box optimization", GECCO 2022.
    """
    if not chosen.any():
        return
    mean = model.mean.copy()
    mean[chosen] = fold(mean[chosen])
    low, high = (end[chosen] for end in bins(space, to_unit(mean)))
    first, last = low < 1e-12, high > 1 - 1e-12
    low, high, m = from_unit(np.clip(low, 0, 1)), from_unit(np.clip(high, 0, 1)), mean[chosen]
    spread = np.broadcast_to(model.spread, mean.shape).copy()
    root = model.sigma * np.sqrt(model.shape.variances()[chosen])
    std = root * spread[chosen]

    far = -ndtri(alpha) * std  # of a threshold that is passed with the probability alpha
    m = np.where(first & ~last, np.maximum(m, high - far), m)
    m = np.where(last & ~first, np.minimum(m, low + far), m)

    below, above = ndtr((low - m) / std), ndtr((m - high) / std)
    short = ~first & ~last & (np.minimum(below, above) < alpha / 2)
    inner = 1 - below - above
    p_low, p_high = np.maximum(below, alpha / 2), np.maximum(above, alpha / 2)
    excess = (1 - p_low - p_high - inner) / np.maximum(p_low + p_high + inner - 1.5 * alpha, 1e-12)
    p_low = np.clip(p_low + excess * (p_low - alpha / 2), 1e-10, 0.5 - 1e-10)
    p_high = np.clip(p_high + excess * (p_high - alpha / 2), 1e-10, 0.5 - 1e-10)
    left, right = -ndtri(p_low), -ndtri(p_high)  # distances of the ends, in standard deviations
    m = np.where(short, (low * right + high * left) / (left + right), m)
    std = np.where(short, (high - low) / (left + right), std)
    mean[chosen], spread[chosen] = m, np.minimum(std, model.LARGEST_STD) / root
    model.mean, model.spread = mean, spread


def least_std(space: Space, unit: FloatArray) -> FloatArray:
    """Least standard deviations, shape (dimension,): 0 where continuous, else by the width of the bin.

    From the middle of its bins, a sample leaves at least one with the probability _LEAVING.
    """
    width = bin_width(space, unit)
    number = int((width > 0).sum())
    if not number:
        return width
    reach = NormalDist().inv_cdf(1 - _LEAVING / number / 2)
    return width / 2 / reach
