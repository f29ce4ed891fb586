"""Strategies that move a Gaussian: one step written out, invariances, mirrored samples, failures, quality."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from optimizers import OptimizerError, state
from optimizers.base import Evaluated, FloatArray, Observation, Optimizer
from optimizers.evolution.gaussian_search import natural_utilities
from optimizers.space import Float, Int, Space
from tests.optimizers.problems import Loss, box, ellipsoid, fresh, minimise, restored, rosenbrock, sphere

NAMES = ["evolution_strategy", "snes", "xnes"]


def members(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's own arrays and scalars."""
    meta, arrays = state.load(optimizer.state())
    return {**meta["own"], **{k.removeprefix("own."): a for k, a in arrays.items() if k.startswith("own.")}}


def generation(optimizer: Optimizer, n: int, loss: Loss) -> tuple[FloatArray, FloatArray]:
    """Points asked in the unit cube and their losses; all are told."""
    asked = optimizer.ask(n)
    points = np.array([optimizer.space.encode(s.params) for s in asked])
    losses = np.array([loss(np.array(s.params["x"])) for s in asked])
    optimizer.tell([Evaluated(s.id, (value,)) for s, value in zip(asked, losses.tolist(), strict=True)])
    return points, losses


@given(st.integers(2, 200))
def test_utilities_sum_to_zero_and_fall(n: int) -> None:
    utilities = natural_utilities(n)
    assert utilities.sum() == pytest.approx(0, abs=1e-12)
    assert (np.diff(utilities) <= 1e-12).all()
    assert utilities[0] > 0 > utilities[-1]


def test_one_step_of_snes_is_that_of_the_paper() -> None:
    optimizer = fresh("snes", box(3), sigma=0.05)  # so narrow that no sample meets a bound
    points, losses = generation(optimizer, 10, sphere)
    z = ((points - 0.5) / 0.05)[np.argsort(losses)]
    u, eta = natural_utilities(10), (3 + math.log(3)) / (5 * math.sqrt(3))
    own = members(optimizer)
    np.testing.assert_allclose(own["mean"], 0.5 + 0.05 * (u @ z), rtol=1e-9)
    np.testing.assert_allclose(own["stds"], 0.05 * np.exp(eta / 2 * (u @ (z**2 - 1))), rtol=1e-9)


def test_one_step_of_xnes_is_that_of_the_paper() -> None:
    optimizer = fresh("xnes", box(3), sigma=0.05, learning_rate_sigma=0.2, learning_rate_shape=0.1)
    points, losses = generation(optimizer, 10, sphere)
    z = ((points - 0.5) / 0.05)[np.argsort(losses)]
    u = natural_utilities(10)
    gradient = sum(
        (weight * (np.outer(s, s) - np.eye(3)) for weight, s in zip(u, z, strict=True)), np.zeros((3, 3))
    )
    sigma = np.trace(gradient) / 3
    root = 0.05 * math.exp(0.1 * sigma) * expm(0.05 * (gradient - sigma * np.eye(3)))
    own = members(optimizer)
    np.testing.assert_allclose(own["mean"], 0.5 + 0.05 * (u @ z), rtol=1e-9)
    np.testing.assert_allclose(own["root"], root, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_only_ranks_count(name: str) -> None:
    """A monotone transformation of the losses changes nothing, to the bit."""
    one, two = fresh(name, box(4)), fresh(name, box(4))
    for _ in range(8):
        np.testing.assert_array_equal(
            generation(one, 9, sphere)[0], generation(two, 9, lambda x: math.log(sphere(x)) ** 3)[0]
        )


@pytest.mark.parametrize("name", NAMES)
def test_a_plateau_moves_nothing_and_failures_repel(name: str) -> None:
    for population in range(4, 40):
        optimizer = fresh(name, box(2))
        generation(optimizer, population, lambda _: 1.0)
        np.testing.assert_allclose(members(optimizer)["mean"], [0.5, 0.5], atol=1e-12)
    optimizer = fresh(name, box(2), population=12)
    for _ in range(3):
        asked = optimizer.ask(12)
        optimizer.tell(
            [
                Evaluated(s.id, (1.0,)) if s.params["x"][0] < 0 else Evaluated(s.id, None, "failed")
                for s in asked
            ]
        )
    assert members(optimizer)["mean"][0] < 0.45


@pytest.mark.parametrize("name", NAMES)
def test_infeasible_individuals_lead_to_the_feasible_region(name: str) -> None:
    """Nobody is feasible at first; the violation alone shows the way."""
    optimizer = fresh(name, box(2), sigma=0.1)
    for _ in range(30):
        told = []
        for s in optimizer.ask(12):
            violation = 3 - s.params["x"][0]
            ok = violation <= 0
            told.append(
                Evaluated(s.id, (sphere(np.array(s.params["x"])),))
                if ok
                else Evaluated(s.id, None, "infeasible", violation=violation)
            )
        optimizer.tell(told)
    best = optimizer.best()
    assert best is not None
    assert best.losses[0] < 7.29 + 1.0  # 2.7^2 on the border


@pytest.mark.parametrize("name", NAMES)
def test_generations_are_lambda_told_and_late_ones_are_limited(name: str) -> None:
    optimizer = fresh(name, box(3), population=10, sigma=0.1)
    late = optimizer.ask(1)
    for told, count, waiting in [(4, 0, 4), (4, 0, 8), (4, 1, 2), (21, 3, 3), (7, 4, 0)]:
        generation(optimizer, told, sphere)
        optimizer = restored(optimizer)
        figures = optimizer.diagnostics()
        assert (figures["model_generation"], figures["waiting"]) == (count, waiting)
    for _ in range(40):
        generation(optimizer, 10, sphere)
    before, width = members(optimizer)["mean"], optimizer.diagnostics()["std_max"]
    optimizer.tell([Evaluated(late[0].id, (-1.0,))])  # many standard deviations away by now
    generation(optimizer, 9, sphere)
    assert float(np.abs(members(optimizer)["mean"] - before).max()) < 6 * width


def test_samples_are_mirrored_whatever_the_batches() -> None:
    """Pairs opposite to each other, also across asks and a restore; without the option, none."""
    optimizer = fresh("evolution_strategy", box(3))
    points: list[FloatArray] = []
    for n in (1, 2, 3, 1, 4, 1):
        points += [optimizer.space.encode(s.params) - 0.5 for s in optimizer.ask(n)]
        optimizer = restored(optimizer)
    np.testing.assert_allclose(points[::2], -np.array(points[1::2]), atol=1e-12)
    plain = fresh("evolution_strategy", box(3), mirrored=False)
    first, second = (plain.space.encode(s.params) - 0.5 for s in plain.ask(2))
    assert np.abs(first + second).max() > 1e-3


def test_step_size_stays_where_it_shall_not_be_adapted() -> None:
    fixed, adapted = (fresh("evolution_strategy", box(3), adapt_sigma=a) for a in (False, True))
    for optimizer in (fixed, adapted):
        for _ in range(40):
            generation(optimizer, 10, sphere)
    assert fixed.diagnostics()["sigma"] == 0.1
    assert adapted.diagnostics()["sigma"] < 1e-3


@pytest.mark.parametrize("update", ["plain", "momentum", "adam"])
@pytest.mark.parametrize("shaping", ["log_ranks", "centred_ranks", "losses"])
def test_every_variant_of_the_evolution_strategy_converges(update: str, shaping: str) -> None:
    """Random search reaches about 1 within as many evaluations."""
    optimizer = fresh("evolution_strategy", box(5), update=update, shaping=shaping)
    assert minimise(optimizer, sphere, 1600, 16) < 0.01


def test_huge_losses_are_weighed_without_overflow() -> None:
    optimizer = fresh("evolution_strategy", box(2), shaping="losses")
    for _ in range(3):
        generation(optimizer, 8, lambda x: 1.7e308 * math.tanh(float(x[0])))
    assert np.isfinite(members(optimizer)["mean"]).all()


@pytest.mark.parametrize("name", NAMES)
def test_whole_numbers_do_not_freeze(name: str) -> None:
    """A distribution that has converged in a real parameter still leaves the bin of a whole one."""
    optimizer = fresh(name, Space({"x": Float(-1, 1), "n": Int(0, 100)}))
    for _ in range(80):
        asked = optimizer.ask(12)
        optimizer.tell([Evaluated(s.id, (s.params["x"] ** 2 + (s.params["n"] - 77) ** 2,)) for s in asked])
    assert len({s.params["n"] for s in optimizer.ask(60)}) > 1
    best = optimizer.best()
    assert best is not None
    assert best.params["n"] == 77


@pytest.mark.parametrize("name", NAMES)
def test_the_search_begins_at_the_best_observation(name: str) -> None:
    optimizer = fresh(name, box(2), sigma=1e-6)
    optimizer.observe([Observation({"x": [3.0, -2.0]}, (1.0,)), Observation({"x": [0.0, 0.0]}, (2.0,))])
    optimizer = restored(optimizer)
    optimizer.observe([Observation({"x": [1.0, 1.0]}, (1.5,))])  # worse than what is known
    assert optimizer.ask(1)[0].params["x"] == pytest.approx([3.0, -2.0], abs=1e-3)


def test_xnes_refuses_what_it_has_no_room_for() -> None:
    with pytest.raises(OptimizerError, match=r"at most 1000 dimensions, got 1001\. Use snes"):
        fresh("xnes", box(1001))


@pytest.mark.parametrize("name", ["evolution_strategy", "snes"])
def test_state_is_linear_in_the_dimension(name: str) -> None:
    """A square matrix over 20,000 parameters would have 3.2 GB."""
    optimizer = fresh(name, box(20_000))
    generation(optimizer, 4, sphere)
    assert len(optimizer.state()) < 20_000 * 8 * 10


@pytest.mark.parametrize(
    ("name", "loss", "decades"),
    [
        ("evolution_strategy", sphere, 3.0),
        ("evolution_strategy", rosenbrock, 1.5),
        ("snes", sphere, 3.0),
        ("snes", ellipsoid, 1.5),
        ("xnes", sphere, 3.0),
        ("xnes", ellipsoid, 0.5),
    ],
)
def test_better_than_random(name: str, loss: Loss, decades: float) -> None:
    """In 10 dimensions within 1500 evaluations, by so many decades."""
    found, random = (math.log10(minimise(fresh(who, box(10)), loss, 1500, 20)) for who in (name, "random"))
    assert found <= random - decades
