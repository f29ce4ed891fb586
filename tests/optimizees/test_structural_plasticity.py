"""Growth rules wire populations to their rates, and the loss tells good rules from bad ones (real NEST)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import optimizees
from optimizees.base import OptionsError
from optimizees.structural_plasticity import MODELS, StructuralPlasticity
from tests.support.optimizee_runner import Runner

GOOD = {"nu_e": 6e-3, "nu_i": 4e-3, "eta_e": -0.4, "eta_i": -0.5}
SLOW = {**GOOD, "nu_e": 1e-5, "nu_i": 1e-5}
RUNAWAY = {"nu_e": 0.1, "nu_i": 0.1, "eta_e": -1.5, "eta_i": -1.5}
LAZY = {**GOOD, "eta_e": 0.8, "eta_i": 0.8}
CIRCUIT = {"nu_e": 3e-3, "nu_i": 3e-3, "eta_e": -0.4, "eta_i": -0.5}
STANDARD, WEAK, STRONG = 1, 8, 11  # tasks of the training split: inputs of 100.3 %, 95.5 %, 104.3 %


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner.start("structural_plasticity", {}, tmp_path_factory.mktemp("plasticity")) as started:
        yield started


@pytest.fixture(scope="module")
def good(runner: Runner) -> dict[str, Any]:
    reply: dict[str, Any] = runner.ask(GOOD, 1, index=STANDARD)["reply"]
    return reply


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """A seventh of the time."""
    folder = tmp_path_factory.mktemp("short")
    with Runner.start("structural_plasticity", {"duration": 3000.0}, folder) as started:
        yield started


def test_good_rules_reach_the_wanted_rates(good: dict[str, Any]) -> None:
    """Parameters that an independent search found."""
    assert good["fitness"][0] < 0.25
    assert good["metrics"]["rate_e"] == pytest.approx(5.0, abs=1.0)
    assert good["metrics"]["rate_i"] == pytest.approx(10.0, abs=3.0)
    assert 5 < good["metrics"]["synapses_per_neuron"] < 25


def test_the_curve_falls_while_the_network_wires_itself(good: dict[str, Any]) -> None:
    curve = good["curve"]
    assert len(curve) == 40
    assert curve[0] > 0.7
    assert sum(curve[-10:]) / 10 == pytest.approx(good["fitness"][0])


def test_rules_too_slow_leave_the_network_silent(short: Runner) -> None:
    reply = short.ask(SLOW, 1)["reply"]
    assert reply["fitness"][0] > 0.6
    assert reply["metrics"]["synapses_per_neuron"] < 1.0


def test_no_growth_below_eta(short: Runner) -> None:
    """Neurons that fire less than that never begin, however fast they might grow."""
    reply = short.ask({**LAZY, "nu_e": 0.1, "nu_i": 0.1}, 1, index=WEAK)["reply"]
    assert reply["metrics"]["synapses_per_neuron"] == 0.0


def test_blow_up_is_infeasible(short: Runner) -> None:
    reply = short.ask(RUNAWAY, 1)["reply"]
    assert reply["status"] == "infeasible"
    assert "Hz" in reply["reason"]


def test_growth_curve_without_growth_is_infeasible(short: Runner) -> None:
    reply = short.ask({**GOOD, "eta_i": 1.0}, 1)["reply"]
    assert reply["status"] == "infeasible"
    assert "eta" in reply["reason"]


def test_other_seed_and_other_input_are_other_networks(short: Runner) -> None:
    first = short.ask(GOOD, 1)
    assert short.ask(GOOD, 2) != first
    assert short.ask(GOOD, 1, index=1) != first
    assert short.ask(GOOD, 1, split="test") != first


def test_broken_parameters_are_a_failure_with_a_reason(short: Runner) -> None:
    """NEST's own errors are no blow-ups, and the process goes on."""
    assert "error" in short.ask({**GOOD, "nu_e": "fast"}, 1)
    assert short.ask(GOOD, 1)["reply"]["status"] == "ok"


def test_microcircuit_goes_towards_eight_rates(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Populations with the same input and the same rules are told apart by their wanted rates alone."""
    options = {"model": "microcircuit", "neurons": 200, "duration": 10000.0, "spread": 0.02}
    with Runner.start("structural_plasticity", options, tmp_path_factory.mktemp("circuit")) as runner:
        reply = runner.ask(CIRCUIT, 1, index=STRONG)["reply"]
    assert reply["fitness"][0] < 0.5
    rates = [reply["metrics"][f"rate_{population.name}"] for population in MODELS["microcircuit"]]
    for rate, population in zip(rates, MODELS["microcircuit"], strict=True):
        assert rate == pytest.approx(population.target, rel=0.4, abs=0.8), population.name


def test_the_named_tasks_are_what_they_are_called() -> None:
    family = optimizees.load("structural_plasticity", {}).family()
    assert family.task("train", STANDARD, 1)["input"] == pytest.approx(1.003, abs=0.001)
    assert family.task("train", WEAK, 1)["input"] == pytest.approx(0.955, abs=0.001)
    assert family.task("train", STRONG, 1)["input"] == pytest.approx(1.043, abs=0.001)


def test_without_spread_all_tasks_are_the_standard_input() -> None:
    family = optimizees.load("structural_plasticity", {"spread": 0.0}).family()
    assert family.task("train", 3, 1) == family.task("test", 5, 2) == {"input": 1.0}


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("neurons", [20, 100, 1001])
def test_populations_keep_their_shares(model: str, neurons: int) -> None:
    sizes = list(StructuralPlasticity(model, neurons).sizes.values())
    assert min(sizes) >= 2
    assert sum(sizes) == pytest.approx(neurons, abs=10)
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize(
    "options",
    [{"model": "brain"}, {"neurons": 5}, {"duration": 100.0}, {"spread": 1.0}, {"max_rate": 9.0}],
)
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(options))):
        optimizees.load("structural_plasticity", options)
