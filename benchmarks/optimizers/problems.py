"""The functions, the targets, and how much of them a run reached.

BBOB: the 24 noiseless functions of COCO (Hansen et al., "COCO: a platform for comparing continuous optimizers
in a black-box setting", 2021), from its own library. Several objectives: ZDT (Zitzler, Deb, Thiele, 2000),
DTLZ2 (Deb et al., 2002) and Kursawe's function (1991), written here.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from optimizers.individuals import FloatArray

LOW, HIGH = -5.0, 5.0
FUNCTIONS = tuple(range(1, 25))
TARGETS: FloatArray = 10.0 ** np.linspace(2, -8, 51)
"""COCO's 51 target precisions, 1e2 to 1e-8: how far above the optimum a run may be to have reached them."""


class BBOB:
    """One BBOB function in [-5, 5]^D. Calling it with points of shape (n, D) gives their gaps f - f_opt."""

    def __init__(self, function: int, dimension: int, instance: int) -> None:
        import cocoex

        self._problem = cocoex.BareProblem("bbob", function, dimension, instance)
        self.optimum = float(self._problem.best_value())
        """f_opt, which BBOB shifts at random; add it for what an algorithm is told."""

    def __call__(self, points: FloatArray) -> FloatArray:
        return np.array([float(self._problem(point)) for point in points]) - self.optimum


def start(function: int, dimension: int, instance: int) -> FloatArray:
    """Where algorithms that begin at a point begin: uniform in [-4, 4]^D, the same for all algorithms."""
    return np.random.default_rng([7, function, dimension, instance]).uniform(-4, 4, dimension)


def seed(function: int, dimension: int, instance: int) -> int:
    """An algorithm's seed, at least 1 and below 2^31."""
    words = np.random.SeedSequence([8, function, dimension, instance]).generate_state(1)
    return 1 + int(words[0]) % (2**31 - 2)


@dataclass
class Progress:
    """When a run first reached each of the TARGETS."""

    evaluations: int = 0
    best: float = math.inf
    hits: list[int] = field(default_factory=list)
    """hits[i]: the number of evaluations with which target i was reached; the easiest first."""

    def add(self, gaps: FloatArray) -> None:
        """Take in the gaps of the next evaluations, in their order; NaN and infinity reach nothing."""
        for gap in gaps.tolist():
            self.evaluations += 1
            if gap < self.best:
                self.best = gap
                while len(self.hits) < len(TARGETS) and gap <= TARGETS[len(self.hits)]:
                    self.hits.append(self.evaluations)

    def reached(self, budget: int) -> int:
        """How many targets were reached within `budget` evaluations."""
        return bisect.bisect_right(self.hits, budget)

    def area(self, budget: int, dimension: int) -> float:
        """Area under the run's share of targets over log10(evaluations / dimension), from 1 to the budget;
        between 0 and 1: how early the targets were reached."""
        whole = math.log10(budget / dimension)
        spans = [math.log10(budget / max(hit, dimension)) for hit in self.hits if hit <= budget]
        return sum(spans) / whole / len(TARGETS)


Objectives = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class MultiObjective:
    """A function of points in [low, high]^dimension, shape (n, D), to losses of shape (n, objectives)."""

    evaluate: Objectives
    dimension: int
    objectives: int
    reference: tuple[float, ...]
    """The point against which hypervolume is measured."""
    low: float = 0.0
    high: float = 1.0


def _zdt(shape: Callable[[FloatArray, FloatArray], FloatArray]) -> Objectives:
    def evaluate(x: FloatArray) -> FloatArray:
        g = 1 + 9 * x[:, 1:].mean(axis=1)
        return np.column_stack([x[:, 0], g * shape(x[:, 0], g)])

    return evaluate


def _zdt6(x: FloatArray) -> FloatArray:
    first = 1 - np.exp(-4 * x[:, 0]) * np.sin(6 * np.pi * x[:, 0]) ** 6
    g = 1 + 9 * x[:, 1:].mean(axis=1) ** 0.25
    return np.column_stack([first, g * (1 - (first / g) ** 2)])


def _dtlz2(x: FloatArray) -> FloatArray:
    g = 1 + ((x[:, 2:] - 0.5) ** 2).sum(axis=1)
    a, b = x[:, 0] * np.pi / 2, x[:, 1] * np.pi / 2
    return np.column_stack([g * np.cos(a) * np.cos(b), g * np.cos(a) * np.sin(b), g * np.sin(a)])


def _kursawe(x: FloatArray) -> FloatArray:
    first = -10 * np.exp(-0.2 * np.sqrt(x[:, :-1] ** 2 + x[:, 1:] ** 2)).sum(axis=1)
    return np.column_stack([first, (np.abs(x) ** 0.8 + 5 * np.sin(x**3)).sum(axis=1)])


MULTI: dict[str, MultiObjective] = {
    "zdt1": MultiObjective(_zdt(lambda f, g: 1 - np.sqrt(f / g)), 30, 2, (1.1, 1.1)),
    "zdt2": MultiObjective(_zdt(lambda f, g: 1 - (f / g) ** 2), 30, 2, (1.1, 1.1)),
    "zdt3": MultiObjective(
        _zdt(lambda f, g: 1 - np.sqrt(f / g) - f / g * np.sin(10 * np.pi * f)), 30, 2, (1.1, 1.1)
    ),
    "zdt6": MultiObjective(_zdt6, 10, 2, (1.1, 1.1)),
    "dtlz2": MultiObjective(_dtlz2, 12, 3, (1.1, 1.1, 1.1)),
    "kursawe": MultiObjective(_kursawe, 3, 2, (-14.0, 1.0), -5.0, 5.0),
}


def hypervolume(losses: FloatArray, reference: tuple[float, ...]) -> float:
    """Volume that the points, shape (n, 2) or (n, 3), dominate below the reference; by sweeping."""
    points = losses[(losses < np.array(reference)).all(axis=1)]
    if losses.shape[1] == 2:
        return _swept([(x, y, 0.0) for x, y in points.tolist()], (*reference, 1.0))
    if losses.shape[1] == 3:
        return _swept([(x, y, z) for x, y, z in points.tolist()], reference)
    raise ValueError(f"2 or 3 objectives are supported, got {losses.shape[1]}")


def _swept(points: list[tuple[float, float, float]], reference: tuple[float, ...]) -> float:
    """Slices along the third loss, each with the area below the points seen so far."""
    xs: list[float] = []  # the front of the points seen: x ascending, y descending
    ys: list[float] = []
    volume = area = 0.0
    height = 0.0
    for x, y, z in sorted(points, key=lambda point: point[2]):
        at = bisect.bisect_right(xs, x)
        if at and ys[at - 1] <= y:
            continue  # dominated
        volume += area * (z - height)
        height = z
        last = at - bool(at and xs[at - 1] == x)
        end = last
        while end < len(xs) and ys[end] >= y:
            end += 1
        xs[last:end], ys[last:end] = [x], [y]
        area = _area(xs, ys, reference)
    return volume + area * (reference[2] - height)


def _area(xs: list[float], ys: list[float], reference: tuple[float, ...]) -> float:
    right = [*xs[1:], reference[0]]
    return sum((upper - lower) * (reference[1] - y) for lower, upper, y in zip(xs, right, ys, strict=True))
