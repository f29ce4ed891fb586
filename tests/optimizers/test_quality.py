"""How good the optimizers are, against the field's own implementations.

Medians over seeds of log10 of the lowest loss within a budget; seeds are fixed, so the tests repeat. The
oracles are pycma and cmaes, with the same population, budget, bounds, start (the centre) and sigma.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tests.optimizers.problems import Loss, box, ellipsoid, fresh, minimise, rosenbrock, sphere

cma = pytest.importorskip("cma")
cmaes = pytest.importorskip("cmaes")

SEEDS = range(7)
BOUND = 5.0
DECADES = 1.0  # how far own may lie behind the better oracle; their own spread over seeds is larger


def median(run: Callable[[int], float]) -> float:
    return float(np.median([math.log10(run(seed) + 1e-16) for seed in SEEDS]))


def own(name: str, loss: Loss, dimension: int, budget: int, batch: int) -> float:
    return median(lambda seed: minimise(fresh(name, box(dimension, BOUND), seed), loss, budget, batch))


def by_pycma(loss: Loss, dimension: int, budget: int, batch: int) -> float:
    def run(seed: int) -> float:
        rng = np.random.Generator(np.random.PCG64(seed))
        options = {
            "seed": math.nan,  # else it reseeds numpy's global generator
            "randn": lambda *shape: rng.standard_normal(shape),
            "popsize": batch,
            "bounds": [-BOUND, BOUND],
            "verbose": -9,
        }
        strategy = cma.CMAEvolutionStrategy(np.zeros(dimension), 0.3 * 2 * BOUND, options)
        best = math.inf
        for _ in range(budget // batch):
            points = strategy.ask()
            losses = [loss(x) for x in points]
            strategy.tell(points, losses)
            best = min(best, *losses)
        return best

    return median(run)


def by_cmaes(loss: Loss, dimension: int, budget: int, batch: int) -> float:
    def run(seed: int) -> float:
        bounds = np.array([[-BOUND, BOUND]] * dimension)
        strategy = cmaes.CMA(
            np.zeros(dimension), 0.3 * 2 * BOUND, bounds=bounds, seed=seed, population_size=batch
        )
        best = math.inf
        for _ in range(budget // batch):
            points = [strategy.ask() for _ in range(batch)]
            losses = [loss(x) for x in points]
            strategy.tell(list(zip(points, losses, strict=True)))
            best = min(best, *losses)
        return best

    return median(run)


@pytest.mark.parametrize("dimension", [5, 10])
@pytest.mark.parametrize(("loss", "per_dimension"), [(sphere, 100), (rosenbrock, 300), (ellipsoid, 300)])
def test_cmaes_is_as_good_as_the_libraries(loss: Loss, per_dimension: int, dimension: int) -> None:
    """The median lies at most one decade behind the better of pycma and cmaes."""
    budget, batch = per_dimension * dimension, 4 + int(3 * math.log(dimension))
    oracle = min(by_pycma(loss, dimension, budget, batch), by_cmaes(loss, dimension, budget, batch))
    assert own("cmaes", loss, dimension, budget, batch) <= oracle + DECADES


@pytest.mark.parametrize("dimension", [5, 10])
@pytest.mark.parametrize(("loss", "decades"), [(sphere, 2.0), (rosenbrock, 1.5), (ellipsoid, 1.5)])
def test_genetic_is_better_than_random(loss: Loss, decades: float, dimension: int) -> None:
    """Within 100 evaluations per dimension, by so many decades in the median."""
    budget = 100 * dimension
    random = own("random", loss, dimension, budget, 20)
    assert own("genetic", loss, dimension, budget, 20) <= random - decades
