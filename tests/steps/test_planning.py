"""The pure part of a campaign: seeds, bundles, verdicts, budgets."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2l_tasks.planning import (
    Budget,
    Direction,
    Progress,
    TaskPlan,
    Told,
    aggregate,
    best_of,
    bundle_name,
    decide,
    describe,
    evaluation_seed,
    excesses,
    judge,
    losses,
    told_sha256,
)

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
extreme = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([sys.float_info.max])


@given(st.integers(0, 2**63), st.integers(0, 10**6), st.integers(0, 10**4), st.integers(0, 100))
def test_seed_fits_every_simulator_and_depends_on_its_place_only(s: int, i: int, t: int, r: int) -> None:
    seed = evaluation_seed(s, i, t, r)
    assert 1 <= seed < 2**31
    assert seed == evaluation_seed(s, i, t, r)


def test_seeds_of_neighbours_differ() -> None:
    seeds = {evaluation_seed(1, i, t, r) for i in range(50) for t in range(5) for r in range(5)}
    assert len(seeds) == 50 * 5 * 5


def test_fresh_tasks_never_repeat_and_fixed_tasks_always_do() -> None:
    fresh, fixed = TaskPlan(3, 1, True), TaskPlan(3, 1, False)
    assert [i for g in range(4) for i in fresh.indices(g)] == list(range(12))
    assert all(fixed.indices(g) == [0, 1, 2] for g in range(4))


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 7), st.integers(0, 50))
def test_bundles_hold_at_most_their_size(population: int, evaluations: int, size: int, first: int) -> None:
    names = [
        bundle_name(3, i, k, evaluations, size)
        for i in range(first, first + population)
        for k in range(evaluations)
    ]
    assert max(names.count(n) for n in names) <= size
    assert names == sorted(names)
    tests = [bundle_name(3, -1 - i, k, evaluations, size) for i in range(2) for k in range(evaluations)]
    assert max(tests.count(n) for n in tests) <= size
    assert [*names, *tests] == sorted([*names, *tests])  # tests come last


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=20))
def test_worst_is_never_better_than_the_mean(values: list[tuple[float, float]]) -> None:
    directions: list[Direction] = ["minimize", "maximize"]
    worst, mean = aggregate(values, "worst", directions), aggregate(values, "mean", directions)
    assert worst[0] >= mean[0] or math.isclose(worst[0], mean[0], abs_tol=1e-9)
    assert worst[1] <= mean[1] or math.isclose(worst[1], mean[1], abs_tol=1e-9)


def test_losses_turn_maximised_objectives_round() -> None:
    assert losses([1.0, 2.0], ["minimize", "maximize"]) == (1.0, -2.0)


@pytest.mark.parametrize(
    ("outcomes", "on_failure", "status"),
    [
        ([("ok", [1.0]), ("ok", [3.0])], "retry", "ok"),
        ([("ok", [1.0]), ("failed", None)], "retry", "failed"),
        ([("ok", [1.0]), ("failed", None)], "worst", "failed"),
        ([("ok", [1.0]), ("failed", None)], "infeasible", "infeasible"),
        ([("ok", [1.0]), ("infeasible", None)], "retry", "infeasible"),
    ],
)
def test_verdict_on_an_individual(outcomes: list[Any], on_failure: str, status: str) -> None:
    told = judge(7, {"x": 1}, outcomes, "mean", on_failure, ["minimize"])
    assert told.status == status
    assert told.fitness == ([2.0] if status == "ok" else None)


def test_fingerprint_depends_on_history_order_and_values() -> None:
    a = Told(0, {"x": 1.0}, "ok", [1.0])
    b = Told(1, {"x": 2.0}, "failed", None)
    assert told_sha256(None, [a, b]) == told_sha256(None, [a, b])
    assert len({told_sha256(None, [a, b]), told_sha256(None, [b, a]), told_sha256("0", [a, b])}) == 3


@given(st.lists(st.lists(st.one_of(st.none(), finite), min_size=1, max_size=5), min_size=1, max_size=8))
def test_best_so_far_never_gets_worse(generations: list[list[float | None]]) -> None:
    progress, last, first = Progress(), math.inf, 0
    for values in generations:
        told = [
            Told(i, {}, "ok" if v is not None else "failed", None if v is None else [v])
            for i, v in enumerate(values, first)
        ]
        first += len(values)
        best = best_of(progress.best, told, "minimize")
        progress = Progress.from_json(progress.advance(best, len(told)).to_json())
        reached = math.inf if progress.best is None else progress.best["fitness"][0]
        assert reached <= last
        assert (progress.stagnant == 0) == (reached < last)
        last = reached
    assert progress.evaluations == first


def test_the_same_best_judged_anew_is_no_progress() -> None:
    """Re-evaluations change the mean of an individual; only another one is a better one."""
    before = Progress(4, {"index": 1, "fitness": [0.2]}, 2)
    assert before.advance({"index": 1, "fitness": [0.1]}, 2).stagnant == 3
    after = before.advance({"index": 2, "fitness": [0.3]}, 2)
    assert (after.stagnant, after.evaluations, after.best) == (0, 6, {"index": 2, "fitness": [0.3]})


@pytest.mark.parametrize(
    ("mean", "limits", "expected"),
    [
        (1.0, {"low": 1.0, "high": 2.0}, None),
        (2.0, {"low": 1.0, "high": 2.0}, None),
        (3.0, {"high": 2.0}, 0.5),
        (1.0, {"low": 4.0}, 0.75),
        (-3.0, {"low": -2.0}, 0.5),
        (0.5, {"high": 0.0}, 0.5),
        (sys.float_info.max, {"high": 1e-300}, 1e300),
    ],
)
def test_excess_over_a_limit_is_relative_to_it(
    mean: float, limits: dict[str, float], expected: float | None
) -> None:
    found = excesses({"rate": [mean, mean]}, {"rate": limits})
    assert found == ({} if expected is None else {"rate": pytest.approx(expected)})


def test_slices_of_tasks_are_some_of_the_campaigns_tasks() -> None:
    plan = TaskPlan(4, 1, False)
    assert plan.indices(3, (1, 2)) == [1, 2]
    assert plan.indices(3, (0, 4)) == plan.indices(0) == [0, 1, 2, 3]
    for tasks in ((0, 5), (3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="per_individual"):
            plan.indices(0, tasks)
    with pytest.raises(ValueError, match="fresh"):
        TaskPlan(4, 1, True).indices(0, (0, 1))


BEST = Progress(evaluations=40, best={"index": 3, "params": {}, "fitness": [0.5]}, stagnant=2)


@pytest.mark.parametrize(
    ("budget", "proceeds"),
    [
        (Budget(), True),
        (Budget(generations=5), False),
        (Budget(generations=6), True),
        (Budget(evaluations=40), False),
        (Budget(evaluations=41), True),
        (Budget(core_hours=1.0), False),
        (Budget(core_hours=1.1), True),
        (Budget(wall_time=60.0), False),
        (Budget(wall_time=61.0), True),
        (Budget(target=0.5), False),
        (Budget(target=0.4), True),
        (Budget(stagnation=2), False),
        (Budget(stagnation=3), True),
    ],
)
def test_each_budget_ends_the_campaign_when_it_is_used_up(budget: Budget, proceeds: bool) -> None:
    decision = decide(budget, 4, BEST, core_hours=1.0, wall_time=60.0, direction="minimize")
    assert decision.proceed is proceeds
    assert decision.next_generation == 5
    assert (decision.reason is None) == proceeds


def test_target_of_a_maximised_objective_is_reached_from_below() -> None:
    decision = decide(Budget(target=0.4), 4, BEST, 0.0, 0.0, "maximize")
    assert not decision.proceed
    assert decide(Budget(target=0.6), 4, BEST, 0.0, 0.0, "maximize").proceed


def test_statistics_leave_out_what_failed() -> None:
    told = [Told(0, {}, "ok", [1.0]), Told(1, {}, "failed", None), Told(2, {}, "ok", [3.0])]
    statistics = describe(told, ["minimize"])
    assert (statistics.best, statistics.mean) == ([1.0], [2.0])
    assert (statistics.median, statistics.std) == ([2.0], [1.0])
    assert describe([told[1]], ["minimize"]).best == []


@given(st.lists(extreme, min_size=1, max_size=9), st.sampled_from(["mean", "median", "worst"]))
def test_the_largest_float_is_a_fitness_like_any_other(values: list[float], how: str) -> None:
    """Guards against a penalty such as sys.float_info.max: its sum overflows, the campaign stood."""
    (one,) = aggregate([[value] for value in values], how, ["minimize"])
    assert math.isfinite(one)
    told = [Told(i, {}, "ok", [value]) for i, value in enumerate(values)]
    found = describe(told, ["minimize"])
    columns = (found.best, found.median, found.mean, found.std)
    assert all(math.isfinite(number) for column in columns for number in column)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_a_quantile_is_what_a_share_of_the_evaluations_is_at_least_as_good_as(
    values: list[float], share: float
) -> None:
    """As numpy's linear quantile of losses; of a fitness that is maximised, the mirror image."""
    rows = [[value, value] for value in values]
    loss, gain = aggregate(rows, {"quantile": share}, ["minimize", "maximize"])
    assert loss == pytest.approx(np.quantile(values, share), rel=1e-9, abs=1e-6)
    assert gain == pytest.approx(np.quantile(values, 1 - share), rel=1e-9, abs=1e-6)
