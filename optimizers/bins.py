"""The bins of whole numbers and choices in the unit cube.

The space decodes each bin of a coordinate to one value, so losses are flat within it: models should look at
one point of each bin, and no distribution should become narrower than a bin.

`units` are points of the cube, of shape (dimension,) or (n, dimension).
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from optimizers.individuals import FloatArray
from optimizers.space import Categorical, Choice, Float, Int, Space

BoolArray = npt.NDArray[np.bool_]
Discrete = Int | Choice

_LEAVING = 0.2  # share of samples of a converged distribution that leave the mean's bin


def coordinates(parameter: Discrete, values: FloatArray) -> FloatArray:
    """Where whole numbers, or places in a list of choices, are in the unit cube: in the middle of their bins,
    whose ends are those of half a number less and more. Rounding may lead out of the cube."""
    if isinstance(parameter, Choice):
        return (values + 0.5) / len(parameter.options)
    low, high = parameter.scale()
    scaled: FloatArray = ((np.log(values) if parameter.log else values) - low) / (high - low)
    return scaled


def bins(space: Space, units: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Ends of the bins that hold points, of the shape of `units`; both the point where continuous."""
    low, high = units.copy(), units.copy()
    for cut, parameter in _parts(space):
        values = _values(parameter, units[..., cut])
        low[..., cut] = coordinates(parameter, values - 0.5)
        high[..., cut] = coordinates(parameter, values + 0.5)
    return low, high


def bin_width(space: Space, units: FloatArray) -> FloatArray:
    """Width of the bin that holds each coordinate, of the shape of `units`; 0 where continuous."""
    low, high = bins(space, units)
    return high - low


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


def cells(space: Space, units: FloatArray) -> FloatArray:
    """The points with values, or places in the list of choices, in place of their coordinates: rows are equal
    where the parameters are. Shape as `units`."""
    result = units.copy()
    for cut, parameter in _parts(space):
        result[..., cut] = _values(parameter, units[..., cut])
    for name, cut in space.slices.items():
        if isinstance(real := space.parameters[name], Float):
            result[..., cut] = np.clip(real.unscaled(units[..., cut]), real.low, real.high)
    return result


def discrete(space: Space) -> BoolArray:
    """Which coordinates have bins, shape (dimension,)."""
    return _mask(space, (Int, Choice))


def unordered(space: Space) -> BoolArray:
    """Which coordinates are those of choices without an order, shape (dimension,)."""
    return _mask(space, (Categorical,))


class Bins:
    """The bins of a space, for models that look at many points at once.

    Attributes:
        discrete: which coordinates have bins, shape (dimension,).
        choices: coordinate of each `Categorical` -> how many choices it has.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.discrete = discrete(space)
        self.choices = {
            cut.start: len(parameter.choices)
            for cut, parameter in _parts(space)
            if isinstance(parameter, Categorical)
        }

    def of(self, units: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Lower edge, middle and upper edge of the bins that hold points, each of the shape of `units`; the
        middle is what `Space.encode` gives; all three are the point itself where it is continuous."""
        low, high = bins(self._space, units)
        return low.clip(0.0, 1.0), self.snap(units).clip(0.0, 1.0), high.clip(0.0, 1.0)

    def snap(self, units: FloatArray) -> FloatArray:
        """The points with every discrete coordinate in the middle of its bin, of the shape of `units`."""
        if not self.discrete.any():
            return units
        result = units.copy()
        for cut, parameter in _parts(self._space):
            middle = coordinates(parameter, _values(parameter, units[..., cut]))
            result[..., cut] = middle.clip(0.0, 1.0)
        return result


def _parts(space: Space) -> list[tuple[slice, Discrete]]:
    """The parameters with bins, and their coordinates."""
    parameters = space.parameters
    return [(cut, p) for name, cut in space.slices.items() if isinstance(p := parameters[name], Int | Choice)]


def _mask(space: Space, types: tuple[type, ...]) -> BoolArray:
    mask = np.zeros(space.dimension, dtype=np.bool_)
    for name, cut in space.slices.items():
        mask[cut] = isinstance(space.parameters[name], types)
    return mask


def _values(parameter: Discrete, units: FloatArray) -> FloatArray:
    """Whole numbers, or places in the list of choices, that `Space.decode` gives for coordinates."""
    if isinstance(parameter, Choice):
        number = len(parameter.options)
        return np.minimum(np.floor(units * number), number - 1)
    values: FloatArray = np.floor(parameter.unscaled(units) + 0.5)
    return values.clip(parameter.low, parameter.high)
