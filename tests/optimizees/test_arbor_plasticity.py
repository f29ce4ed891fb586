"""The growth rule, and that the loss tells networks that find their rate from others (real Arbor)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optimizees
from optimizees.arbor_plasticity import growth_curve, rewire
from optimizees.base import OptionsError
from tests.support.optimizee_runner import Runner

GOOD = {"nu_e": 18.0, "nu_i": 3.2, "eta": -0.04, "w": 0.64, "g": 7.5}
UNWIRED = {**GOOD, "nu_e": 1e-6, "nu_i": 1e-6}
RUNAWAY = {"nu_e": 30.0, "nu_i": 0.1, "eta": -1.5, "w": 3.0, "g": 1.0}


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner.start("arbor_plasticity", {}, tmp_path_factory.mktemp("plasticity")) as started:
        yield started


def test_good_rule_wires_the_network_to_its_rate(runner: Runner) -> None:
    reply = runner.ask(GOOD, 1)["reply"]
    assert reply["fitness"][0] < 0.25
    assert reply["metrics"]["rate"] == pytest.approx(8.0, abs=2.0)
    assert reply["metrics"]["excitatory_synapses_per_neuron"] > 1.0


def test_error_falls_while_the_network_grows(runner: Runner) -> None:
    curve = runner.ask(GOOD, 1)["reply"]["curve"]
    assert len(curve) == 50
    assert curve[0] > 0.8
    assert np.mean(curve[-10:]) < 0.5 * np.mean(curve[:5])


def test_input_alone_is_too_weak(runner: Runner) -> None:
    reply = runner.ask(UNWIRED, 1)["reply"]
    assert reply["status"] == "ok"
    assert reply["metrics"]["rate"] < 4.0
    assert reply["metrics"]["excitatory_synapses_per_neuron"] == 0.0
    assert reply["fitness"][0] > 0.6


def test_blow_up_is_infeasible(runner: Runner) -> None:
    reply = runner.ask(RUNAWAY, 1)["reply"]
    assert reply["status"] == "infeasible"
    assert "Hz" in reply["reason"]


def test_other_seed_is_another_network(runner: Runner) -> None:
    assert runner.ask(GOOD, 1) != runner.ask(GOOD, 2)


def test_other_task_is_another_input(runner: Runner) -> None:
    found = {runner.ask(UNWIRED, 1, split=s, index=i)["reply"]["metrics"]["rate"]
             for s in ("train", "test") for i in (0, 1)}  # fmt: skip
    assert len(found) == 4


@pytest.mark.parametrize(
    "options", [{"neurons": 5}, {"duration": 500.0}, {"target_rate": 0.0}, {"spread": 0.6}, {"max_rate": 8.0}]
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(options))):
        optimizees.load("arbor_plasticity", options)


@given(eta=st.floats(-1.5, 0.5))
def test_growth_is_zero_at_both_ends_and_one_midway(eta: float) -> None:
    curve = growth_curve(np.array([eta, 1.0, (1.0 + eta) / 2.0, 50.0]), eta)
    assert curve == pytest.approx([0.0, 0.0, 1.0, -1.0], abs=1e-9)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_rewiring_gives_the_wanted_numbers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    neurons, sources, others = 8, np.arange(3, 8), np.arange(3)
    synapses = rng.integers(4, size=(neurons, neurons))
    np.fill_diagonal(synapses, 0)
    before, wanted = synapses.copy(), rng.integers(12, size=neurons)
    rewire(synapses, wanted, sources, rng)
    assert synapses[:, sources].sum(axis=1).tolist() == wanted.tolist()
    assert synapses.min() >= 0
    assert not synapses.diagonal().any()
    assert np.array_equal(synapses[:, others], before[:, others])
    change = (synapses - before)[:, sources]
    assert np.all((change >= 0).all(axis=1) | (change <= 0).all(axis=1)), "added and removed at once"
