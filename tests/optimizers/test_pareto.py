"""Dominance, crowding, hypervolume and the archive, against slow definitions and known values."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from optimizers.individuals import FloatArray
from optimizers.pareto import (
    CAPACITY,
    Front,
    crowding_distance,
    dominates,
    hypervolume,
    nondominated,
    nondominated_ranks,
    thin,
)

# Whole numbers from a small range: many ties and duplicates.
losses_with_ties = st.integers(1, 5).flatmap(
    lambda m: arrays(np.float64, st.tuples(st.integers(0, 30), st.just(m)), elements=st.integers(0, 5))
)
examples = settings(max_examples=150, deadline=None)


def better(one: FloatArray, other: FloatArray) -> bool:
    """The definition of dominance, for one pair."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(
        a < b for a, b in zip(one, other, strict=True)
    )


def sphere_front(n: int, objectives: int, seed: int = 1) -> FloatArray:
    """Points on the sphere: nobody dominates another."""
    points = np.abs(np.random.Generator(np.random.PCG64(seed)).standard_normal((n, objectives)))
    norms: FloatArray = np.linalg.norm(points, axis=1)[:, None]
    on_the_sphere: FloatArray = points / norms
    return on_the_sphere


@examples
@given(losses_with_ties)
def test_dominance_of_all_pairs(losses: FloatArray) -> None:
    expected = [[better(a, b) for b in losses] for a in losses]
    assert dominates(losses, losses).tolist() == expected


@examples
@given(losses_with_ties)
def test_ranks_are_one_more_than_the_worst_dominator(losses: FloatArray) -> None:
    """That is what peeling off fronts amounts to; those of rank 0 are the nondominated ones."""
    ranks = nondominated_ranks(losses)
    for i, row in enumerate(losses):
        above = [ranks[j] for j, other in enumerate(losses) if better(other, row)]
        assert ranks[i] == max(above, default=-1) + 1
    assert nondominated(losses).tolist() == (ranks == 0).tolist()


@pytest.mark.parametrize("objectives", [2, 3])
def test_ranks_across_blocks(objectives: int) -> None:
    """More rows than fit into one block of pairs."""
    losses = np.random.Generator(np.random.PCG64(1)).random((1500, objectives))
    ranks = nondominated_ranks(losses)
    pairs = dominates(losses, losses)
    assert ranks.tolist() == [int(ranks[above].max(initial=-1)) + 1 for above in pairs.T]
    assert nondominated(losses).tolist() == (~pairs.any(axis=0)).tolist()


def test_crowding_distance_by_hand() -> None:
    losses = np.array([[0.0, 10.0], [1.0, 6.0], [4.0, 5.0], [10.0, 0.0]])
    assert crowding_distance(losses).tolist() == pytest.approx([math.inf, 0.4 + 0.5, 0.9 + 0.6, math.inf])
    assert crowding_distance(losses[:0]).tolist() == []


def test_crowding_distance_of_huge_and_of_equal_losses() -> None:
    """No difference overflows, and no span of zero divides."""
    huge = np.array([[-1.7e308, 1.7e308], [0.0, 0.0], [1.7e308, -1.7e308]])
    with np.errstate(all="raise"):
        assert crowding_distance(huge).tolist() == pytest.approx([math.inf, 2.0, math.inf])
        assert crowding_distance(np.zeros((4, 2)))[1:3].tolist() == [0.0, 0.0]


@examples
@given(losses_with_ties, st.integers(0, 31))
def test_thinning_takes_the_most_crowded_one_by_one(losses: FloatArray, size: int) -> None:
    """Against the definition: distances computed anew after each; only ties may be broken in another way."""
    kept = thin(losses, size)
    assert len(kept) == min(size, len(losses))
    assert kept.tolist() == sorted(set(kept.tolist()))


@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("size", [0, 1, 5, 20, 39])
def test_thinning_equals_its_definition(objectives: int, size: int) -> None:
    losses = sphere_front(40, objectives)
    rows = np.arange(len(losses))
    while len(rows) > size:
        rows = np.delete(rows, int(np.argmin(crowding_distance(losses[rows]))))
    assert thin(losses, size).tolist() == rows.tolist()


def test_thinning_leaves_no_holes() -> None:
    """Of a dense and a thin half of a line, the same gaps remain everywhere: less than twice the mean."""
    x = np.concatenate([np.linspace(0, 0.1, 900), np.linspace(0.1, 1, 100)])
    kept = thin(np.stack([x, 1 - x], axis=1), 50)
    assert np.diff(x[kept]).max() < 2 / 50
    assert {0, len(x) - 1} <= set(kept.tolist())


@pytest.mark.parametrize(
    ("losses", "reference", "volume"),
    [
        ([[0.25]], [1.0], 0.75),
        ([[0.0, 0.0]], [2.0, 3.0], 6.0),
        ([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]], [4.0, 4.0], 6.0),
        ([[1.0, 3.0], [1.0, 3.0], [3.5, 3.5]], [4.0, 4.0], 3.0),
        ([[0.0, 5.0], [5.0, 0.0]], [5.0, 5.0], 0.0),
        ([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [2.0, 2.0, 2.0], 7.0),
        ([[0.5] * 5], [1.0] * 5, 1 / 32),
    ],
)
def test_hypervolume_by_hand(losses: list[list[float]], reference: list[float], volume: float) -> None:
    assert hypervolume(np.array(losses), np.array(reference)) == pytest.approx(volume, abs=1e-12)


@examples
@given(losses_with_ties)
def test_hypervolume_of_whole_numbers_counts_unit_cubes(losses: FloatArray) -> None:
    objectives = losses.shape[1]
    corners = np.array(list(itertools.product(range(4), repeat=objectives)), dtype=np.float64)
    covered = (losses[:, None, :] <= corners[None]).all(axis=2).any(axis=0)
    assert hypervolume(losses, np.full(objectives, 4.0)) == pytest.approx(covered.sum())


@pytest.mark.parametrize("objectives", [2, 3, 4, 5])
def test_hypervolume_against_monte_carlo(objectives: int) -> None:
    losses = sphere_front(30, objectives)
    points = np.random.Generator(np.random.PCG64(2)).random((40_000, objectives))
    share = np.zeros(len(points), dtype=np.bool_)
    for row in losses:
        share |= (points >= row).all(axis=1)
    error = 4 * math.sqrt(share.mean() * (1 - share.mean()) / len(points))
    assert hypervolume(losses, np.ones(objectives)) == pytest.approx(share.mean(), abs=error)


def test_hypervolume_of_a_known_front() -> None:
    """Half of the front f2 = 1 - f1 for the limit; the error of n points is 1 / (2 (n - 1))."""
    x = np.linspace(0, 1, 1001)
    assert hypervolume(np.stack([x, 1 - x], axis=1), np.ones(2)) == pytest.approx(0.5 - 0.0005, abs=1e-9)


def test_the_archive_keeps_what_nobody_dominates() -> None:
    front = Front(1, 2)
    chance = np.random.Generator(np.random.PCG64(3))
    losses = chance.integers(0, 30, (300, 2)).astype(np.float64)
    losses[5] = np.inf
    for first in range(0, 300, 20):
        rows = np.arange(first, first + 20)
        front.admit(rows, rows[:, None].astype(np.float64), losses[rows])
    expected = [i for i in range(300) if not dominates(losses, losses[i][None]).any() and i != 5]
    assert front.ids.tolist() == expected
    assert front.genomes[:, 0].tolist() == expected
    assert front.losses.tolist() == losses[expected].tolist()


def test_the_archive_is_bounded_and_keeps_the_ends() -> None:
    x = np.random.Generator(np.random.PCG64(4)).permutation(np.linspace(0, 1, 3000))
    front = Front(1, 2)
    front.admit(np.arange(3000), x[:, None], np.stack([x, 1 - x], axis=1))
    assert len(front.ids) == CAPACITY
    assert front.ids.tolist() == sorted(front.ids.tolist())
    assert {0.0, 1.0} <= set(front.losses[:, 0].tolist())
    assert np.diff(np.sort(front.losses[:, 0])).max() < 3 / CAPACITY
