"""How good the optimizers are, against the field's own implementations.

CMA-ES: evaluations until the loss is 1e-6, median over seeds, with the same population, bounds, start (the
centre) and sigma as pycma and cmaes. This count varies far less between seeds than the loss after a fixed
budget, which falls by a decade within some thirty evaluations. Seeds are fixed, so the tests repeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from optimizers.base import Evaluated
from tests.optimizers.problems import Loss, box, ellipsoid, fresh, minimise, rosenbrock, sphere

cma = pytest.importorskip("cma")
cmaes = pytest.importorskip("cmaes")

Points = Sequence[npt.NDArray[np.float64]]
AskTell = tuple[Callable[[], Points], Callable[[Points, list[float]], Any]]

SEEDS = range(5)
BOUND = 5.0
SIGMA = 0.3 * 2 * BOUND
FACTOR = 1.25  # evaluations of the own CMA-ES, at most, per evaluation of the better library


def own(dimension: int, batch: int, seed: int) -> AskTell:
    optimizer = fresh("cmaes", box(dimension, BOUND), seed, sigma=SIGMA / (2 * BOUND))
    ids: list[int] = []

    def ask() -> Points:
        asked = optimizer.ask(batch)
        ids[:] = [s.id for s in asked]
        return [np.array(s.params["x"]) for s in asked]

    def tell(_: Points, losses: list[float]) -> None:
        optimizer.tell([Evaluated(i, (loss,)) for i, loss in zip(ids, losses, strict=True)])

    return ask, tell


def by_pycma(dimension: int, batch: int, seed: int) -> AskTell:
    rng = np.random.Generator(np.random.PCG64(seed))
    options = {
        "seed": math.nan,  # else it reseeds numpy's global generator
        "randn": lambda *shape: rng.standard_normal(shape),
        "popsize": batch,
        "bounds": [-BOUND, BOUND],
        "verbose": -9,
    }
    strategy = cma.CMAEvolutionStrategy(np.zeros(dimension), SIGMA, options)
    return strategy.ask, strategy.tell


def by_cmaes(dimension: int, batch: int, seed: int) -> AskTell:
    bounds = np.array([[-BOUND, BOUND]] * dimension)
    strategy = cmaes.CMA(np.zeros(dimension), SIGMA, bounds=bounds, seed=seed, population_size=batch)

    def tell(points: Points, losses: list[float]) -> None:
        strategy.tell(list(zip(points, losses, strict=True)))

    return lambda: [strategy.ask() for _ in range(batch)], tell


def effort(make: Callable[[int, int, int], AskTell], loss: Loss, dimension: int, seed: int) -> int:
    """Evaluations until the loss is 1e-6 or less; at most 1000 per dimension."""
    batch = 4 + int(3 * math.log(dimension))
    ask, tell = make(dimension, batch, seed)
    best, used = math.inf, 0
    while best > 1e-6 and used < 1000 * dimension:
        points = ask()
        losses = [loss(x) for x in points]
        tell(points, losses)
        best, used = min(best, *losses), used + batch
    return used


@pytest.mark.parametrize(
    ("loss", "dimension"), [(sphere, 10), (ellipsoid, 5), (ellipsoid, 10), (rosenbrock, 5)]
)
def test_cmaes_needs_no_more_evaluations_than_the_libraries(loss: Loss, dimension: int) -> None:
    """In the median at most FACTOR times as many as the better of pycma and cmaes."""
    needed = {
        make.__name__: float(np.median([effort(make, loss, dimension, seed) for seed in SEEDS]))
        for make in (own, by_pycma, by_cmaes)
    }
    assert needed["own"] <= FACTOR * min(needed["by_pycma"], needed["by_cmaes"]), needed
    assert needed["own"] < 1000 * dimension, needed


def median_loss(name: str, loss: Loss, dimension: int, budget: int) -> float:
    """Median over the seeds of log10 of the lowest loss."""
    runs = [minimise(fresh(name, box(dimension, BOUND), seed), loss, budget, 20) for seed in SEEDS]
    return float(np.median(np.log10(runs)))


@pytest.mark.parametrize("dimension", [5, 10])
@pytest.mark.parametrize(("loss", "decades"), [(sphere, 2.0), (rosenbrock, 1.5), (ellipsoid, 1.5)])
def test_genetic_is_better_than_random(loss: Loss, decades: float, dimension: int) -> None:
    """Within 100 evaluations per dimension, by so many decades in the median."""
    budget = 100 * dimension
    random = median_loss("random", loss, dimension, budget)
    assert median_loss("genetic", loss, dimension, budget) <= random - decades
