"""The bins of whole numbers and choices in the unit cube, for models that look at many points at once."""

from __future__ import annotations

import numpy as np

from optimizers.base import FloatArray
from optimizers.space import Categorical, Choice, Int, Space


class Bins:
    """The bins of a space.

    Attributes:
        discrete: which coordinates have bins, shape (dimension,).
        choices: coordinate of each `Categorical` -> how many choices it has.
    """

    def __init__(self, space: Space) -> None:
        self._parts = [
            (space.slices[name], p) for name, p in space.parameters.items() if isinstance(p, (Int, Choice))
        ]
        self.discrete = np.zeros(space.dimension, dtype=np.bool_)
        self.choices: dict[int, int] = {}
        for cut, parameter in self._parts:
            self.discrete[cut] = True
            if isinstance(parameter, Categorical):
                self.choices[cut.start] = len(parameter.choices)

    def of(self, units: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Lower edge, middle and upper edge of the bins that hold points, each of shape (n, dimension); the
        middle is what `Space.encode` gives; all three are the point itself where it is continuous."""
        low, middle, high = units.copy(), units.copy(), units.copy()
        for cut, parameter in self._parts:
            if isinstance(parameter, Int):
                start, end = parameter.scale()
                values = start + units[:, cut] * (end - start)
                values = np.floor((np.exp(values) if parameter.log else values) + 0.5)
                values = values.clip(parameter.low, parameter.high)
                for edge, margin in ((low, -0.5), (middle, 0.0), (high, 0.5)):
                    moved = values + margin
                    edge[:, cut] = ((np.log(moved) if parameter.log else moved) - start) / (end - start)
            elif isinstance(parameter, Choice):
                number = len(parameter.options)
                index = np.minimum(np.floor(units[:, cut] * number), number - 1)
                low[:, cut], high[:, cut] = index / number, (index + 1) / number
                middle[:, cut] = (index + 0.5) / number
        return low.clip(0.0, 1.0), middle.clip(0.0, 1.0), high.clip(0.0, 1.0)

    def snap(self, units: FloatArray) -> FloatArray:
        """The points with every discrete coordinate in the middle of its bin, shape (n, dimension)."""
        return self.of(units)[1] if self._parts else units
