"""The network's statistics, and that the loss tells a good network from bad ones (real NEST)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optimizees
from optimizees.base import OptionsError
from optimizees.brunel import mean_correlation, mean_cv
from tests.support.optimizee_runner import Runner

GOOD = {"p_ee": 0.0885, "p_ei": 0.1633, "p_ie": 0.3, "p_ii": 0.2373, "j": 1.0, "g": 7.63, "eta": 2.1}
RUNAWAY = {"p_ee": 0.3, "p_ei": 0.02, "p_ie": 0.02, "p_ii": 0.3, "j": 1.0, "g": 2.0, "eta": 4.0}
SILENT = {"p_ee": 0.1, "p_ei": 0.1, "p_ie": 0.1, "p_ii": 0.1, "j": 0.1, "g": 8.0, "eta": 0.5}


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner.start("brunel", {"duration": 500.0}, tmp_path_factory.mktemp("brunel")) as started:
        yield started


def test_good_network_has_the_wanted_activity(runner: Runner) -> None:
    """Parameters that an independent search found, with the same targets."""
    reply = runner.ask(GOOD, 1)["reply"]
    assert reply["fitness"][0] < 0.25
    assert reply["metrics"]["rate"] == pytest.approx(8.0, abs=3.0)
    assert reply["metrics"]["cv"] == pytest.approx(0.8, abs=0.2)
    assert reply["metrics"]["synchrony"] == pytest.approx(0.02, abs=0.05)


def test_silent_network_is_bad_but_feasible(runner: Runner) -> None:
    reply = runner.ask(SILENT, 1)["reply"]
    assert reply["status"] == "ok"
    assert reply["metrics"]["rate"] < 0.5
    assert reply["fitness"][0] > 1.0


def test_blow_up_is_infeasible(runner: Runner) -> None:
    reply = runner.ask(RUNAWAY, 1)["reply"]
    assert reply["status"] == "infeasible"
    assert "Hz" in reply["reason"]


def test_other_seed_is_another_network(runner: Runner) -> None:
    assert runner.ask(GOOD, 1) != runner.ask(GOOD, 2)


def test_broken_parameters_are_a_failure_with_a_reason(runner: Runner) -> None:
    """NEST's own errors are no blow-ups, and the process goes on."""
    assert "error" in runner.ask({**GOOD, "p_ee": 1.5}, 1)
    assert runner.ask(GOOD, 1)["reply"]["status"] == "ok"


@pytest.mark.parametrize(
    "options",
    [{"neurons": 10}, {"duration": 0}, {"target_rate": 0.0}, {"target_synchrony": 2.0}, {"max_rate": 5.0}],
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(options))):
        optimizees.load("brunel", options)


@given(period=st.floats(2.0, 50.0), neurons=st.integers(3, 8))
def test_regular_trains_have_no_variation(period: float, neurons: int) -> None:
    times = np.tile(np.arange(0.0, 1000.0, period), neurons)
    senders = np.repeat(np.arange(1, neurons + 1), times.size // neurons)
    assert mean_cv((times, senders), list(range(1, neurons + 1))) == pytest.approx(0.0, abs=1e-9)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_poisson_trains_are_irregular_and_asynchronous(seed: int) -> None:
    rng = np.random.default_rng(seed)
    trains = [np.cumsum(rng.exponential(20.0, 800)) for _ in range(20)]
    times, senders = np.concatenate(trains), np.repeat(np.arange(1, 21), 800)
    ids = list(range(1, 21))
    assert mean_cv((times, senders), ids) == pytest.approx(1.0, abs=0.1)
    assert mean_correlation((times, senders), ids, 0.0, 10000.0) == pytest.approx(0.0, abs=0.05)


def test_equal_trains_are_synchronous() -> None:
    train = np.cumsum(np.random.default_rng(1).exponential(20.0, 200))
    spikes = (np.tile(train, 5), np.repeat(np.arange(11, 16), 200))
    assert mean_correlation(spikes, list(range(11, 16)), 0.0, 3000.0) == pytest.approx(1.0)


def test_few_spikes_give_numbers_too() -> None:
    nothing = (np.empty(0), np.empty(0))
    assert mean_cv(nothing, [1, 2, 3]) == 0.0
    assert mean_correlation(nothing, [1, 2, 3], 0.0, 100.0) == 0.0
