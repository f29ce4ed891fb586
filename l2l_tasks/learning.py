"""Learning to learn, measured: fitness at held-out tasks against experience and the number of training tasks.

Pure functions of what the tests of campaigns came to; figures in `figures`, pages in `report`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from l2l_tasks.held_out import LearningCurve, Performance, mean_and_band

FRESH = 0
"""Number of training tasks of a campaign that draws others in every generation."""


@dataclass(frozen=True)
class Learned:
    """What one campaign's tests came to.

    Attributes:
        tasks: different tasks that the optimizer learned from; FRESH: others in every generation.
        tests: in the order of the generations, the first before all learning.
    """

    campaign: str
    seed: int
    tasks: int
    tests: Sequence[Performance]

    @property
    def before(self) -> Performance | None:
        """The test before all learning, if it has a result."""
        first = self.tests[0] if self.tests else None
        return first if first is not None and first.after == 0 and first.fitness else None

    @property
    def after(self) -> Performance | None:
        """The newest test with a result, unless it is the first."""
        return next((test for test in reversed(self.tests) if test.after > 0 and test.fitness), None)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its confidence interval, one entry per objective (or point of a curve)."""

    n: int
    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Row:
    """Campaigns that differ in their seeds only: fitness at held-out tasks, and learning curves.

    Attributes:
        tasks: as `Learned.tasks`.
        seeds: of the campaigns.
        before, after: None when no campaign has a result.
    """

    tasks: int
    seeds: list[int]
    before: Estimate | None
    after: Estimate | None
    curve_before: LearningCurve
    curve_after: LearningCurve


def table(found: Sequence[Learned]) -> list[Row]:
    """One row per number of training tasks, in their order, fresh tasks last."""

    def order(one: Learned) -> tuple[bool, int, int]:
        return one.tasks == FRESH, one.tasks, one.seed

    rows = []
    for tasks, group in groupby(sorted(found, key=order), key=lambda one: one.tasks):
        same = list(group)
        before, after = _present(same, lambda one: one.before), _present(same, lambda one: one.after)
        rows.append(
            Row(
                tasks,
                [one.seed for one in same],
                _estimate([test.fitness for test in before]),
                _estimate([test.fitness for test in after]),
                _curve(before),
                _curve(after),
            )
        )
    return rows


def _present(
    campaigns: Sequence[Learned], pick: Callable[[Learned], Performance | None]
) -> list[Performance]:
    return [test for one in campaigns if (test := pick(one)) is not None]


def _estimate(samples: Sequence[Sequence[float]]) -> Estimate | None:
    if not samples:
        return None
    values = np.array(samples, dtype=float)
    mean, low, high = mean_and_band(values)
    return Estimate(len(samples), mean.tolist(), low.tolist(), high.tolist())


def _curve(tests: Sequence[Performance]) -> LearningCurve:
    """The mean over seeds; of one seed its own curve, with the band over tasks."""
    if len(tests) == 1:
        return tests[0].curve
    curves = [test.curve for test in tests]
    if not curves or any(curve.at != curves[0].at for curve in curves):
        return LearningCurve()
    estimate = _estimate([curve.mean for curve in curves])
    assert estimate is not None
    return LearningCurve(curves[0].at, estimate.mean, estimate.low, estimate.high)
