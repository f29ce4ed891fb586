"""What tests on held-out tasks come to: fitness with its uncertainty, and learning curves.

Pure functions of results, without any I/O.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from l2l_tasks.planning import Aggregation, Direction, aggregate

UNTRAINED = 5  # individuals of the first generation that are tested: what was there before
CONFIDENCE = 0.95
RESAMPLES = 1000
MOST_POINTS = 100  # of a curve that is kept


@dataclass(frozen=True)
class Outcome:
    """The evaluations of one set of parameters at the held-out tasks, in the order of the tasks.

    Attributes:
        fitness: one row per evaluation, all of them ok; None when one was not.
        curves: a learning curve per evaluation, empty without.
        metrics: numbers by name, per evaluation.
    """

    fitness: Sequence[Sequence[float]] | None
    curves: Sequence[Sequence[float]] = ()
    metrics: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True)
class LearningCurve:
    """Performance against the inner loop's experience: means over tasks, with a confidence band.

    Attributes:
        at: the experience of each point, as a position in the optimizee's curve.
    """

    at: list[int] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Performance:
    """Fitness at held-out tasks, one entry per objective, aggregated over tasks as in training.

    Of several sets of parameters it is that of the one in the middle (by the first objective): one that
    diverges would spoil a mean.

    Attributes:
        after: generations that the optimizer had been told of.
        tested: sets of parameters; ok: those all of whose evaluations succeeded.
        low, high: confidence interval over tasks (percentile bootstrap); empty when there is one task only.
        metrics: means of those that all evaluations have.
    """

    after: int
    tested: int
    ok: int
    fitness: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    curve: LearningCurve = field(default_factory=LearningCurve)
    metrics: dict[str, float] = field(default_factory=dict)


def performance(
    after: int,
    outcomes: Sequence[Outcome],
    tasks: int,
    how: Aggregation,
    directions: Sequence[Direction],
) -> Performance:
    """What a test came to.

    Args:
        after: generations that the optimizer had been told of.
        outcomes: one for each set of parameters.
        tasks: how many held-out tasks there are; each has as many evaluations, one after the other.
        how: how evaluations become one fitness.
        directions: of the objectives.
    """
    fitness = {
        i: aggregate(outcome.fitness, how, directions)
        for i, outcome in enumerate(outcomes)
        if outcome.fitness is not None
    }
    if not fitness:
        return Performance(after, len(outcomes), 0)
    middle = sorted(fitness, key=lambda i: fitness[i][0])[(len(fitness) - 1) // 2]
    low, high = _interval(outcomes[middle].fitness or [], tasks, how, directions)
    curve, metrics = learning_curve(outcomes[middle].curves), _means(outcomes[middle].metrics)
    return Performance(after, len(outcomes), len(fitness), fitness[middle], low, high, curve, metrics)


def metric_points(
    objectives: Sequence[str],
    fitness: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    step: int,
) -> list[tuple[str, float, int]]:
    """What MLflow is told of fitness at held-out tasks: (metric, value, step); nothing of what is empty."""
    return [
        (f"test/{objective}{name}", value, step)
        for name, values in (("", fitness), ("_low", low), ("_high", high))
        for objective, value in zip(objectives, values, strict=False)
    ]


def in_words(fitness: Sequence[float], low: Sequence[float], high: Sequence[float]) -> str:
    """`1.23 (1.1 to 1.4)`, of the first objective; without an interval where there is none."""
    if not fitness:
        return "no result"
    return f"{fitness[0]:.5g}" + (f" ({low[0]:.5g} to {high[0]:.5g})" if low else "")


def _means(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = set.intersection(*(set(one) for one in metrics)) if metrics else set()
    return {name: math.fsum(one[name] / len(metrics) for one in metrics) for name in sorted(names)}


def _interval(
    fitness: Sequence[Sequence[float]], tasks: int, how: Aggregation, directions: Sequence[Direction]
) -> tuple[list[float], list[float]]:
    """The interval over tasks: whole tasks are drawn again, since evaluations of one are not independent."""
    if tasks < 2:
        return [], []
    by_task = np.array(fitness).reshape(tasks, -1, len(directions))
    rng = np.random.default_rng(0)
    resampled = [
        aggregate(
            by_task[rng.integers(tasks, size=tasks)].reshape(-1, len(directions)).tolist(), how, directions
        )
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return low.tolist(), high.tolist()


def learning_curve(curves: Sequence[Sequence[float]]) -> LearningCurve:
    """The mean of some curves as far as the shortest goes, thinned out; empty when there is none."""
    length = min((len(curve) for curve in curves), default=0)
    if length == 0:
        return LearningCurve()
    at = np.unique(np.linspace(0, length - 1, min(length, MOST_POINTS)).round().astype(int))
    points = np.array([[curve[i] for i in at] for curve in curves], dtype=float)
    mean, low, high = mean_and_band(points)
    return LearningCurve(at.tolist(), mean.tolist(), low.tolist(), high.tolist())


def mean_and_band(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the first axis and its confidence interval (Student's t); of one sample the value itself.

    Finite for finite samples, however large: learners diverge.
    """
    from scipy.stats import t  # half a second to import

    scale = 2.0 ** (math.frexp(np.abs(samples).max(initial=1.0))[1] - 1)  # a power of two: exact
    scaled, n = samples / scale, len(samples)
    mean, half = scaled.mean(axis=0), np.zeros(samples.shape[1:])
    if n > 1:
        half = t.ppf((1 + CONFIDENCE) / 2, n - 1) * scaled.std(axis=0, ddof=1) / np.sqrt(n)
    most = 0.99 * sys.float_info.max / scale
    low, high = (np.clip(bound, -most, most) for bound in (mean - half, mean + half))
    return mean * scale, low * scale, high * scale
