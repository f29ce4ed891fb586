"""Differential evolution: how trials are made, who replaces whom, adaptation, bounds, restarts."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import differential_evolution

from optimizers import state
from optimizers.base import Evaluated, Optimizer
from optimizers.individuals import FloatArray
from optimizers.population.success_history import SLOTS, History
from tests.optimizers.problems import (
    Loss,
    arrays_of,
    best_in_steady_state,
    box,
    ellipsoid,
    fresh,
    minimise,
    sphere,
    tell_sphere,
)

STRATEGIES = ["best1bin", "rand1bin", "shade"]


def make(dimension: int = 3, population: int = 10, seed: int = 1, **options: Any) -> Optimizer:
    return fresh("differential_evolution", box(dimension, 1.0), seed, population=population, **options)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("in_flight", [1, 10, 40])
def test_steady_state_converges_with_any_number_in_flight(strategy: str, in_flight: int) -> None:
    """One told, one asked, oldest first: 900 evaluations in 3-D; random search stays above 0.003."""
    optimizer = make(strategy=strategy)
    assert best_in_steady_state(optimizer, in_flight, 900) < 3e-4


@pytest.mark.parametrize(("strategy", "base"), [("best1bin", "best"), ("rand1bin", "other")])
def test_mutants_are_a_member_and_a_difference(strategy: str, base: str) -> None:
    """With crossover 1 and scale 1, every trial is a + b - c of three different members, reflected."""
    optimizer = make(population=6, strategy=strategy, crossover=1.0, scale=1.0)
    asked = optimizer.ask(6)
    x = np.array([optimizer.space.encode(s.params) for s in asked])
    optimizer.tell([Evaluated(s.id, (float(s.id),)) for s in asked])
    optimizer.ask(12)
    arrays = arrays_of(optimizer)
    for trial, target in zip(arrays["pending.genomes"], arrays["trials.places"].tolist(), strict=True):
        free = [i for i in range(6) if i != target]
        bases = [0] if base == "best" else free
        made = [
            (a, np.abs(np.minimum(np.mod(y := x[a] + x[b] - x[c], 2), 2 - np.mod(y, 2)) - trial).max())
            for a in bases
            for b in free
            for c in free
            if len({a, b, c}) == 3
        ]
        assert min(error for _, error in made) < 1e-12


def test_each_member_is_target_before_one_is_again() -> None:
    optimizer = make(population=7)
    optimizer.tell([Evaluated(s.id, (1.0,)) for s in optimizer.ask(7)])
    optimizer.ask(4)
    optimizer.ask(10)
    counts = np.bincount(arrays_of(optimizer)["trials.places"])
    assert counts.tolist() == [2] * 7


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_trial_replaces_its_target_unless_that_is_better(strategy: str) -> None:
    """By Deb's rule: ok before infeasible before failed; equal ones replace, so plateaus are crossed."""
    optimizer = make(population=5, strategy=strategy)
    first = [
        Evaluated(0, (1.0,)),
        Evaluated(1, (1.0,)),
        Evaluated(2, None, "infeasible", violation=2.0),
        Evaluated(3, None, "failed"),
        Evaluated(4, (1.0,)),
    ]
    optimizer.ask(5)
    optimizer.tell(first)
    optimizer.ask(5)
    by_place = {
        place: i
        for i, place in zip(range(5, 10), arrays_of(optimizer)["trials.places"].tolist(), strict=True)
    }
    optimizer.tell(
        [
            Evaluated(by_place[0], (2.0,)),
            Evaluated(by_place[1], (1.0,)),
            Evaluated(by_place[2], None, "infeasible", violation=1.0),
            Evaluated(by_place[3], None, "infeasible", violation=9.0),
            Evaluated(by_place[4], None, "infeasible", violation=0.1),
        ]
    )
    assert arrays_of(optimizer)["ids"].tolist() == [0, by_place[1], by_place[2], by_place[3], 4]


def test_shade_trials_outside_go_half_way_to_the_bound() -> None:
    optimizer = make(dimension=20, population=8)
    chance = np.random.Generator(np.random.PCG64(3))
    halves = 0
    for _ in range(6):
        asked = optimizer.ask(8)
        known = arrays_of(optimizer)
        places, genomes = known["trials.places"], known["genomes"]
        for trial, place in zip(known["pending.genomes"], places.tolist(), strict=True):
            assert ((trial >= 0) & (trial <= 1)).all()
            if place >= 0:
                target = genomes[known["places"].tolist().index(place)]
                halves += int(((trial == target / 2) | (trial == (target + 1) / 2)).sum())
        optimizer.tell([Evaluated(s.id, (float(chance.random()),)) for s in asked])
    assert halves > 5


def test_default_strategy_by_dimension() -> None:
    assert "crossover_rate" not in make(9).diagnostics()
    assert "crossover_rate" in make(10).diagnostics()
    assert "crossover_rate" not in make(10, strategy="best1bin").diagnostics()


def test_the_population_shrinks_to_the_best() -> None:
    optimizer = make(population=20, strategy="shade", shrink_over=200)
    losses: dict[int, float] = {}
    sizes = []
    for _ in range(25):
        asked = optimizer.ask(10)
        for s in asked:
            losses[s.id] = sphere(np.array(s.params["x"]))
        optimizer.tell([Evaluated(s.id, (losses[s.id],)) for s in asked])
        sizes.append(optimizer.diagnostics()["population"])
    assert sizes[:3] == [10, 18, 18]  # 20 - 15 * told / 200
    assert sizes == [10.0, *sorted(sizes[1:], reverse=True)]
    assert sizes[-1] == 5
    assert arrays_of(optimizer)["losses"].min() == min(losses.values())


def test_a_collapsed_population_starts_anew_and_the_best_is_remembered() -> None:
    """Late trials and newcomers of the old population do not come into the new one."""
    optimizer = make(dimension=2, population=6)
    waiting = optimizer.ask(12)
    newcomer = waiting.pop()
    while not optimizer.diagnostics()["restarts"]:
        now, waiting = waiting[:6], waiting[6:]
        tell_sphere(optimizer, now)
        waiting += optimizer.ask(6)
        assert optimizer.diagnostics()["told"] < 5000
    best = optimizer.best()
    assert best is not None
    late = [s for s in waiting if s.id < state.load(optimizer.state())[0]["own"]["run_first_id"]]
    assert late
    optimizer.tell([Evaluated(s.id, (1e9,)) for s in [newcomer, *late]])
    assert len(arrays_of(optimizer)["ids"]) == 0
    assert optimizer.best() == best
    assert np.std([s.params["x"] for s in optimizer.ask(6)]) > 0.1


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_history_is_the_weighted_mean_of_what_succeeded(data: st.DataObject) -> None:
    """Lehmer mean of the scales, mean of the rates, weighted by the gains; an unknown gain is the largest."""
    won = data.draw(
        st.lists(
            st.tuples(
                st.floats(0.01, 1),
                st.floats(0, 1),
                st.one_of(st.none(), st.floats(1e-300, 1e308, allow_nan=False)),
            ),
            min_size=1,
            max_size=6,
        )
    )
    history = History()
    for scale, rate, gain in won:
        history.succeeded(scale, rate, gain)
    for _ in range(4):
        history.tried(4)
    known = [gain for _, _, gain in won if gain is not None]
    weights = np.array([max(known, default=1.0) if gain is None else gain for _, _, gain in won])
    weights = weights / max(known, default=1.0)
    scales, rates, _ = (np.array([row[i] for row in won], dtype=object).astype(float) for i in (0, 1, 2))
    _, arrays = history.save()
    assert arrays["history.scales"][0] == pytest.approx((weights @ scales**2) / (weights @ scales))
    assert arrays["history.rates"][0] == pytest.approx(weights @ rates / weights.sum())
    assert arrays["history.scales"][1:].tolist() == [0.5] * (SLOTS - 1)


def test_history_draws_near_what_it_remembers() -> None:
    history = History()
    for _ in range(SLOTS):
        history.succeeded(0.9, 0.2, 1.0)
        history.tried(1)
    scales, rates = history.draw(np.random.Generator(np.random.PCG64(1)), 4000)
    assert float(np.median(scales)) == pytest.approx(0.9, abs=0.02)
    assert float(np.mean(rates)) == pytest.approx(0.2, abs=0.02)
    assert scales.min() > 0
    assert scales.max() == 1.0


class _Spent(Exception):
    pass


def scipys(loss: Loss, dimension: int, population: int, budget: int, seed: int) -> float:
    """Lowest loss of scipy's best1bin in as many evaluations, updated once per generation, like a batch."""
    seen: list[float] = []

    def counted(x: FloatArray) -> float:
        if len(seen) == budget:
            raise _Spent
        seen.append(loss(x))
        return seen[-1]

    start = np.random.Generator(np.random.PCG64(seed)).uniform(-5, 5, (population, dimension))
    with contextlib.suppress(_Spent):
        differential_evolution(
            counted,
            [(-5, 5)] * dimension,
            init=start,
            rng=seed,
            polish=False,
            tol=0,
            maxiter=10**6,
            updating="deferred",
        )
    return min(seen)


@pytest.mark.parametrize(("loss", "decades"), [(sphere, 1.0), (ellipsoid, 1.5)])
def test_best1bin_is_as_good_as_scipys(loss: Loss, decades: float) -> None:
    """Medians of the log10 of the loss after 100 generations of 15 in 5-D; random search is far behind."""
    theirs = np.median([math.log10(scipys(loss, 5, 15, 1500, seed)) for seed in range(3)])
    ours = np.median(
        [
            math.log10(minimise(fresh("differential_evolution", box(5), seed), loss, 1500, 15))
            for seed in range(3)
        ]
    )
    random = np.median(
        [math.log10(minimise(fresh("random", box(5), seed), loss, 1500, 15)) for seed in range(2)]
    )
    assert ours < theirs + decades
    assert ours < random - 1.5


@pytest.mark.parametrize(("n", "size"), [(2, 10), (7, 7), (64, 20)])
def test_the_first_ask_decides_the_population_within_limits(n: int, size: int) -> None:
    optimizer = fresh("differential_evolution", box(3))
    optimizer.tell([Evaluated(s.id, (1.0,)) for s in optimizer.ask(n)])
    optimizer.tell([Evaluated(s.id, (1.0,)) for s in optimizer.ask(64)])
    assert optimizer.diagnostics()["population"] == size
