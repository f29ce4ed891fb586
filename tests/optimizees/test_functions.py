"""The test functions: their minima, and noise, run times and failures to order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimizees
from optimizees.base import Optimizee

MINIMA = {"sphere": 0.0, "rosenbrock": 1.0, "rastrigin": 0.0, "ackley": 0.0}
NAMED = {"split": "train", "index": 0, "seed": 1}
names = st.sampled_from(sorted(MINIMA))


def ask(optimizee: Optimizee, x: list[float], seed: int = 1) -> dict[str, object]:
    request = {"params": {"x": x}, "task": NAMED, "seed": seed, "scratch": ".", "deadline": None}
    return optimizee.evaluate_json(request)


@pytest.mark.parametrize("name", sorted(MINIMA))
def test_minimum_is_zero_where_it_is_said(name: str) -> None:
    reply = ask(optimizees.load(name, {"dimension": 4}), [MINIMA[name]] * 4)
    assert reply["fitness"] == pytest.approx([0.0], abs=1e-12)


@given(name=names, seed=st.integers(0, 2**32), dimension=st.integers(2, 6))
def test_nothing_is_below_the_minimum(name: str, seed: int, dimension: int) -> None:
    optimizee = optimizees.load(name, {"dimension": dimension})
    x = optimizee.space().decode(np.random.default_rng(seed).random(dimension))["x"]
    assert ask(optimizee, x)["fitness"][0] >= -1e-12  # type: ignore[index]


@pytest.mark.parametrize("name", sorted(MINIMA))
def test_centre_of_the_box_is_not_the_minimum(name: str) -> None:
    """An optimizer that starts in the middle must have something to do."""
    optimizee = optimizees.load(name, {"dimension": 3})
    x = optimizee.space().decode(np.full(3, 0.5))["x"]
    assert ask(optimizee, x)["fitness"][0] > 0.1  # type: ignore[index]


@given(name=names, seed=st.integers(1, 2**32 - 1))
def test_noise_is_on_the_loss_and_not_on_the_metric(name: str, seed: int) -> None:
    clean, noisy = optimizees.load(name, {}), optimizees.load(name, {"noise": 2.0})
    x = [0.25, 0.5]
    expected = ask(clean, x, seed)["fitness"]
    reply = ask(noisy, x, seed)
    assert [reply["metrics"]["value"]] == expected  # type: ignore[index]
    assert reply["fitness"] != expected
    assert ask(noisy, x, seed) == reply


def test_noise_has_the_wanted_size() -> None:
    noisy = optimizees.load("sphere", {"noise": 3.0})
    losses = [ask(noisy, [0.0, 0.0], seed)["fitness"][0] for seed in range(1, 2001)]  # type: ignore[index]
    assert np.mean(losses) == pytest.approx(0.0, abs=0.3)
    assert np.std(losses) == pytest.approx(3.0, rel=0.1)


def test_failures_come_as_often_as_ordered_and_stay() -> None:
    """An attempt that failed fails again: the draw belongs to the seed."""
    optimizee = optimizees.load("sphere", {"fail": 0.25})

    def fails(seed: int) -> bool:
        try:
            ask(optimizee, [1.0, 1.0], seed)
        except RuntimeError:
            return True
        return False

    first = [fails(seed) for seed in range(1, 1001)]
    assert 0.2 < np.mean(first) < 0.3
    assert [fails(seed) for seed in range(1, 1001)] == first
    with pytest.raises(RuntimeError, match=r"fail=1 \(seed 9\)"):
        ask(optimizees.load("sphere", {"fail": 1.0}), [1.0, 1.0], 9)


def test_run_time_changes_no_result() -> None:
    """The noise of an evaluation does not depend on how long it takes."""
    quick = optimizees.load("sphere", {"noise": 1.0})
    slow = optimizees.load("sphere", {"noise": 1.0, "run_time": 0.001, "run_time_cv": 0.5})
    assert [ask(quick, [1.0, 2.0], s) for s in range(1, 20)] == [
        ask(slow, [1.0, 2.0], s) for s in range(1, 20)
    ]


@given(seed=st.integers(1, 2**32 - 1))
def test_global_random_state_is_untouched(seed: int) -> None:
    before = np.random.get_state(legacy=False)
    ask(optimizees.load("sphere", {"noise": 1.0}), [1.0, 1.0], seed)
    after = np.random.get_state(legacy=False)
    assert str(before) == str(after)
