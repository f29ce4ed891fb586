"""Successive halving over tasks: who is promoted, on which tasks, and what is compared with what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optimizers
from optimizers import OptimizerError
from optimizers.base import Evaluated, Suggestion
from optimizers.combined.successive_halving import SuccessiveHalving
from tests.optimizers.problems import box, evaluated, fresh, restored

TASKS = np.random.Generator(np.random.PCG64(4)).normal(0, 3, 9)  # what each task adds to the loss


def halving(seed: int = 1, **options: Any) -> SuccessiveHalving:
    made = fresh("successive_halving", box(2), seed, **options)
    assert isinstance(made, SuccessiveHalving)
    return made


def again(optimizer: SuccessiveHalving) -> SuccessiveHalving:
    copy = restored(optimizer)
    assert isinstance(copy, SuccessiveHalving)
    return copy


def loss_on(s: Suggestion) -> float:
    """Mean over the tasks of a suggestion; the best parameters depend on the task."""
    assert s.tasks is not None
    first, number = s.tasks
    x = np.array(s.params["x"])
    return float(np.mean([abs(x[0] - task) + abs(x[1]) for task in TASKS[first : first + number]]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(2, 4))
def test_promotions_see_each_task_once_and_losses_are_means(seed: int, low: int, eta: int) -> None:
    """Asked and told in any order, with failures: everyone sees tasks 0, 1, ... once, in rungs; the loss on a
    rung is the plain mean over all tasks seen; nobody below is ever the best."""
    chance = np.random.Generator(np.random.PCG64(seed))
    optimizer = halving(min_tasks=low, eta=eta)
    seen: dict[int, int] = {}
    alive: dict[int, int] = {}
    params: dict[int, Any] = {}
    flying: list[Suggestion] = []
    for _ in range(40):
        for s in optimizer.ask(int(chance.integers(1, 8))):
            assert s.tasks is not None
            first = s.id if s.origin is None else s.origin
            assert s.tasks[0] == seen.get(first, 0)
            assert (s.tasks[0] == 0) == (s.origin is None)
            seen[first] = sum(s.tasks)
            assert seen[first] in optimizer._tasks
            assert params.setdefault(first, s.params) == s.params
            flying.append(s)
        count = int(chance.integers(0, len(flying) + 1))
        told = [flying.pop(int(chance.integers(len(flying)))) for _ in range(count)]
        failed = {s.id for s in told if chance.random() < 0.2}
        alive |= {
            s.id if s.origin is None else s.origin: sum(s.tasks or (0, 0)) for s in told if s.id not in failed
        }
        optimizer.tell(
            [
                Evaluated(s.id, None, "failed") if s.id in failed else evaluated(optimizer, s, loss_on(s))
                for s in told
            ]
        )
        if chance.random() < 0.2:
            optimizer = again(optimizer)
        best = optimizer.best()
        if best is not None:
            assert alive[best.individual] == max(alive.values())
            whole = Suggestion(0, best.params, tasks=(0, alive[best.individual]))
            assert best.losses[0] == pytest.approx(loss_on(whole))
    for lower, upper in zip(optimizer._rungs, optimizer._rungs[1:], strict=False):
        assert upper.told <= lower.told // eta + len(lower.ids) // eta


def test_one_of_eta_is_promoted_the_best_first() -> None:
    optimizer = halving()
    asked = optimizer.ask(9)
    assert {s.tasks for s in asked} == {(0, 1)}
    optimizer.tell([evaluated(optimizer, s, float((s.id * 5) % 9)) for s in asked])
    further = optimizer.ask(5)
    # Losses 0, 1 and 2 are those of 0, 2 and 4.
    assert [(s.origin, s.tasks) for s in further] == [
        (0, (1, 2)),
        (2, (1, 2)),
        (4, (1, 2)),
        (None, (0, 1)),
        (None, (0, 1)),
    ]
    optimizer.tell([evaluated(optimizer, s, [9.0, 6, 3][s.id - 9]) for s in further[:3]])
    best = optimizer.best()
    assert best is not None
    # (2 + 2 * 3) / 3; individual 0, with 0 on one task, has (0 + 2 * 9) / 3 now.
    assert (best.individual, best.evaluations) == (4, 2)
    assert best.losses[0] == pytest.approx(8 / 3)
    assert [(s.origin, s.tasks) for s in optimizer.ask(1)] == [(4, (3, 6))]


def test_nothing_is_compared_over_different_numbers_of_tasks() -> None:
    """A new individual is lucky on its one task: it is not the best."""
    optimizer = halving(max_tasks=3)
    optimizer.tell([evaluated(optimizer, s, 5.0 + s.id) for s in optimizer.ask(3)])
    promoted = optimizer.ask(1)[0]
    optimizer.tell([evaluated(optimizer, promoted, 8.0)])
    optimizer.tell([evaluated(optimizer, s, -100.0) for s in optimizer.ask(2)])
    best = optimizer.best()
    assert best is not None
    assert (best.individual, best.losses) == (0, (7.0,))
    assert optimizer.recommend().individual == 0  # type: ignore[union-attr]


def test_most_evaluations_go_to_the_promising() -> None:
    """A hundred new ones cost less than half of what all of them on all tasks would, and what is found is
    among the best fifth of them."""
    optimizer = halving()
    tasks = 0
    found: dict[int, Any] = {}
    while len(found) < 100:
        asked = optimizer.ask(8)
        tasks += sum(s.tasks[1] for s in asked if s.tasks)
        found |= {s.id: s.params for s in asked if s.origin is None}
        optimizer.tell([evaluated(optimizer, s, loss_on(s)) for s in asked])
    truth = sorted(loss_on(Suggestion(0, params, tasks=(0, 9))) for params in found.values())
    best = optimizer.best()
    assert best is not None
    assert tasks < 0.45 * 9 * len(found)
    assert best.losses[0] < truth[20]


def test_the_inner_optimizer_learns() -> None:
    """New individuals of an inner one that learns come nearer to the best."""
    optimizer = halving(optimizer="genetic", optimizer_options={"population": 10})
    new: list[float] = []
    for _ in range(40):
        asked = optimizer.ask(10)
        told = [(s, abs(s.params["x"][0]) + abs(s.params["x"][1])) for s in asked]
        new += [loss for s, loss in told if s.origin is None]
        optimizer.tell([evaluated(optimizer, s, loss) for s, loss in told])
    assert np.median(new[-50:]) < 0.3 * np.median(new[:50])


def test_memory_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimizers.combined.successive_halving._KEPT", 30)
    optimizer = halving()
    sizes = []
    for _ in range(40):
        optimizer.tell([evaluated(optimizer, s, float(s.id % 11)) for s in optimizer.ask(10)])
        sizes.append(len(optimizer.state()))
    assert sizes[-1] < sizes[20] * 1.1
    assert all(len(rung.ids) <= 30 for rung in optimizer._rungs)


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(OptimizerError, match="min_tasks 10 is more than max_tasks 9"):
        halving(min_tasks=10)
    with pytest.raises(OptimizerError, match="no optimizer 'nosuch'"):
        halving(optimizer="nosuch")
    with pytest.raises(OptimizerError, match="cannot be within another"):
        halving(optimizer="portfolio")
    cls = optimizers.get("successive_halving")
    assert cls.tasks_needed(cls.Options.model_validate({"max_tasks": 5})) == 5
