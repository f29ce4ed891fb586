"""NSGA-II and NSGA-III: survival under constraints, spread, directions, and quality in a steady state."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optimizers
from optimizers import OptimizerError
from optimizers.base import Evaluated, Optimizer
from optimizers.individuals import FloatArray
from optimizers.pareto import hypervolume
from optimizers.population.nsga3 import das_dennis, fill_niches, intercepts, nearest, reference_points
from optimizers.space import Float, Space
from tests.optimizers.problems import arrays_of

Losses = Callable[[FloatArray], tuple[float, ...]]
BOTH = pytest.mark.parametrize("name", ["nsga2", "nsga3"])


def zdt1(x: FloatArray) -> tuple[float, ...]:
    """Front: f2 = 1 - sqrt(f1); its hypervolume below (1.1, 1.1) is 0.8767."""
    g = 1 + 9 * float(x[1:].mean())
    return float(x[0]), g * (1 - math.sqrt(x[0] / g))


def dtlz2(x: FloatArray, objectives: int = 3, scale: float = 1.0) -> tuple[float, ...]:
    """Front: the part of the unit sphere in the positive orthant; the last objective times `scale`."""
    g = 1 + float(((x[objectives - 1 :] - 0.5) ** 2).sum())
    angles = x[: objectives - 1] * math.pi / 2
    losses = []
    for i in range(objectives):
        value = g * float(np.prod(np.cos(angles[: objectives - 1 - i])))
        losses.append(value if i == 0 else value * math.sin(angles[objectives - 1 - i]))
    return (*losses[:-1], losses[-1] * scale)


def make(name: str, dimension: int, objectives: int, seed: int = 1, **options: object) -> Optimizer:
    space = Space({"x": Float(0.0, 1.0, shape=(dimension,))})
    return optimizers.get(name)(space, objectives, options, seed)


def search(optimizer: Optimizer, losses: Losses, budget: int, batch: int, lag: int = 0) -> FloatArray:
    """Spend the budget, `lag` always in flight; the losses of the front."""
    waiting = optimizer.ask(lag) if lag else []
    for _ in range((budget - lag) // batch):
        waiting = optimizer.ask(batch) + waiting
        now, waiting = waiting[-batch:], waiting[:-batch]
        optimizer.tell([Evaluated(s.id, losses(np.array(s.params["x"]))) for s in now])
    return np.array([b.losses for b in optimizer.pareto_front()])


@BOTH
@pytest.mark.parametrize(("batch", "lag"), [(40, 0), (4, 36)])
def test_the_front_is_found_in_generations_and_in_steady_state(name: str, batch: int, lag: int) -> None:
    """ZDT1 in 10-D, 2000 evaluations: random search reaches a hypervolume of 0.0."""
    reference = np.array([1.1, 1.1])
    found = search(make(name, 10, 2, population=40), zdt1, 2000, batch, lag)
    assert hypervolume(found, reference) > 0.75
    assert hypervolume(search(make("random", 10, 2), zdt1, 2000, 40), reference) < 0.1


@BOTH
def test_the_population_is_the_best_by_constrained_dominance(name: str) -> None:
    """Feasible ones first, then those with the least violation; failed ones only while there is room."""
    optimizer = make(name, 3, 2, population=6)
    told = [
        Evaluated(0, None, "failed"),
        Evaluated(1, None, "infeasible", violation=2.0),
        Evaluated(2, (5.0, 5.0)),
        Evaluated(3, None, "infeasible", violation=1.0),
        Evaluated(4, (4.0, 4.0)),
        Evaluated(5, None, "infeasible"),
    ]
    optimizer.ask(12)
    optimizer.tell(told)
    assert arrays_of(optimizer)["ids"].tolist() == [4, 2, 3, 1, 0, 5]
    optimizer.tell([Evaluated(6, (1.0, 9.0)), Evaluated(7, (9.0, 1.0)), Evaluated(8, (9.0, 9.0))])
    assert arrays_of(optimizer)["ids"].tolist() == [4, 6, 7, 2, 8, 3]
    assert [b.individual for b in optimizer.pareto_front()] == [4, 6, 7]
    assert optimizer.diagnostics()["feasible"] == 5


@BOTH
def test_failures_are_no_parents(name: str) -> None:
    """With two feasible parents and hardly a mutation, children are between them or a little outside."""
    optimizer = make(name, 4, 2, population=5, mutation_rate=1e-12, crossover=1.0)
    asked = optimizer.ask(5)
    told = [Evaluated(s.id, None, "failed") for s in asked[:3]]
    told += [Evaluated(3, (0.0, 1.0)), Evaluated(4, (1.0, 0.0))]
    optimizer.tell(told)
    parents = np.array([s.params["x"] for s in asked[3:]])
    low, high = parents.min(axis=0), parents.max(axis=0)
    children = np.array([s.params["x"] for s in optimizer.ask(40)])
    between = (children > low - 0.5 * (high - low)) & (children < high + 0.5 * (high - low))
    assert between.mean() > 0.95


def test_nsga2_keeps_the_ends_and_even_gaps() -> None:
    optimizer = make("nsga2", 2, 2, population=20)
    x = np.random.Generator(np.random.PCG64(2)).permutation(np.linspace(0, 1, 400) ** 3)
    optimizer.ask(20)
    optimizer.ask(380)
    optimizer.tell([Evaluated(i, (float(v), float(1 - v))) for i, v in enumerate(x)])
    kept = np.sort(arrays_of(optimizer)["losses"][:, 0])
    assert (kept[0], kept[-1]) == (0.0, 1.0)
    assert np.diff(kept).max() < 2 / 20


def test_nsga2_prefers_lonely_parents() -> None:
    """All are on one front: the ends, infinitely lonely, are parents more often than the crowded middle."""
    optimizer = make("nsga2", 1, 2, population=10, crossover=0.0, mutation_rate=1e-12)
    optimizer.ask(10)
    x = [0.0, 0.45, 0.48, 0.49, 0.5, 0.51, 0.52, 0.53, 0.55, 1.0]
    optimizer.tell([Evaluated(i, (v, 1 - v)) for i, v in enumerate(x)])
    parents = optimizer._parents(4000, 10)  # type: ignore[attr-defined]
    shares = np.bincount(parents, minlength=10) / 4000
    assert shares[[0, 9]].min() > 0.15
    assert shares[4] < 0.1


@BOTH
def test_the_hypervolume_is_reported_where_a_reference_is_given(name: str) -> None:
    optimizer = make(name, 2, 2, reference=[4.0, 4.0])
    optimizer.ask(4)
    optimizer.tell([Evaluated(i, losses) for i, losses in enumerate([(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)])])
    assert optimizer.diagnostics()["hypervolume"] == 6.0
    assert "hypervolume" not in make(name, 2, 2).diagnostics()
    with pytest.raises(OptimizerError, match="reference has 2 losses, the optimizee has 3"):
        make(name, 2, 3, reference=[4.0, 4.0])


@pytest.mark.parametrize(("objectives", "divisions"), [(2, 5), (3, 12), (5, 6), (3, 1)])
def test_das_dennis_points(objectives: int, divisions: int) -> None:
    """All multiples of 1 / divisions that sum to one, each once."""
    points = das_dennis(objectives, divisions)
    assert len(points) == math.comb(objectives + divisions - 1, objectives - 1)
    assert len(np.unique(points, axis=0)) == len(points)
    assert points.sum(axis=1).tolist() == pytest.approx([1.0] * len(points))
    assert (points * divisions).tolist() == np.round(points * divisions).tolist()
    assert points.min() >= 0


@pytest.mark.parametrize(
    ("objectives", "population", "number"),
    [(3, 92, 91), (5, 212, 210), (8, 156, 156), (10, 276, 275), (2, 100, 100), (15, 136, 135), (4, 4, 4)],
)
def test_numbers_of_directions_are_those_of_the_paper(objectives: int, population: int, number: int) -> None:
    """Deb and Jain 2014, table I; with 8 objectives and more, two layers."""
    assert len(reference_points(objectives, population, None)) == number


def test_the_inner_layer_is_inside_the_simplex() -> None:
    points = reference_points(8, 156, None)
    assert points.sum(axis=1).tolist() == pytest.approx([1.0] * 156)
    assert int((points.min(axis=1) > 1 / 17).sum()) == 36


def test_too_many_directions_are_refused() -> None:
    with pytest.raises(OptimizerError, match="directions; at most"):
        make("nsga3", 2, 10, divisions=20)
    assert make("nsga3", 2, 3, divisions=4).diagnostics()["directions"] == 0
    optimizer = make("nsga3", 2, 3, divisions=4)
    optimizer.ask(10)
    assert optimizer.diagnostics()["directions"] == 15


def slow_niching(
    rng: np.random.Generator, niche: list[int], distance: list[float], crowd: list[int], room: int
) -> list[int]:
    """Algorithm 4 of the paper, word by word."""
    crowd, left = list(crowd), list(range(len(niche)))
    chosen: list[int] = []
    while len(chosen) < room:
        open_niches = sorted({niche[i] for i in left})
        least = min(crowd[j] for j in open_niches)
        j = int(rng.choice([j for j in open_niches if crowd[j] == least]))
        members = [i for i in left if niche[i] == j]
        pick = min(members, key=lambda i: distance[i]) if crowd[j] == 0 else int(rng.choice(members))
        chosen.append(pick)
        left.remove(pick)
        crowd[j] += 1
    return chosen


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_niching_is_that_of_the_paper(data: st.DataObject) -> None:
    """As many from niches of each size, and the nearest of each empty niche that is served."""
    niche = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=25))
    crowd = data.draw(st.lists(st.integers(0, 4), min_size=6, max_size=6))
    room = data.draw(st.integers(0, len(niche)))
    rng = np.random.Generator(np.random.PCG64(data.draw(st.integers(0, 1000))))
    distance = rng.random(len(niche))
    fast = fill_niches(rng, np.array(niche), distance, np.array(crowd), room).tolist()
    slow = slow_niching(rng, niche, distance.tolist(), crowd, room)
    assert len(set(fast)) == room

    def profile(chosen: list[int]) -> list[int]:
        """How full the niches are at the end."""
        return sorted(crowd[j] + [niche[i] for i in chosen].count(j) for j in range(6))

    assert profile(fast) == profile(slow)
    for j in {niche[i] for i in fast if crowd[niche[i]] == 0}:
        assert min((i for i in range(len(niche)) if niche[i] == j), key=lambda i: distance[i]) in fast


def test_the_nearest_direction_by_angle() -> None:
    directions = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    niche, distance = nearest(np.array([[3.0, 0.1], [0.0, 0.0], [1.2, 1.6], [0.0, 7.0]]), directions)
    assert niche[[0, 2, 3]].tolist() == [0, 2, 1]
    assert distance.tolist() == pytest.approx([0.1, 0.0, 0.0, 0.0], abs=1e-12)


def test_intercepts_of_a_plane_and_where_there_is_none() -> None:
    ones = np.ones(3)
    plane = np.array([[0.8, 0.0, 0.0], [0.0, 0.5, 0.0], [0.1, 0.1, 0.5]])  # the third cuts at z = .5 / .675
    assert intercepts(plane, ones, ones).tolist() == pytest.approx([0.8, 0.5, 0.5 / 0.675])
    assert intercepts(np.ones((3, 3)), ones, ones).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_nsga3_serves_most_directions_whatever_the_scales(scale: float) -> None:
    """DTLZ2 with three objectives, one of them in other units: two thirds of the niches of the front hold an
    individual at the end, and all are near the sphere."""
    optimizer = make("nsga3", 7, 3, population=45)
    search(optimizer, lambda x: dtlz2(x, 3, scale), 3600, 45)
    losses = arrays_of(optimizer)["losses"] / [1.0, 1.0, scale]
    assert np.abs(np.linalg.norm(losses, axis=1) - 1).max() < 0.1
    points = reference_points(3, 45, None)
    niche, _ = nearest(losses, points / np.linalg.norm(points, axis=1)[:, None])
    assert len(set(niche.tolist())) > 30


@BOTH
def test_huge_and_equal_losses_do_no_harm(name: str) -> None:
    """Losses at the end of float64, and none that differ: no overflow, no division by zero."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for losses in ((-1.7e308, 1.7e308, 0.0), (1.7e308, -1.7e308, 5.0), (2.0, 2.0, 2.0)):
            optimizer = make(name, 3, 3, population=8)
            for _ in range(6):
                asked = optimizer.ask(8)
                optimizer.tell([Evaluated(s.id, losses[s.id % 3 :] + losses[: s.id % 3]) for s in asked])
            assert len(optimizer.ask(8)) == 8
