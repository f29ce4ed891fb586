"""The inner loop is gradient descent, and what is learned from many sinusoids helps with others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optimizees
from benchmarks.learning_to_learn import held_out_errors, learned_start
from optimizees.base import OptionsError
from optimizees.sinusoid import Sinusoid, descend, initial_weights, outputs, targets

SEEDS = (1, 2, 3)
TASK = {"amplitude": 2.0, "phase": 1.0}


def ask(sinusoid: Sinusoid, params: dict[str, Any], index: int = 0, seed: int = 1) -> dict[str, Any]:
    task = {"split": "train", "index": index, "seed": 1}
    request = {"params": params, "task": task, "seed": seed, "scratch": ".", "deadline": None}
    return sinusoid.evaluate_json(request)


def test_a_step_follows_the_gradient_of_the_error() -> None:
    """Against differences of the error, weight by weight, with a learning rate of its own for each layer."""
    rng = np.random.default_rng(1)
    space = Sinusoid(hidden=3).space()
    start = initial_weights(space.decode(rng.random(space.dimension)), 1)
    x = rng.uniform(-5.0, 5.0, (1, 6))
    y = targets([TASK], x)

    def error(layer: int, change: np.ndarray) -> float:
        moved = tuple(w + change if i == layer else w for i, w in enumerate(start))
        return float(np.mean((outputs(moved, x)[1] - y) ** 2))  # type: ignore[arg-type]

    moved = descend(start, x, y, 0.2, 0.1)
    for layer, rate in enumerate((0.2, 0.2, 0.1, 0.1)):
        for unit in range(start[layer].shape[1]):
            change = np.zeros_like(start[layer])
            change[0, unit] = 1e-6
            slope = (error(layer, change) - error(layer, -change)) / 2e-6
            assert (start[layer] - moved[layer])[0, unit] == pytest.approx(rate * slope, abs=1e-7)


def test_a_network_that_knows_nothing_errs_by_the_variance_of_the_sinusoid() -> None:
    """The default's output is 0 before the first step."""
    sinusoid = Sinusoid(queries=1001)
    reply = ask(sinusoid, sinusoid.space().default())
    amplitude, phase = (sinusoid.family().task("train", 0, 1)[key] for key in ("amplitude", "phase"))
    wave = amplitude * np.sin(np.linspace(-5.0, 5.0, 1001) + phase)
    assert reply["curve"][0] == pytest.approx(np.mean(wave**2))


def test_the_curve_ends_with_the_loss_and_many_steps_learn_the_sinusoid() -> None:
    sinusoid = Sinusoid(hidden=20, shots=100, steps=3000)
    reply = ask(sinusoid, sinusoid.space().default())
    assert len(reply["curve"]) == 3001
    assert reply["fitness"] == [reply["curve"][-1]]
    assert reply["metrics"]["loss_before"] == reply["curve"][0]
    assert reply["curve"][-1] < 0.02 * reply["curve"][0]


def test_learners_of_several_tasks_do_not_know_of_each_other() -> None:
    sinusoid = Sinusoid()
    params = sinusoid.space().default()
    tasks = [sinusoid.family().task("train", i, 1) for i in range(3)]
    alone = sinusoid.adapt(params, tasks[:1], np.random.default_rng(5))
    together = sinusoid.adapt(params, tasks, np.random.default_rng(5))
    np.testing.assert_allclose(together[:, :1], alone)


def test_divergence_is_infeasible() -> None:
    sinusoid = Sinusoid(steps=200)
    wild = {
        **sinusoid.space().default(),
        "output_weights": [3.0] * 10,
        "rate_hidden": 0.3,
        "rate_output": 0.3,
    }
    reply = ask(sinusoid, wild)
    assert reply["status"] == "infeasible"
    assert "diverged" in reply["reason"]


def test_the_seed_draws_the_points_and_the_index_the_sinusoid() -> None:
    sinusoid = Sinusoid()
    params = sinusoid.space().default()
    one, other_points, other_task = (
        ask(sinusoid, params),
        ask(sinusoid, params, seed=2),
        ask(sinusoid, params, 1),
    )
    assert one["curve"][0] == other_points["curve"][0]
    assert one["curve"][1:] != other_points["curve"][1:]
    assert one["curve"][0] != other_task["curve"][0]


@given(index=st.integers(0, 10**6), seed=st.integers(0, 2**32))
def test_tasks_are_of_the_family_and_the_splits_differ(index: int, seed: int) -> None:
    family = Sinusoid().family()
    train, test = family.task("train", index, seed), family.task("test", index, seed)
    for task in (train, test):
        assert 0.1 <= task["amplitude"] <= 5.0
        assert 0.0 <= task["phase"] <= math.pi
    assert train["amplitude"] != test["amplitude"]
    assert train["phase"] != test["phase"]
    assert family.task("train", index + 1, seed) != train != family.task("train", index, seed + 1)


@pytest.mark.parametrize("options", [{"hidden": 0}, {"shots": 0}, {"steps": 0}, {"queries": 1}])
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(options))):
        optimizees.load("sinusoid", options)


@pytest.mark.parametrize("seed", SEEDS)
def test_more_is_learned_from_many_sinusoids_than_from_one(seed: int) -> None:
    """On held-out sinusoids, after 30 generations with the same number of evaluations.

    Learning rates alone, without a prior, do not explain it.
    """
    sinusoid = Sinusoid()
    before = held_out_errors(sinusoid, sinusoid.space().default(), seed)
    one = held_out_errors(sinusoid, learned_start(sinusoid, 1, seed), seed)
    many = held_out_errors(sinusoid, learned_start(sinusoid, 20, seed), seed)
    rates = held_out_errors(sinusoid, learned_start(sinusoid, 20, seed, rates_only=True), seed)
    assert many[-1] < 0.65 * before[-1]
    assert many[-1] < 0.85 * one[-1]
    assert many[-1] < 0.8 * rates[-1]
    assert many[-1] < 0.6 * many[0], "it is by learning that the error falls"
