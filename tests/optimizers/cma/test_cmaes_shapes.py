"""The covariance matrices of CMA-ES: what they are, what they learn, what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers import OptimizerError
from optimizers.base import Evaluated
from optimizers.cma.model import Model
from optimizers.cma.shapes import SHAPES, Kind, Strategy
from tests.optimizers.problems import Loss, box, ellipsoid, fresh, restored, rosenbrock, tell_sphere

cma = pytest.importorskip("cma")

Points = npt.NDArray[np.float64]

KINDS: tuple[Kind, ...] = get_args(Kind)
kinds = pytest.mark.parametrize("kind", KINDS)


def trained(kind: Kind, n: int, seed: int, generations: int = 6, population: int = 8) -> Model:
    """A model after some generations of random points in a random order."""
    rng = np.random.default_rng(seed)
    model = Model.start(np.full(n, 0.5), 0.1, kind)
    strategy = Strategy.of(n, population, kind)
    for _ in range(generations):
        model.update(strategy, model.sample(rng, population), population, np.zeros(population, bool))
    return model


@kinds
@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 12), seed=st.integers(0, 1000), population=st.integers(4, 40))
def test_whitening_undoes_colouring(kind: Kind, n: int, seed: int, population: int) -> None:
    """And the variances are those of what colouring makes of white noise: the diagonal of A A'."""
    model = trained(kind, n, seed, population=population)
    z = np.random.default_rng(seed).standard_normal((5, n))
    np.testing.assert_allclose(model.shape.whiten(model.shape.colour(z)), z, rtol=1e-6, atol=1e-6)
    if kind == "full":
        model.shape.settle(model.generation + 1, 0, None)
    transposed = model.shape.colour(np.eye(n))
    np.testing.assert_allclose((transposed**2).sum(axis=0), model.shape.variances(), rtol=1e-6)


def test_one_step_of_the_diagonal_is_the_diagonal_of_the_full_step() -> None:
    """From the identity, with the same constants, both learn the same variances."""
    rng = np.random.default_rng(1)
    n, s = 4, Strategy.of(4, 10)
    points = 0.5 + 0.1 * rng.standard_normal((10, n))
    models = [Model.start(np.full(n, 0.5), 0.1, kind) for kind in ("full", "diagonal")]
    for model in models:
        model.update(s, points, 10, np.zeros(10, bool))
    np.testing.assert_allclose(models[1].shape.variances(), models[0].shape.variances())
    np.testing.assert_allclose(models[1].mean, models[0].mean)
    assert models[1].sigma == pytest.approx(models[0].sigma)


def test_sampling_and_learning_of_lowmemory_are_those_of_the_paper() -> None:
    """LM-MA-ES, algorithm 1: lines 8 and 14 written out, in the second generation with two directions."""
    n, population = 10, 6
    s = Strategy.of(n, population, "lowmemory")
    model = Model.start(np.full(n, 0.5), 0.1, "lowmemory")
    rng = np.random.default_rng(3)
    directions = np.zeros((4 + int(3 * math.log(n)), n))
    for generation in range(3):
        z = rng.standard_normal((population, n))
        d = z.copy()
        for j in range(min(generation, len(directions))):
            c = min(0.5, 1 / (1.5**j * n))
            d = (1 - c) * d + c * np.outer(d @ directions[j], directions[j])
        np.testing.assert_allclose(model.shape.colour(z), d)
        mu = population // 2
        white = math.sqrt(s.mu_eff) * (s.weights[:mu] @ z[:mu])
        for j in range(len(directions)):
            c = min(0.9, population / (4**j * n))
            directions[j] = (1 - c) * directions[j] + math.sqrt(c * (2 - c)) * white
        model.update(s, model.mean + model.sigma * d, population, np.zeros(population, bool))
        np.testing.assert_allclose(model.shape.save()["directions"], directions)


def test_variances_stay_positive_whatever_is_told() -> None:
    """Negative weights act on one coordinate only, as hard as they can."""
    n, population = 3, 40
    strategy = Strategy.of(n, population, "diagonal")
    model = Model.start(np.full(n, 0.5), 0.1, "diagonal")
    for _ in range(200):
        points = np.tile(model.mean, (population, 1))
        points[population // 2 :, 0] += 10 * model.std()[0]
        model.update(strategy, points, population, np.zeros(population, bool))
        assert (model.shape.variances() > 0).all()


def evaluations(ask: Callable[[], Points], tell: Callable[[Points, list[float]], Any], loss: Loss) -> float:
    """How many until the loss is 1e-6."""
    for used in range(40_000):
        points = ask()
        losses = [loss(x) for x in points]
        if min(losses) < 1e-6:
            return (used + 1) * len(points)
        tell(points, losses)
    return math.inf


def own(n: int, batch: int, seed: int, kind: Kind = "diagonal") -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    model, strategy = Model.start(rng.uniform(-4, 4, n), 2.0, kind), Strategy.of(n, batch, kind)
    model.LARGEST_STD = math.inf  # type: ignore[misc]

    def tell(points: Points, losses: list[float]) -> None:
        model.update(strategy, points[np.argsort(losses)], batch, np.zeros(batch, bool))

    return lambda: model.sample(rng, batch), tell


def by_pycma(n: int, batch: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    options = {"seed": math.nan, "randn": lambda *shape: rng.standard_normal(shape), "popsize": batch}
    strategy = cma.CMAEvolutionStrategy(
        rng.uniform(-4, 4, n), 2.0, {**options, "verbose": -9, "CMA_diagonal": True}
    )
    return strategy.ask, strategy.tell


@pytest.mark.parametrize("batch", [12, 40])
def test_diagonal_needs_no_more_evaluations_than_pycma(batch: int) -> None:
    """Ellipsoid of condition 10^6, along the axes, in 20 dimensions."""
    mine, theirs = (
        np.median([evaluations(*make(20, batch, seed), ellipsoid) for seed in range(3)])
        for make in (own, by_pycma)
    )
    assert mine <= 1.1 * theirs, (mine, theirs)


def test_lowmemory_follows_a_curved_valley_where_a_diagonal_cannot() -> None:
    """Rosenbrock's function in 20 dimensions, lowest loss within 1200 generations."""

    def lowest(kind: Kind) -> float:
        ask, tell = own(20, 12, 1, kind)
        best = math.inf
        for _ in range(1200):
            points = ask()
            losses = [rosenbrock(x) for x in points]
            best = min(best, *losses)
            tell(points, losses)
        return best

    assert lowest("lowmemory") < 0.5 * lowest("diagonal")


@pytest.mark.parametrize(("dimension", "kind"), [(300, "full"), (301, "diagonal")])
def test_auto_is_full_up_to_some_hundreds(dimension: int, kind: Kind) -> None:
    asked = fresh("cmaes", box(dimension), seed=3).ask(2)
    assert asked == fresh("cmaes", box(dimension), seed=3, covariance=kind).ask(2)
    optimizer = fresh("cmaes", box(dimension))
    assert (len(optimizer.state()) > 8 * dimension**2) == (kind == "full")


@pytest.mark.parametrize("kind", ["diagonal", "lowmemory"])
def test_state_is_linear_in_the_dimension(kind: Kind) -> None:
    """At 20,000 dimensions, ten individuals in flight: their genomes, and a few vectors."""
    n = 20_000
    optimizer = fresh("cmaes", box(n), covariance=kind, population=10)
    rng = np.random.default_rng(1)
    for _ in range(2):
        optimizer.tell([Evaluated(s.id, (rng.random(),)) for s in optimizer.ask(10)])
    optimizer.ask(10)
    vectors = len(optimizer.state()) / 8 / n
    assert vectors < 10 + 6 + (4 + 3 * math.log(n) if kind == "lowmemory" else 0)


def test_full_is_refused_above_2000_dimensions() -> None:
    with pytest.raises(OptimizerError, match=r"at most 2000 dimensions, got 2001\. Use diagonal"):
        fresh("cmaes", box(2001), covariance="full")
    assert fresh("cmaes", box(2001)).ask(1)


@kinds
@pytest.mark.parametrize("learning_rate", ["fixed", "adapted"])
def test_resume_is_exact_with_every_shape(kind: Kind, learning_rate: str) -> None:
    if kind == "lowmemory" and learning_rate == "adapted":
        with pytest.raises(OptimizerError, match="full or diagonal"):
            fresh("cmaes", box(5), covariance=kind, learning_rate=learning_rate)
        return
    whole = fresh("cmaes", box(5), covariance=kind, learning_rate=learning_rate, population=6)
    broken = restored(whole)
    for _ in range(12):
        asked = whole.ask(5)
        assert broken.ask(5) == asked
        for optimizer in (whole, broken):
            tell_sphere(optimizer, asked)
        broken = restored(broken)
    assert broken.state() == whole.state()
    assert whole.diagnostics()["model_generation"] == 10


@kinds
def test_every_shape_learns_scales(kind: Kind) -> None:
    """On an ellipsoid along the axes the narrow coordinates become narrower than the wide ones."""
    assert set(KINDS) == set(SHAPES)
    model = Model.start(np.full(10, 0.5), 0.1, kind)
    strategy = Strategy.of(10, 10, kind)
    rng = np.random.default_rng(1)
    for _ in range(150):
        points = model.sample(rng, 10)
        order = np.argsort([ellipsoid(x) for x in points])
        model.update(strategy, points[order], 10, np.zeros(10, bool))
    assert model.std()[0] > 5 * model.std()[-1]
