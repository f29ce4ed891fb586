"""What tests on held-out tasks come to, from results alone."""

from __future__ import annotations

import numpy as np
import pytest

from l2l_tasks.held_out import MOST_POINTS, Outcome, learning_curve, performance


def test_fitness_is_aggregated_as_in_training() -> None:
    """Two tasks, evaluated twice each."""
    outcomes = [Outcome([[1.0], [2.0], [3.0], [4.0]])]
    found = performance(3, outcomes, 2, "mean", ["minimize"])
    assert (found.after, found.tested, found.ok, found.fitness) == (3, 1, 1, [2.5])
    assert performance(3, outcomes, 2, "worst", ["minimize"]).fitness == [4.0]
    assert performance(3, outcomes, 2, "worst", ["maximize"]).fitness == [1.0]
    assert performance(3, outcomes, 2, {"quantile": 0.5}, ["maximize"]).fitness == [2.5]


def test_of_several_the_one_in_the_middle_counts() -> None:
    """Guards against one set of parameters that diverges and makes the untrained look hopeless."""
    rows = ([1.0, 1.0], [1e9, 1e9], [3.0, 5.0])
    outcomes = [Outcome([[value] for value in row], [row]) for row in rows]
    found = performance(0, [*outcomes, Outcome(None)], 2, "mean", ["minimize"])
    assert (found.tested, found.ok, found.fitness) == (4, 3, [4.0])
    assert found.curve.mean == [3.0, 5.0]
    assert found.high[0] <= 5.0


def test_what_failed_is_counted_and_left_out() -> None:
    found = performance(0, [Outcome(None), Outcome([[1.0, 2.0]])], 1, "mean", ["minimize", "maximize"])
    assert (found.tested, found.ok, found.fitness) == (2, 1, [1.0, 2.0])
    assert found.low == found.high == []  # of one task nothing is known about others
    nothing = performance(0, [Outcome(None)], 4, "mean", ["minimize"])
    assert (nothing.tested, nothing.ok, nothing.fitness, nothing.curve.at) == (1, 0, [], [])


def test_metrics_that_all_evaluations_have_are_averaged() -> None:
    outcome = Outcome([[1.0], [2.0]], metrics=[{"accuracy": 0.5, "odd": 1.0}, {"accuracy": 1.0}])
    assert performance(1, [outcome], 2, "mean", ["minimize"]).metrics == {"accuracy": 0.75}


def test_the_interval_is_that_of_other_tasks() -> None:
    """It covers the mean of all tasks in about 95 of 100 samples of 40 tasks, repeats do not narrow it."""
    rng, hits, widths = np.random.default_rng(1), 0, []
    for _ in range(100):
        tasks = rng.normal(3.0, 1.0, 40)
        rows = [[value] for value in np.repeat(tasks, 3)]
        found = performance(1, [Outcome(rows)], 40, "mean", ["minimize"])
        hits += found.low[0] <= 3.0 <= found.high[0]
        widths.append(found.high[0] - found.low[0])
    assert 85 <= hits <= 99
    assert np.mean(widths) == pytest.approx(2 * 1.96 / np.sqrt(40), rel=0.15)
    again = performance(1, [Outcome(rows)], 40, "mean", ["minimize"])
    assert (again.low, again.high) == (found.low, found.high)


def test_curves_are_averaged_as_far_as_all_go() -> None:
    found = learning_curve([[1.0, 2.0, 3.0], [3.0, 4.0]])
    assert (found.at, found.mean) == ([0, 1], [2.0, 3.0])
    assert found.low[0] < 2.0 < found.high[0]
    alone = learning_curve([[1.0, 2.0]])
    assert alone.low == alone.mean == alone.high == [1.0, 2.0]
    assert learning_curve([]).at == learning_curve([[], [1.0]]).at == []


def test_long_curves_are_thinned_out_from_the_first_point_to_the_last() -> None:
    found = learning_curve([list(range(5000)), list(range(5000))])
    assert len(found.at) == MOST_POINTS
    assert (found.at[0], found.at[-1]) == (0, 4999)
    assert found.mean == found.at


@pytest.mark.parametrize("size", [1e200, 1.7e308])
def test_a_learner_that_diverges_leaves_finite_figures(size: float) -> None:
    """Guards against a curve whose mean overflows: it could not be stored, and nothing went on."""
    curves = [[1.0, size * part, -size] for part in (0.3, 1.0, 0.7)]
    found = learning_curve(curves)
    assert np.isfinite([found.mean, found.low, found.high]).all()
    assert found.mean[1] == pytest.approx(size / 3 * 2)
    assert found.low[1] <= found.mean[1] <= found.high[1]
