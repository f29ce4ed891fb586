"""Simulated annealing: cooling schedules, Metropolis' rule, resampling, independence of the loss's scale."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.base import Evaluated, Observation, Optimizer
from optimizers.local.metropolis import Chains, boltzmann
from optimizers.local.simulated_annealing import Schedule, cooling, systematic
from optimizers.space import Categorical, Float, Int, Space
from tests.optimizers.problems import box, fresh, minimise, rastrigin, sphere, tell_sphere

schedules = st.sampled_from(get_args(Schedule))


def generation(optimizer: Optimizer, loss: Callable[[Any], float], batch: int) -> list[Any]:
    asked = optimizer.ask(batch)
    optimizer.tell([Evaluated(s.id, (loss(s.params),)) for s in asked])
    return [s.params for s in asked]


@settings(max_examples=200, deadline=None)
@given(schedules, st.integers(1, 500), st.floats(1e-12, 0.999), st.integers(0, 2000))
def test_every_schedule_falls_from_one_to_final_and_is_never_zero(
    schedule: Schedule, n: int, final: float, k: int
) -> None:
    assert cooling(schedule, 0, n, final) == pytest.approx(1, rel=1e-12)
    assert cooling(schedule, n, n, final) == pytest.approx(final, rel=1e-6)
    now, later = cooling(schedule, k, n, final), cooling(schedule, k + 1, n, final)
    assert 0 < later <= now * (1 + 1e-12)


@pytest.mark.parametrize(
    ("schedule", "middle"),
    [
        ("exponential", 0.1),
        ("logarithmic", 1 / (1 + 99 * math.log(51) / math.log(101))),
        ("linear_multiplicative", 1 / (1 + 99 / 2)),
        ("quadratic_multiplicative", 1 / (1 + 99 / 4)),
        ("linear_additive", 0.505),
        ("quadratic_additive", 0.01 + 0.99 / 4),
        ("exponential_additive", 0.505),
        ("trigonometric_additive", 0.505),
    ],
)
def test_schedules_have_the_form_of_their_name(schedule: Schedule, middle: float) -> None:
    """Half way from 1 to 0.01 in 100 steps."""
    assert cooling(schedule, 50, 100, 0.01) == pytest.approx(middle)


def test_additive_schedules_stay_at_the_end() -> None:
    for schedule in get_args(Schedule):
        still = cooling(schedule, 10_000, 100, 0.01)
        assert (still == pytest.approx(0.01)) == schedule.endswith("additive")


@given(st.floats(0, 1e308), st.floats(0, 1e308))
def test_acceptance_is_a_probability(worse: float, temperature: float) -> None:
    assert 0 <= boltzmann(worse, temperature) <= 1


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30).filter(lambda w: max(w) > 1e-3), st.floats(0, 0.999)
)
def test_resampling_is_systematic(weights: list[float], offset: float) -> None:
    """Each row comes as often as its share of the weight, rounded down or up."""
    drawn = systematic(np.array(weights), offset)
    assert drawn == sorted(drawn)
    assert len(drawn) == len(weights)
    for i, weight in enumerate(weights):
        assert abs(drawn.count(i) - len(weights) * weight / sum(weights)) < 1 + 1e-9


def levels_after(optimizer: Optimizer, sweeps: int, burn_in: int) -> np.ndarray[Any, Any]:
    """Losses of all chains after each sweep; the loss has the levels 0, 1, 2 over equal parts of [0, 1]."""
    assert isinstance(optimizer, Chains)
    seen = []
    for sweep in range(sweeps):
        generation(optimizer, lambda params: float(min(int(params["x"] * 3), 2)), optimizer._chains)
        if sweep >= burn_in:
            seen.append(optimizer._losses.copy())
    return np.array(seen)


def test_chains_follow_the_boltzmann_distribution() -> None:
    """At a constant temperature, without resampling, the time in each level is exp(-E / T)."""
    optimizer = fresh(
        "simulated_annealing",
        Space({"x": Float(0, 1)}),
        chains=50,
        temperature=0.5,
        final=0.999999,
        resample=False,
    )
    seen = levels_after(optimizer, 160, 20)
    expected = np.exp(-np.arange(3) / optimizer.diagnostics()["temperature"])
    found = [float((seen == level).mean()) for level in range(3)]
    assert found == pytest.approx(expected / expected.sum(), abs=0.03)


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_the_scale_of_the_loss_does_not_matter(schedule: str) -> None:
    """A power of two as a factor changes nothing but the exponents."""
    asked = []
    for factor in (1.0, 2.0**40):
        optimizer = fresh("simulated_annealing", box(3), chains=5, schedule=schedule)

        def loss(params: Any, factor: float = factor) -> float:
            return factor * rastrigin(np.array(params["x"]))

        asked.append([generation(optimizer, loss, 7) for _ in range(15)])
    assert asked[0] == asked[1]


@pytest.mark.parametrize("name", ["simulated_annealing", "parallel_tempering"])
@pytest.mark.parametrize("loss", [lambda _: 1.0, lambda x: 1e308 * x, lambda x: 1e-308 * x, lambda x: -x])
def test_no_loss_is_too_flat_too_large_or_too_small(name: str, loss: Callable[[float], float]) -> None:
    optimizer = fresh(name, Space({"x": Float(-1, 1)}), chains=4, reevaluate=1)
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        for _ in range(30):
            generation(optimizer, lambda params: loss(params["x"]), 6)


def test_step_sizes_follow_the_acceptance() -> None:
    """On a sphere at a constant temperature, steps settle where the wanted share is accepted."""
    for wanted in (0.2, 0.6):
        optimizer = fresh(
            "simulated_annealing",
            box(2),
            chains=10,
            acceptance=wanted,
            temperature=1e-3,
            final=0.999,
            resample=False,
        )
        for _ in range(200):
            generation(optimizer, lambda params: sphere(np.array(params["x"])), 10)
        assert optimizer.diagnostics()["accepted_share"] == pytest.approx(wanted, abs=0.08)


def test_resampling_keeps_the_better_chains() -> None:
    """As the temperature falls, chains in the worse basin die out; without, they stay for ever."""

    def two_basins(params: Any) -> float:
        x = float(params["x"])
        return min((x + 0.5) ** 2, (x - 0.5) ** 2 + 0.1)

    ends = {}
    for resample in (True, False):
        optimizer = fresh(
            "simulated_annealing",
            Space({"x": Float(-1, 1)}),
            chains=30,
            steps=20,
            resample=resample,
            step=0.05,
        )
        for _ in range(40):
            generation(optimizer, two_basins, 30)
        assert isinstance(optimizer, Chains)
        ends[resample] = int((optimizer._genomes[:, 0] < 0.5).sum())
    assert ends[True] == 30
    assert 5 < ends[False] < 25


def test_discrete_proposals_differ_from_where_the_chain_is() -> None:
    space = Space({"n": Int(0, 3), "c": Categorical(["a", "b", "c"]), "flag": Categorical([True, False])})
    optimizer = fresh("simulated_annealing", space, chains=1, step=1e-6)
    generation(optimizer, lambda _: 0.0, 1)
    assert isinstance(optimizer, Chains)
    for _ in range(30):
        state = space.decode(optimizer._genomes[0])
        assert generation(optimizer, lambda params: float(params["n"]), 1) != [state]


def test_a_single_chain_and_late_results_still_converge() -> None:
    optimizer = fresh("simulated_annealing", box(2), chains=1, steps=300)
    waiting = optimizer.ask(4)
    for _ in range(600):
        tell_sphere(optimizer, [waiting.pop(0)])
        waiting += optimizer.ask(1)
    assert optimizer.diagnostics()["best_loss"] < 1e-2


def test_observed_individuals_are_where_chains_begin() -> None:
    optimizer = fresh("simulated_annealing", box(2), step=1e-6)
    optimizer.observe([Observation({"x": [1.0, 2.0]}, (0.0,))])
    first = optimizer.ask(4)[0]
    assert first.params["x"] == pytest.approx([1.0, 2.0], abs=1e-3)


def test_it_is_far_better_than_random() -> None:
    """Median over seeds, 100 evaluations per dimension in batches of 20."""

    def median(name: str, **options: Any) -> float:
        return float(
            np.median([minimise(fresh(name, box(5), seed, **options), sphere, 500, 20) for seed in range(5)])
        )

    assert median("simulated_annealing", steps=24) < median("random") / 100
