"""Operators of the methods with populations: where children may be, and how they are distributed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.bins import cells, unordered
from optimizers.bounds import reflected
from optimizers.population.variation import distinct, polynomial_mutation, sbx_crossover
from optimizers.space import Categorical, Float, Int, Space
from tests.optimizers.problems import MIXED

N = 20_000


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_sbx_keeps_the_mean_and_half_of_the_coordinates() -> None:
    """Children of 0.4 and 0.6: about one half of the coordinates are crossed, evenly around the middle;
    of an unordered one, each child has that of a parent."""
    one, other = np.full((N, 3), 0.4), np.full((N, 3), 0.6)
    child = sbx_crossover(rng(), one, other, 1.0, 15.0, np.array([False, False, True]))
    crossed = child[:, :2] != 0.4
    assert crossed.mean() == pytest.approx(0.5, abs=0.02)
    assert child[:, :2][crossed].mean() == pytest.approx(0.5, abs=0.005)
    assert ((child > 0.2) & (child < 0.8)).mean() > 0.99
    assert set(child[:, 2].tolist()) == {0.4, 0.6}
    assert (child[:, 2] == 0.6).mean() == pytest.approx(0.25, abs=0.02)


def test_sbx_spread_has_its_distribution() -> None:
    """P(spread < 1) = 1/2 and P(spread < b) = b^(eta + 1) / 2 for b < 1 (Deb and Agrawal 1995)."""
    eta = 4.0
    child = sbx_crossover(rng(), np.full((N, 1), 0.45), np.full((N, 1), 0.55), 1.0, eta, np.array([False]))
    spread = np.abs(child[child != 0.45] - 0.5) / 0.05
    for b in (0.6, 0.8, 0.9):
        assert (spread < b).mean() == pytest.approx(b ** (eta + 1) / 2, abs=0.015)
    for b in (1.2, 1.5):
        assert (spread > b).mean() == pytest.approx(b ** -(eta + 1) / 2, abs=0.015)


def test_sbx_without_crossover_copies() -> None:
    one = rng().random((50, 4))
    child = sbx_crossover(rng(2), one, rng(3).random((50, 4)), 0.0, 15.0, np.zeros(4, dtype=np.bool_))
    assert child.tolist() == one.tolist()


def test_polynomial_mutation_has_its_rate_and_its_distribution() -> None:
    """P(step < -s) = (1 - s)^(eta + 1) / 2 (Deb and Goyal 1996); unordered coordinates are uniform."""
    points = np.full((N, 2), 0.5)
    moved = polynomial_mutation(rng(), points, 0.5, 3.0, np.array([False, True]))
    assert (moved != points).mean(axis=0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    steps = moved[:, 0][moved[:, 0] != 0.5] - 0.5
    assert (steps < -0.2).mean() == pytest.approx(0.8**4 / 2, abs=0.015)
    assert (steps > 0.2).mean() == pytest.approx(0.8**4 / 2, abs=0.015)
    anew = moved[:, 1][moved[:, 1] != 0.5]
    assert np.quantile(anew, [0.1, 0.5, 0.9]).tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.02)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.integers(0, 5), st.floats(0, 100))
def test_everything_stays_in_the_cube(values: list[float], seed: int, eta: float) -> None:
    folded = reflected(np.array([values]))
    assert ((folded >= 0) & (folded <= 1)).all()
    none = np.zeros(folded.shape[1], dtype=np.bool_)
    for points in (
        sbx_crossover(rng(seed), folded, 1 - folded, 1.0, eta, none),
        polynomial_mutation(rng(seed), folded, 1.0, eta, none),
    ):
        assert ((points >= 0) & (points <= 1)).all()


def test_reflection() -> None:
    points = np.array([[-0.1, 0.0, 0.3, 1.0, 1.25, 2.5, -1.75]])
    assert reflected(points)[0].tolist() == pytest.approx([0.1, 0.0, 0.3, 1.0, 0.75, 0.5, 0.25])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6))
def test_cells_are_equal_where_the_parameters_are(seed: int) -> None:
    """Of points that differ in one coordinate, a little or altogether."""
    one = rng(seed).random(MIXED.dimension)
    other = one.copy()
    other[rng(seed + 1).integers(MIXED.dimension)] = rng(seed + 2).random()
    first, second = cells(MIXED, np.array([one, other]))
    alike = json.dumps(MIXED.decode(one)) == json.dumps(MIXED.decode(other))
    assert (first.tolist() == second.tolist()) == alike


def test_real_numbers_that_only_differ_in_the_cube_are_alike() -> None:
    """NSGA took a child beside a known individual, one rounding away and the same number, for a new one."""
    space = Space({"x": Float(100.0, 101.0)})
    one = np.array([[0.1]])
    other = np.nextafter(one, 1.0)
    assert space.decode(one[0]) == space.decode(other[0])
    assert cells(space, one).tolist() == cells(space, other).tolist()


def test_distinct_individuals_until_there_are_none_left() -> None:
    space = Space({"n": Int(0, 9), "c": Categorical(["a", "b", "c"])})
    chance = rng()
    known = chance.random((5, 2))
    many = distinct(space, known, 20, lambda k: chance.random((k, 2)), rounds=500)
    keys = {json.dumps(space.decode(point)) for point in [*known, *many]}
    assert len(keys) == len({json.dumps(space.decode(point)) for point in known}) + 20
    assert distinct(space, known, 100, lambda k: chance.random((k, 2))).shape == (100, 2)


def test_unordered_coordinates() -> None:
    space = Space({"x": Float(0, 1, shape=(2,)), "c": Categorical(["a", "b"]), "n": Int(0, 3)})
    assert unordered(space).tolist() == [False, False, True, False]
