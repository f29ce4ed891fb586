"""Parallel tempering: true swaps, the right distribution at every temperature, the ladder."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizers import OptimizerError
from optimizers.base import Evaluated
from optimizers.local.parallel_tempering import ParallelTempering, swap_probability
from optimizers.space import Float, Space
from tests.optimizers.problems import box, fresh, minimise, rastrigin, restored, sphere

LINE = Space({"x": Float(0, 1)})


def probability(*values: float) -> float:
    return float(swap_probability(*(np.array(value) for value in values)))


losses = st.floats(-100, 100)
temperatures = st.floats(0.1, 10)


@given(losses, losses, temperatures, temperatures)
def test_swaps_keep_detailed_balance(a: float, b: float, one: float, other: float) -> None:
    """p(a cold, b hot) swap(a, b) = p(b cold, a hot) swap(b, a), with p the product of both Boltzmann
    factors; and the better of both possible moves is always made."""
    cold, hot = sorted([one, other])
    there, back = probability(a, b, cold, hot), probability(b, a, cold, hot)
    assert max(there, back) == 1
    logarithm = -(b / cold + a / hot) + (a / cold + b / hot)
    if min(there, back) > 1e-290:  # else it is rounded
        assert math.log(there) - math.log(back) == pytest.approx(logarithm, abs=1e-6)


def test_no_swap_is_possible_with_a_temperature_that_vanishes() -> None:
    assert probability(0.0, 1.0, 0.0, 1.0) == 0
    assert probability(1.0, 0.0, 0.0, 1.0) == 1
    assert probability(1.0, 1e308, 1e-300, 1.0) == 0
    assert probability(-1e308, 1e308, 1e-300, 1.0) == 0


def run(optimizer: Any, generations: int, burn_in: int = 0) -> np.ndarray[Any, Any]:
    """Losses of all replicas after each sweep; the loss has the levels 0, 1, 2 over equal parts of [0, 1]."""
    seen = []
    for generation in range(generations):
        optimizer.tell(
            [
                Evaluated(s.id, (float(min(int(s.params["x"] * 3), 2)),))
                for s in optimizer.ask(optimizer._chains)
            ]
        )
        if generation >= burn_in:
            seen.append(optimizer._losses.copy())
    return np.array(seen)


def test_every_replica_follows_its_own_boltzmann_distribution() -> None:
    """Swaps included: the time at each level is exp(-E / T) at each temperature of the ladder."""
    options: dict[str, Any] = {"chains": 8, "hottest": 2.0, "coldest": 0.1, "ladder": "geometric"}
    optimizer = fresh("parallel_tempering", LINE, **options)
    assert isinstance(optimizer, ParallelTempering)
    seen = run(optimizer, 1000, 50)
    for chain in range(8):
        expected = np.exp(-np.arange(3) / optimizer._temperature(chain))
        found = [float((seen[:, chain] == level).mean()) for level in range(3)]
        assert found == pytest.approx(expected / expected.sum(), abs=0.06), chain
    figures = optimizer.diagnostics()
    assert 0.2 < figures["swapped_share"] < 1
    assert figures["swaps"] > 500


def test_swaps_move_states_and_nothing_else() -> None:
    """A swap changes which replica has which state, not the states."""
    optimizer = fresh("parallel_tempering", box(2), chains=6, hottest=100.0)
    assert isinstance(optimizer, ParallelTempering)
    for _ in range(3):
        optimizer.tell([Evaluated(s.id, (float(s.id),)) for s in optimizer.ask(6)])
    before = states(optimizer)
    optimizer._swap_neighbours(np.full(6, 1e9), 1)  # all pairs swap at so high temperatures
    assert states(optimizer) == [before[i] for i in (0, 2, 1, 4, 3, 5)]


def states(optimizer: ParallelTempering) -> list[tuple[Any, ...]]:
    rows = zip(optimizer._ids, optimizer._genomes, optimizer._losses, strict=True)
    return [(i, tuple(genome), loss) for i, genome, loss in rows]


def test_the_ladder_is_geometric_at_first_and_its_ends_stay() -> None:
    optimizer = fresh("parallel_tempering", LINE, chains=5, hottest=0.5, coldest=1e-4)
    assert isinstance(optimizer, ParallelTempering)
    shares = optimizer._shares()
    assert shares == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])
    run(optimizer, 300)
    adapted = optimizer._shares()
    assert (np.diff(adapted) > 0).all()
    assert adapted[[0, -1]] == pytest.approx([1e-4, 1])
    assert adapted[1:-1] != pytest.approx(shares[1:-1])
    assert restored(optimizer).state() == optimizer.state()


def test_an_adapted_ladder_evens_out_the_swaps() -> None:
    """Losses that are nearly a power law of x: swap rates along a geometric ladder differ more."""

    def spread(ladder: str) -> float:
        optimizer = fresh("parallel_tempering", LINE, chains=6, hottest=3.0, coldest=1e-3, ladder=ladder)
        assert isinstance(optimizer, ParallelTempering)
        run(optimizer, 600)
        return float(optimizer._rates.std())

    assert spread("adapted") < 0.8 * spread("geometric")


def test_one_replica_is_refused() -> None:
    with pytest.raises(OptimizerError, match="chains"):
        fresh("parallel_tempering", LINE, chains=1)
    assert len(fresh("parallel_tempering", LINE).ask(1)) == 1


def test_it_finds_the_basin_and_is_far_better_than_random() -> None:
    def median(name: str, loss: Any, budget: int) -> float:
        return float(np.median([minimise(fresh(name, box(4), s), loss, budget, 16) for s in range(3)]))

    assert median("parallel_tempering", sphere, 800) < median("random", sphere, 800) / 30
    assert median("parallel_tempering", rastrigin, 1600) < median("random", rastrigin, 1600) / 2
