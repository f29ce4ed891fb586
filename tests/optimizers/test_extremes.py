"""Losses and options at the ends of their ranges: nothing overflows, divides by zero or becomes NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import optimizers
from optimizers import OptimizerError
from optimizers.base import Evaluated, Observation
from optimizers.local.gradient_descent import GradientDescent
from optimizers.pareto import hypervolume
from optimizers.population.nsga3 import NSGA3
from optimizers.population.success_history import History
from optimizers.space import Float, Int, Space
from tests.optimizers.problems import box, evaluated, fresh, n_objectives, restored

HUGE = float(np.finfo(np.float64).max)
LOSSES = {
    "huge of both signs": [HUGE, -HUGE, HUGE / 3],
    "close to the largest": [HUGE, HUGE],
    "denormal": [5e-324, 0.0, 1e-323],
    "of all sizes": [1e300, 1e-300, -1e-5, 1.0, -1e308],
}


def one(option: str, value: Any) -> dict[str, Any]:
    """One option by name."""
    return {option: value}


@pytest.mark.parametrize("losses", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("name", optimizers.names())
def test_no_loss_is_too_large_or_too_small(name: str, losses: list[float]) -> None:
    """Medians, means over re-evaluations, spreads, gains of such losses, without a floating-point error."""
    reevaluate = {} if n_objectives(name) > 1 else {"reevaluate": 2}
    optimizer = fresh(name, box(3), **reevaluate)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        for _ in range(8):
            asked = optimizer.ask(10) if optimizer.stop_reason() is None else []
            optimizer.tell([evaluated(optimizer, s, losses[s.id % len(losses)]) for s in asked])
            assert all(math.isfinite(value) for value in optimizer.diagnostics().values())
            optimizer = restored(optimizer)


@pytest.mark.parametrize("name", optimizers.names())
def test_options_are_finite(name: str) -> None:
    """An infinite one would pass a bound from below, and no state can hold it."""
    schema = optimizers.get(name).Options.model_json_schema()
    for option, field in schema["properties"].items():
        kinds = {kind.get("type") for kind in field.get("anyOf", [field])}
        if "number" in kinds:
            with pytest.raises(OptimizerError, match=option):
                fresh(name, box(2), **one(option, math.inf))


@pytest.mark.parametrize(
    ("name", "option"),
    [
        *[(name, "sigma") for name in ("cmaes", "evolution_strategy", "snes", "xnes")],
        *[(name, "learning_rate_mean") for name in ("snes", "xnes")],
        *[(name, "learning_rate_sigma") for name in ("snes", "xnes")],
        ("xnes", "learning_rate_shape"),
        ("evolution_strategy", "learning_rate"),
    ],
)
def test_options_outside_of_what_float64_can_follow_are_refused(name: str, option: str) -> None:
    """5e-324 and 1e300 gave NaN; the ends of what is allowed do not."""
    least, most = (1e-9, 1.0) if option == "sigma" else (1e-12, 10.0)
    with pytest.raises(OptimizerError, match=option):
        fresh(name, box(2), **one(option, 5e-324 if option == "sigma" else 1e300))
    for value in (least, most):
        optimizer = fresh(name, box(2), **one(option, value))
        for _ in range(10):
            optimizer.tell([evaluated(optimizer, s, s.params["x"][0]) for s in optimizer.ask(8)])


def test_cmaes_restarts_although_nothing_was_feasible() -> None:
    """Such a run has no median loss: it could neither be saved nor be the one to recommend."""
    optimizer = fresh("cmaes", box(2), sigma=1e-9, population=4)
    for _ in range(300):
        optimizer.tell(
            [
                Evaluated(s.id, None, "infeasible", violation=1 + abs(s.params["x"][0]))
                for s in optimizer.ask(4)
            ]
        )
        if optimizer.diagnostics()["restarts"]:
            break
    assert optimizer.diagnostics()["restarts"] == 1
    assert restored(optimizer).state() == optimizer.state()
    assert optimizer.recommend() is None


@pytest.mark.parametrize("space", [Space({"n": Int(0, 1)}), Space({"n": Int(0, 3), "x": Float(0, 1)})])
def test_map_elites_may_be_asked_for_nothing_but_what_was_observed(space: Space) -> None:
    axis = {"measure": "m", "low": 0.0, "high": 1.0, "bins": 3}
    optimizer = fresh("map_elites", space, start=1, descriptors=[axis])
    optimizer.tell([Evaluated(s.id, (1.0,), measures={"m": np.array([[0.5]])}) for s in optimizer.ask(4)])
    known = [space.decode(np.full(space.dimension, u)) for u in (0.1, 0.9)]
    optimizer.observe([Observation(params, (float(i),)) for i, params in enumerate(known)])
    assert [s.params for s in optimizer.ask(2)] == known


def test_gradient_descent_follows_a_gradient_that_grows_beyond_all_bounds() -> None:
    """The new gradient in units of the first one is infinite, times 0 in the coordinate that has no slope."""
    optimizer = fresh("gradient_descent", box(2), population=5, start="centre")
    assert isinstance(optimizer, GradientDescent)
    for size in (1e-300, 1e300, 1e300):
        optimizer.ask(5)
        optimizer._waiting.clear()
        points = np.array([[0.5, 0.5], [0.4, 0.5], [0.6, 0.5], [0.5, 0.4], [0.5, 0.6]])
        with np.errstate(over="raise", invalid="raise"):
            told = [Evaluated(i, (size * (point[0] - 0.5),)) for i, point in enumerate(points)]
            optimizer._next_generation(optimizer._told_of(told, list(points)))
        assert np.isfinite(optimizer._point).all()
    assert optimizer._point[0] < 0.5


@pytest.mark.parametrize(
    "options",
    [{"gamma": 5e-324}, {"gamma": 1e-20}, {"gamma": 1e308}, {"reduction": 5e-324}],
    ids=["least", "small", "largest", "everything at once"],
)
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_ensemble_kalman_is_solved_with_any_gamma(options: dict[str, Any], scale: float) -> None:
    """The matrix of the outputs is singular; what rounding adds to it must not be divided by."""
    optimizer = fresh("ensemble_kalman", box(3, 1.0), population=8, **options)
    for _ in range(4):
        told = []
        for s in optimizer.ask(8):
            x = np.array(s.params["x"])
            outputs = scale * np.concatenate([x, -x, x, x])[None]
            told.append(
                Evaluated(s.id, (1.0,), measures={"outputs": outputs, "targets": np.zeros_like(outputs)})
            )
        optimizer.tell(told)
    assert restored(optimizer).state() == optimizer.state()
    recommendation = optimizer.recommend()
    assert recommendation is not None
    if options != {"gamma": 1e308} or scale == 1e200:  # else nobody moves
        assert np.abs(recommendation.params["x"]).max() < 0.3


def test_simulated_annealing_bears_a_temperature_of_zero() -> None:
    """The first resampling divided by it."""
    optimizer = fresh("simulated_annealing", box(2), chains=8, temperature=5e-324)
    with np.errstate(divide="raise", invalid="raise"):
        for _ in range(6):
            optimizer.tell([evaluated(optimizer, s, 1e-3 * s.params["x"][0]) for s in optimizer.ask(8)])


def test_gains_in_differential_evolution_may_be_denormal() -> None:
    """Beside one that is no number: it was divided by the largest."""
    history = History()
    history.succeeded(0.5, 0.5, None)
    history.succeeded(0.9, 0.1, 5e-324)
    with np.errstate(over="raise"):
        history.tried(1)
    assert all(math.isfinite(value) for value in history.figures().values())


def test_hypervolumes_too_large_for_a_float_are_infinite() -> None:
    """Neither NaN, where an edge of length 0 meets an infinite one, nor a warning."""
    twice = np.array([[-HUGE, 0.0], [-HUGE, 0.0]])
    with np.errstate(over="raise", invalid="raise"):
        assert hypervolume(twice, np.array([HUGE, 1.0])) == math.inf
        assert hypervolume(np.array([[0.0, 0.0]]), np.array([1e200, 1e200])) == math.inf
        assert hypervolume(np.array([[0.0, 0.0]]), np.array([1e200, 1e-200])) == pytest.approx(1.0)


def test_nsga3_compares_points_far_from_a_narrow_front() -> None:
    """In units of the front their losses are infinite, and their distance from a direction was NaN."""
    optimizer = NSGA3(box(2), 2, {"population": 4}, 1)
    losses = np.array([[0.0, 5e-324], [5e-324, 0.0], [1e300, 1e300], [1e308, 1e307]])
    optimizer.ask(4)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        points = optimizer._normalised(losses, np.arange(4), np.array([0, 1]))
    assert np.isfinite(points).all()
    assert (np.linalg.norm(points, axis=1) < math.inf).all()


def test_designs_bear_very_many_dimensions() -> None:
    """A grid's size has more digits than Python prints; the discrepancy is a product over coordinates."""
    with pytest.raises(OptimizerError, match=r"grid: 10\^6990 individuals"):
        fresh("grid", box(10_000))
    with np.errstate(over="raise", invalid="raise"):
        assert len(fresh("latin_hypercube", box(10_000), samples=8).ask(8)) == 8


def test_ensemble_kalman_solves_for_few_outputs_in_their_space() -> None:
    """With fewer outputs than members the result is that of the full matrices."""
    rng = np.random.Generator(np.random.PCG64(3))
    matrix, members = rng.standard_normal((2, 3)), 40
    optimizer = fresh("ensemble_kalman", box(3, 1.0), population=members, gamma=0.5, noise=0.0)
    asked = optimizer.ask(members)
    u = np.array([s.params["x"] for s in asked])
    p = u @ matrix.T
    optimizer.tell(
        [
            Evaluated(s.id, (1.0,), measures={"outputs": row[None], "targets": np.zeros((1, 2))})
            for s, row in zip(asked, p, strict=True)
        ]
    )
    du, dp = u - u.mean(axis=0), p - p.mean(axis=0)
    gain = (du.T @ dp / members) @ np.linalg.inv(dp.T @ dp / members + 0.5 * np.eye(2))
    wanted = np.clip(u - p @ gain.T, -1.0, 1.0)
    found = np.array([s.params["x"] for s in optimizer.ask(members)])
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_genetic_refuses_tournaments_and_blends_that_no_computer_bears() -> None:
    """A tournament of 2^31 took all memory, a blend of 1e308 gave NaN; the ends of what is allowed do not."""
    for option, most in (("tournament", 1000), ("blend", 100.0)):
        with pytest.raises(OptimizerError, match=option):
            fresh("genetic", box(3), **one(option, most * 2))
        optimizer = fresh("genetic", box(3), **one(option, most))
        with np.errstate(over="raise", invalid="raise"):
            for _ in range(3):
                optimizer.tell([evaluated(optimizer, s, s.params["x"][0]) for s in optimizer.ask(8)])
