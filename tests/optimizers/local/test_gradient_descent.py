"""Gradient descent: the estimate, the update rules, failures, bounds."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizers.base import Evaluated, Observation
from optimizers.local.gradient_descent import GradientDescent, Update, slope
from optimizers.space import Float, Space
from tests.optimizers.problems import box, fresh, minimise, restored, sphere

CUBE = Space({"x": Float(0.0, 1.0, shape=(4,))})
NORMAL = np.array([3.0, -1.0, 0.5, 0.0])


def nobody(individual: int) -> bool:  # noqa: ARG001
    return False


def step(optimizer: Any, batch: int, factor: float = 1.0, fails: Any = nobody) -> list[Any]:
    """One generation on a plane of the slope NORMAL."""
    asked = optimizer.ask(batch)
    optimizer.tell(
        [
            Evaluated(s.id, None, "failed")
            if fails(s.id)
            else Evaluated(s.id, (factor * float(NORMAL @ s.params["x"]),))
            for s in asked
        ]
    )
    return [s.params["x"] for s in asked]


@given(st.integers(2, 12), st.integers(0, 1000))
def test_the_slope_of_a_plane_is_found(d: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    points, normal = chance.random((6 * d, d)), chance.standard_normal(d)
    found, scale = slope(points, points @ normal + 5)
    assert found * scale == pytest.approx(normal, abs=1e-8)


def test_antithetic_pairs_cancel_curvature() -> None:
    """The gradient of a quadratic is exact, however wide the samples are."""
    chance = np.random.default_rng(1)
    steps, matrix = chance.standard_normal((10, 3)), chance.standard_normal((3, 3))
    points = np.concatenate([np.ones((1, 3)), 1 + steps, 1 - steps])
    losses = np.einsum("ni,ij,nj->n", points, matrix, points)
    found, scale = slope(points, losses)
    assert found * scale == pytest.approx((matrix + matrix.T) @ np.ones(3), abs=1e-8)


def test_too_few_samples_give_the_least_slope() -> None:
    """Within the plane of the samples as it is, across it none."""
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    found, scale = slope(points, np.array([0.0, 2.0, 3.0]))
    assert found * scale == pytest.approx([2, 3, 0])
    assert slope(points[:1], np.array([4.0]))[0].tolist() == [0, 0, 0]
    assert slope(points[:0], np.empty(0))[0].tolist() == [0, 0, 0]


def test_a_generation_is_the_point_and_pairs_around_it() -> None:
    optimizer = fresh("gradient_descent", CUBE, start="centre", population=7)
    asked = np.array([s.params["x"] for n in (2, 1, 4) for s in optimizer.ask(n)])
    assert (asked[0] == 0.5).all()
    assert asked[1::2] + asked[2::2] == pytest.approx(np.ones((3, 4)))
    assert (asked[1:] != 0.5).all()


@pytest.mark.parametrize(
    ("update", "first"),
    [
        ("classic", NORMAL / np.linalg.norm(NORMAL) * 2),
        ("momentum", NORMAL / np.linalg.norm(NORMAL) * 2),
        ("rmsprop", np.sign(NORMAL)),
        ("adam", np.sign(NORMAL)),
        ("adamax", np.sign(NORMAL)),
    ],
)
def test_the_first_step_is_as_long_as_the_learning_rate(update: str, first: Any) -> None:
    """Root mean square over the coordinates for the first two, every coordinate for the others."""
    optimizer = fresh("gradient_descent", CUBE, start="centre", update=update, learning_rate=0.02)
    step(optimizer, 21)
    moved = (np.array(step(optimizer, 21)[0]) - 0.5)[:3]  # the last coordinate's slope is rounding
    assert moved == pytest.approx(-0.02 * first[:3], abs=1e-6)


def test_adam_is_adam() -> None:
    """Against the formulas of the paper, over some steps on a quadratic."""
    optimizer = fresh("gradient_descent", CUBE, start="centre", update="adam", learning_rate=0.02, decay=0.9)
    target = np.array([0.3, 0.9, 0.52, 0.1])
    x, m, v = np.full(4, 0.5), np.zeros(4), np.zeros(4)
    for t in range(1, 8):
        asked = optimizer.ask(21)
        assert asked[0].params["x"] == pytest.approx(x, abs=1e-7)
        told = [Evaluated(s.id, (float(((s.params["x"] - target) ** 2).sum()),)) for s in asked]
        optimizer.tell(told)
        g = 2 * (x - target)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - 0.02 * 0.9 ** (t - 1) * (m / (1 - 0.9**t)) / np.sqrt(v / (1 - 0.999**t))


@pytest.mark.parametrize("update", get_args(Update))
def test_the_scale_of_the_loss_does_not_matter(update: str) -> None:
    """A power of two as a factor changes no individual; nor do losses near the ends of float64 break it."""
    asked = []
    for factor in (1.0, 2.0**60, 2.0**-60):
        optimizer = fresh("gradient_descent", CUBE, update=update)
        asked.append([step(optimizer, 9, factor) for _ in range(6)])
    assert asked[0] == asked[1] == asked[2]
    for factor in (1e307, 1e-307):
        optimizer = fresh("gradient_descent", CUBE, update=update)
        with np.errstate(all="raise", under="ignore"):
            for _ in range(4):
                step(optimizer, 9, factor)


@pytest.mark.parametrize(("dimension", "batch"), [(20, 32), (10, 16), (100, 32)])
def test_fewer_pairs_than_dimensions_still_descend(dimension: int, batch: int) -> None:
    """The last sample of an even batch has no counterpart; in its direction and in those of the rounding, the
    curvature once passed for a slope so steep that every later step was next to nothing."""
    optimizer = fresh("gradient_descent", box(dimension), seed=3, start="random")
    before = minimise(optimizer, sphere, batch, batch)
    after = minimise(optimizer, sphere, 150 * batch, batch)
    assert after < 0.01 * before


def test_failed_samples_are_left_out() -> None:
    """On a plane, any half of the samples tells the same slope."""
    whole, half = (fresh("gradient_descent", CUBE, start="centre", population=21) for _ in range(2))
    step(whole, 21)
    step(half, 21, fails=lambda i: i % 2 == 0)
    assert step(whole, 1)[0][:3] == pytest.approx(step(half, 1)[0][:3], abs=1e-6)


def test_nothing_moves_when_all_fail_or_all_are_equal() -> None:
    for loss in (None, 1.0):
        optimizer = fresh("gradient_descent", CUBE, population=5)
        for _ in range(3):
            asked = optimizer.ask(5)
            assert asked[0].params["x"] == [0.5] * 4
            optimizer.tell(
                [Evaluated(s.id, None, "failed") if loss is None else Evaluated(s.id, (loss,)) for s in asked]
            )


def test_the_point_stops_at_the_bounds() -> None:
    optimizer = fresh("gradient_descent", CUBE, learning_rate=0.3, decay=1.0)
    for _ in range(10):
        last = step(optimizer, 21)[0]
    assert last[:3] == [0.0, 1.0, 0.0]


def test_it_starts_at_the_best_observed_individual() -> None:
    optimizer = fresh("gradient_descent", CUBE)
    optimizer.observe([Observation({"x": [i / 10] * 4}, (abs(i - 3.0),)) for i in range(10)])
    optimizer = restored(optimizer)
    optimizer.observe([Observation({"x": [0.9] * 4}, (2.0,))])  # worse than what is known
    assert optimizer.ask(5)[0].params["x"] == [0.3] * 4


@pytest.mark.parametrize("update", get_args(Update))
def test_every_rule_descends(update: str) -> None:
    """A sphere in ten dimensions, 1000 evaluations: random samples reach about 35."""
    runs = [
        minimise(fresh("gradient_descent", box(10), seed, update=update, start="random"), sphere, 1000, 20)
        for seed in range(3)
    ]
    assert np.median(runs) < 0.5


def test_the_class_is_the_registered_one() -> None:
    assert isinstance(fresh("gradient_descent"), GradientDescent)
