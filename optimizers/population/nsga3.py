"""NSGA-III: three and more objectives, spread along directions that are given beforehand.

Deb and Jain, "An evolutionary many-objective optimization algorithm using reference-point-based
nondominated sorting approach, part I", IEEE Transactions on Evolutionary Computation 18 (2014); directions:
Das and Dennis, "Normal-boundary intersection" (1998), with an inner layer for many objectives as in part I.
Individuals join the population as they are told, as in `nsga2`.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any, ClassVar, cast

import numpy as np
from pydantic import Field

from optimizers import OptimizerError
from optimizers.base import Arrays, Capabilities, FloatArray, IntArray
from optimizers.pareto import nondominated
from optimizers.population.nondominated_sorting import NSGA, NSGAOptions

LARGEST = 100_000  # directions
_AXIS = 1e-6  # weight of the other objectives in the search for the extreme point of one
_FAR = 1e100  # largest normalised loss: its square is finite
_PAIRS = 2**20  # points times directions that are compared at once


class NSGA3Options(NSGAOptions):
    """Options of `nsga3`."""

    divisions: int | None = Field(
        None, ge=1, description="of each axis, for the directions; null: as many as mu directions allow"
    )


class NSGA3(NSGA):
    """Population of mu, the ideal point, and the extreme points that span the hyperplane of the front."""

    name = "nsga3"
    summary = "NSGA-III: the Pareto front of three and more objectives, evenly along given directions."
    format_version = 1
    Options: ClassVar[type[NSGA3Options]] = NSGA3Options
    capabilities = Capabilities(objectives="multi", asynchronous=True, constraints=True)
    options: NSGA3Options

    def _start(self) -> None:
        super()._start()
        divisions, m = self.options.divisions, self.n_objectives
        if divisions is not None and _count(m, divisions) > LARGEST:
            raise OptimizerError(
                f"Options of {self.name}: {divisions} divisions of {m} objectives make "
                f"{_count(m, divisions)} directions; at most {LARGEST} are searched."
            )
        self._ideal = np.empty((0, m))
        self._extremes = np.empty((0, m))
        self._directions = np.empty((0, m))

    def _aim(self) -> FloatArray:
        """Directions, unit vectors of shape (k, n_objectives)."""
        if not len(self._directions):
            points = reference_points(self.n_objectives, self._size, self.options.divisions)
            self._directions = points / np.linalg.norm(points, axis=1)[:, None]
        return self._directions

    def _survivors(self, losses: FloatArray, rows: IntArray, front: IntArray, room: int) -> IntArray:
        candidates = np.concatenate([rows, front])
        first = candidates[nondominated(losses[candidates])]
        points = self._normalised(losses, candidates, first)
        niche, distance = nearest(points, self._aim())
        crowd = np.bincount(niche[: len(rows)], minlength=len(self._aim()))
        return front[fill_niches(self._rng, niche[len(rows) :], distance[len(rows) :], crowd, room)]

    def _normalised(self, losses: FloatArray, rows: IntArray, front: IntArray) -> FloatArray:
        """Losses of these rows, such that the ideal point is 0 and the front's hyperplane cuts the axes at 1.

        Learns the ideal point and the extreme points from `front`. Halves, because the difference of two
        large losses is infinite.
        """
        half = losses / 2
        self._ideal = np.concatenate([self._ideal, half[rows]]).min(axis=0)[None]
        worst = half[front].max(axis=0) - self._ideal[0]
        span = np.where(worst > 0, worst, 1.0)
        known = np.concatenate([self._extremes, half[front]])
        with np.errstate(over="ignore"):  # a former extreme point may be far from a narrow front
            scaled = (known - self._ideal) / span
        weights = np.full((self.n_objectives, self.n_objectives), _AXIS)
        np.fill_diagonal(weights, 1.0)
        # The achievement scalarising function of each axis: the least of the largest weighted losses.
        with np.errstate(over="ignore"):
            best = [int(np.argmin((scaled / axis).max(axis=1))) for axis in weights]
        self._extremes = known[best]
        scale: FloatArray = np.maximum(
            span * intercepts(scaled[best], span, worst), np.finfo(np.float64).tiny
        )
        with np.errstate(over="ignore"):
            return np.minimum((half[rows] - self._ideal) / scale, _FAR)

    def _parents(self, n: int, among: int) -> IntArray:
        """Tournaments by violation only: the selection for the front is in the survival."""
        one, other = self._rng.integers(0, among, (2, n))
        winners: IntArray = np.where(self._violations[one] > self._violations[other], other, one)
        return winners

    def _figures(self) -> dict[str, float]:
        return {**super()._figures(), "directions": float(len(self._aim())) if self._size else 0.0}

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        own, arrays = super()._save()
        return own, {**arrays, "ideal": self._ideal, "extremes": self._extremes}

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._ideal, self._extremes = arrays["ideal"], arrays["extremes"]
        super()._restore(own, arrays)


def reference_points(objectives: int, population: int, divisions: int | None) -> FloatArray:
    """Points on the simplex, shape (k, objectives), k at most the population where it decides.

    Where so few divisions leave no point inside the simplex, a second, smaller layer is put there.
    """
    if divisions is not None:
        return das_dennis(objectives, divisions)
    size = min(population, LARGEST)
    p = 1
    while _count(objectives, p + 1) <= size:
        p += 1
    if p >= objectives or size <= objectives:
        return das_dennis(objectives, p)
    p = 1
    while _count(objectives, p + 1) + _count(objectives, p) <= size:
        p += 1
    inner = das_dennis(objectives, p - 1) if p > 1 else np.full((1, objectives), 1 / objectives)
    return np.concatenate([das_dennis(objectives, p), (inner + 1 / objectives) / 2])


def das_dennis(objectives: int, divisions: int) -> FloatArray:
    """All points of the simplex whose coordinates are multiples of 1 / divisions, shape (k, objectives)."""
    bars = np.array(list(combinations(range(objectives + divisions - 1), objectives - 1)), dtype=np.int64)
    ends = np.full((len(bars), 1), objectives + divisions - 1)
    steps = np.diff(np.concatenate([np.full_like(ends, -1), bars, ends], axis=1), axis=1) - 1
    return steps / divisions


def _count(objectives: int, divisions: int) -> int:
    return math.comb(objectives + divisions - 1, objectives - 1)


def intercepts(extremes: FloatArray, span: FloatArray, worst: FloatArray) -> FloatArray:
    """Where the hyperplane through the extreme points, shape (m, m), cuts the axes; in units of `span`.

    The worst of the front (1) where there is no such plane, or where it cuts far from the front.
    """
    ones = np.ones(len(span))
    try:
        inverse = np.linalg.solve(extremes, ones)
    except np.linalg.LinAlgError:
        return ones
    if not np.isfinite(inverse).all() or (inverse < 1e-3).any() or (inverse > 1e6).any():
        return ones
    return cast(FloatArray, np.where(worst > 0, np.minimum(1 / inverse, 1.0), 1.0))


def nearest(points: FloatArray, directions: FloatArray) -> tuple[IntArray, FloatArray]:
    """Of each point, the nearest direction (a ray from the origin) and the distance from it."""
    niche = np.empty(len(points), dtype=np.int64)
    distance = np.empty(len(points))
    step = max(1, _PAIRS // len(directions))
    for first in range(0, len(points), step):
        block = points[first : first + step]
        along = block @ directions.T
        niche[first : first + step] = best = along.argmax(axis=1)
        foot = along[np.arange(len(block)), best][:, None] * directions[best]
        distance[first : first + step] = np.linalg.norm(block - foot, axis=1)
    return niche, distance


def fill_niches(
    rng: np.random.Generator, niche: IntArray, distance: FloatArray, crowd: IntArray, room: int
) -> IntArray:
    """`room` of the candidates, ascending: one by one from the emptiest niche, at random where equal.

    Of an empty niche the nearest goes first, the others follow in random order. Going round by round over
    the niches is the same as looking for the emptiest each time.

    Args:
        niche, distance: of each candidate.
        crowd: how many each niche holds already.
    """
    n = len(niche)
    chance = rng.permutation(n)
    closest = np.lexsort((chance, distance, niche))
    leader = np.zeros(n, dtype=np.bool_)
    leader[closest[np.flatnonzero(np.diff(niche[closest], prepend=-1))]] = True
    leader &= crowd[niche] == 0
    queue = np.lexsort((chance, ~leader, niche))
    starts = np.flatnonzero(np.diff(niche[queue], prepend=-1))
    position = np.arange(n) - np.repeat(starts, np.diff(np.append(starts, n)))
    level = np.empty(n, dtype=np.int64)
    level[queue] = crowd[niche[queue]] + position
    return cast(IntArray, np.sort(np.lexsort((chance, level))[:room]))
