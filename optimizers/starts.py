"""Where a search begins that moves one point or distribution."""

from __future__ import annotations

from typing import Literal

import numpy as np

from optimizers.individuals import FloatArray
from optimizers.space import Space

Start = Literal["default", "centre", "random"]


def first_point(space: Space, start: Start, rng: np.random.Generator) -> FloatArray:
    """A point of the unit cube, shape (dimension,)."""
    if start == "random":
        return rng.random(space.dimension)
    if start == "centre":
        return np.full(space.dimension, 0.5)
    return space.encode(space.default())
