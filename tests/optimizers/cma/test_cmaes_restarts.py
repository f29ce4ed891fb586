"""Restarts of CMA-ES: policies, what survives them, and the end."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizers.base import Evaluated
from optimizers.cma.restarts import Policy, Restarts
from tests.optimizers.problems import box, fresh, minimise, rastrigin, restored, sphere, tell_sphere


def test_restarts_double_the_population_and_find_the_global_optimum() -> None:
    """Rastrigin in 2-D has about 100 basins within the bounds. One run alone ends in a wrong one."""
    wide = {"sigma": 0.3}  # finds it more often here than the default
    single = [
        minimise(fresh("cmaes", box(2), seed, restarts=0, **wide), rastrigin, 4000, 8) for seed in range(4)
    ]
    restarted = [fresh("cmaes", box(2), seed, **wide) for seed in range(4)]
    losses = [minimise(optimizer, rastrigin, 4000, 8) for optimizer in restarted]
    assert np.median(single) > 0.5
    assert max(losses) < 1e-6
    for optimizer in restarted:
        figures = optimizer.diagnostics()
        assert figures["population"] == 8 * 2 ** figures["restarts"]


def test_resume_is_exact_around_restarts_and_the_end() -> None:
    """Flat losses make each run end soon; after the last one the model stays, and asks go on."""
    whole = fresh("cmaes", box(1), restarts=2, population=4)
    broken = fresh("cmaes", box(1), restarts=2, population=4)
    seen = set()
    for _ in range(120):
        asked = whole.ask(4)
        assert broken.ask(4) == asked
        for optimizer in (whole, broken):
            optimizer.tell([Evaluated(s.id, (float(round(abs(s.params["x"][0]))),)) for s in asked])
        broken = restored(broken)
        assert broken.state() == whole.state()
        seen.add((whole.diagnostics()["restarts"], whole.diagnostics()["converged"]))
    assert seen == {(0, 0), (1, 0), (2, 0), (2, 1)}


def test_a_restart_does_not_lose_the_recommendation() -> None:
    """A new run starts far away with large losses: until it is better, the old run's mean is recommended."""
    optimizer = fresh("cmaes", box(2), seed=2)
    while not optimizer.diagnostics().get("restarts"):
        tell_sphere(optimizer, optimizer.ask(8))
    for _ in range(4):
        tell_sphere(optimizer, optimizer.ask(8))
        recommendation = optimizer.recommend()
        assert recommendation is not None
        assert recommendation.individual is None
        assert sphere(np.array(recommendation.params["x"])) < 1e-12


def test_results_of_an_earlier_run_do_not_enter_the_new_one() -> None:
    """Individuals in flight when a run restarts count as told, and change nothing else."""
    optimizer = fresh("cmaes", box(2), seed=2)
    while not optimizer.diagnostics().get("restarts"):
        late = optimizer.ask(3)
        tell_sphere(optimizer, optimizer.ask(8))
    before = json.dumps([optimizer.diagnostics()[key] for key in ("sigma", "waiting", "model_generation")])
    optimizer.tell([Evaluated(s.id, (-1.0,)) for s in late])
    assert before == json.dumps(
        [optimizer.diagnostics()[key] for key in ("sigma", "waiting", "model_generation")]
    )
    assert optimizer.diagnostics()["best_loss"] == -1


@given(
    policy=st.sampled_from(get_args(Policy)),
    first=st.integers(4, 40),
    runs=st.lists(st.integers(1, 10_000), max_size=30),
    largest=st.integers(0, 6),
)
def test_policies(policy: Policy, first: int, runs: list[int], largest: int) -> None:
    """Large runs double the population. Small ones (bipop) come only while they spent less than large ones,
    have a population up to half of the large one's and a smaller sigma, and end at half its evaluations."""
    restarts, rng = Restarts(first), np.random.default_rng(1)
    spent, small = {True: 0, False: 0}, True
    for evaluations in runs:
        restarts.spent = evaluations
        assert restarts.cut() == (
            restarts.small > 0 and restarts.in_small and evaluations >= restarts.last_large / 2
        )
        spent[small] += evaluations
        before = restarts.doublings
        restarts = Restarts(**json.loads(json.dumps(restarts.save())))
        following = restarts.next(policy, largest, rng, 4)
        if following is None:
            assert policy == "none" or restarts.doublings == largest
            assert policy != "bipop" or spent[True] >= spent[False]
            return
        population, factor = following
        small = restarts.doublings == before
        if small:
            assert policy == "bipop"
            assert spent[True] < spent[False]
            assert min(first, 4) <= population <= max(first, first * 2**before // 2)
            assert 0.01 <= factor <= 1
        else:
            assert restarts.doublings == before + 1 <= largest
            assert following == (first * 2 ** (before + 1), 1.0)
            assert policy != "bipop" or spent[True] >= spent[False]


def test_bipop_runs_small_and_large_populations() -> None:
    optimizer = fresh("cmaes", box(2), seed=1, restart_policy="bipop", population=6)
    populations = set()
    for _ in range(700):
        asked = optimizer.ask(6)
        optimizer.tell([Evaluated(s.id, (rastrigin(np.array(s.params["x"])),)) for s in asked])
        figures = optimizer.diagnostics()
        populations.add((figures["small_runs"] > 0, figures["population"]))
    assert figures["restarts"] >= 2
    assert figures["small_runs"] >= 1
    assert {(False, 6), (False, 12)} <= populations


@pytest.mark.parametrize(("policy", "restarts"), [("none", 9), ("ipop", 0), ("bipop", 0)])
def test_without_a_restart_left_there_is_a_reason_to_stop(policy: str, restarts: int) -> None:
    """And whoever asks all the same gets individuals."""
    optimizer = fresh("cmaes", box(2), restart_policy=policy, restarts=restarts, population=6)
    while optimizer.stop_reason() is None:
        assert optimizer.diagnostics()["converged"] == 0
        tell_sphere(optimizer, optimizer.ask(6))
    optimizer = restored(optimizer)
    assert optimizer.stop_reason() == "converged after 0 restarts"
    assert optimizer.diagnostics()["best_loss"] < 1e-12
    assert len(optimizer.ask(3)) == 3
