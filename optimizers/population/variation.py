"""Variation of points of the unit cube, for the methods that keep a population.

All take and give arrays of shape (n, dimension), one individual per row, and draw from the generator that
they are given. Coordinates of choices without an order (`unordered`) are inherited or drawn anew, because
the middle between two choices means nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from optimizers.bins import BoolArray, cells
from optimizers.individuals import FloatArray
from optimizers.space import Space

_ROUNDS = 20  # attempts at individuals that differ from all known ones, before duplicates are accepted


def sbx_crossover(
    rng: np.random.Generator,
    one: FloatArray,
    other: FloatArray,
    rate: float,
    eta: float,
    unordered: BoolArray,
) -> FloatArray:
    """A child of each pair by simulated binary crossover, clipped to the cube.

    With the probability `rate` a pair is crossed, else its child is a copy of `one`. Of a crossed pair, every
    other coordinate (on average) is, with a spread that is the narrower the larger `eta`.
    Deb and Agrawal, "Simulated binary crossover for continuous search space", Complex Systems 9 (1995).
    """
    n, d = one.shape
    u = rng.random((n, d))
    power = 1 / (eta + 1)
    spread = np.where(u < 0.5, (2 * u) ** power, (1 / (2 - 2 * u)) ** power)
    sign = np.where(rng.random((n, d)) < 0.5, 1.0, -1.0)
    crossed = (rng.random((n, 1)) < rate) & (rng.random((n, d)) < 0.5)
    blended = 0.5 * ((one + other) + sign * spread * (one - other))
    inherited = np.where(sign > 0, one, other)
    child = np.where(crossed, np.where(unordered, inherited, blended), one)
    return cast(FloatArray, np.clip(child, 0.0, 1.0))


def polynomial_mutation(
    rng: np.random.Generator, points: FloatArray, rate: float, eta: float, unordered: BoolArray
) -> FloatArray:
    """Each coordinate moves with the probability `rate`, the less far the larger `eta`; clipped to the cube.

    Deb and Goyal, "A combined genetic adaptive search (GeneAS) for engineering design" (1996).
    """
    u = rng.random(points.shape)
    power = 1 / (eta + 1)
    step = np.where(u < 0.5, (2 * u) ** power - 1, 1 - (2 - 2 * u) ** power)
    moved = np.where(unordered, rng.random(points.shape), points + step)
    return cast(FloatArray, np.clip(np.where(rng.random(points.shape) < rate, moved, points), 0.0, 1.0))


def distinct(
    space: Space, known: FloatArray, n: int, make: Callable[[int], FloatArray], rounds: int = _ROUNDS
) -> FloatArray:
    """`n` points of `make(k)` whose parameters differ from one another and from those of the `known` points;
    after some rounds, duplicates are accepted."""
    seen = {row.tobytes() for row in cells(space, known)}
    chosen: list[FloatArray] = []
    for last in [False] * (rounds - 1) + [True]:
        made = make(n - len(chosen))
        for point, cell in zip(made, cells(space, made), strict=True):
            key = cell.tobytes()
            if last or key not in seen:
                seen.add(key)
                chosen.append(point)
        if len(chosen) == n:
            break
    return np.array(chosen)
