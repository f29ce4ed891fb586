"""Waiting for a generation, and utilities by rank."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizers.generations import Waiting, shared_by_rank
from optimizers.individuals import Told

BATCHES = st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=12)


def told_of(ids: list[int], losses: list[float] | None = None, violations: list[float] | None = None) -> Told:
    """Individuals whose genomes, losses and measures follow from their ids."""
    values = np.array([float(i) for i in ids] if losses is None else losses)
    return Told(
        np.array(ids, dtype=np.int64),
        np.array([[i, i + 0.5] for i in ids], dtype=np.float64).reshape(-1, 2),
        values[:, None],
        np.where(np.isfinite(values), 0.0, np.inf) if violations is None else np.array(violations),
        {"m": [np.full((1, 3), float(i)) if i % 2 else None for i in ids]},
    )


@given(BATCHES)
def test_all_are_taken_once_in_the_order_they_came(actions: list[tuple[bool, int]]) -> None:
    """Whatever is added and taken, and however often it is saved and loaded."""
    waiting = Waiting(2, measures=["m"])
    expected: list[int] = []
    total = 0
    for add, n in actions:
        if add:
            ids = list(range(total, total + n))
            total += n
            expected += ids
            waiting.add(told_of(ids))
        else:
            taken = waiting.take(n)
            assert (taken is None) == (n > len(expected))
            if taken is not None:
                assert taken.ids.tolist() == expected[:n]
                assert taken.genomes[:, 0].tolist() == expected[:n]
                assert taken.losses[:, 0].tolist() == expected[:n]
                assert [None if m is None else m[0, 2] for m in taken.measures["m"]] == [
                    i if i % 2 else None for i in expected[:n]
                ]
                del expected[:n]
        copy = Waiting(2, measures=["m"])
        copy.load(waiting.save())
        waiting = copy
        assert len(waiting) == len(expected)


def test_late_individuals_come_in_the_order_of_their_ids() -> None:
    waiting = Waiting(2)
    waiting.add(told_of([5, 7]))
    waiting.add(told_of([2]))
    assert waiting.peek(1).ids.tolist() == [5]
    assert waiting.peek().ids.tolist() == [2, 5, 7]
    taken = waiting.take(3)
    assert taken is not None
    assert taken.losses[:, 0].tolist() == [2, 5, 7]
    assert len(waiting) == 0


def test_a_loss_is_revised_while_it_waits() -> None:
    waiting = Waiting(2)
    waiting.add(told_of([5, 7]))
    assert waiting.revise(7, 0.25)
    assert not waiting.revise(6, 0.5)
    assert waiting.peek().losses[:, 0].tolist() == [5, 0.25]
    waiting.clear()
    assert not waiting.revise(7, 1.0)


def test_ties_share_their_values() -> None:
    """Equal losses, equal violations and failures; the best has the first value."""
    losses = [2.0, 1.0, math.inf, 2.0, math.inf, math.inf, math.inf]
    told = told_of(list(range(7)), losses, [0, 0, math.inf, 0, 3.0, 1.0, math.inf])
    shared = shared_by_rank(told, np.array([10.0, 6, 4, 0, -1, -3, -7]))
    assert shared.tolist() == [5, 10, -5, 5, -1, 0, -5]


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, math.inf]), min_size=1, max_size=12))
def test_sharing_keeps_the_sum_and_the_order(losses: list[float]) -> None:
    """And no failure has more than the mean, however many there are."""
    values = np.sort(np.random.default_rng(1).standard_normal(len(losses)))[::-1]
    shared = shared_by_rank(told_of(list(range(len(losses))), losses), values)
    assert shared.sum() == pytest.approx(values.sum())
    order = np.argsort(losses, kind="stable")
    assert (np.diff(shared[order]) <= 1e-12).all()
    failed = ~np.isfinite(losses)
    assert (shared[failed] <= values.mean() + 1e-12).all()
