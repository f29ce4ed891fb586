"""Learning rates of CMA-ES that adapt to noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optimizers.base import Evaluated
from optimizers.cma.model import Model
from optimizers.cma.shapes import Diagonal, Full, Kind, Strategy
from tests.optimizers.problems import box, fresh, restored, sphere


def test_blending_is_that_of_the_library() -> None:
    """Twenty generations of random changes, against cmaes.CMA with lr_adapt."""
    library = pytest.importorskip("cmaes").CMA
    rng = np.random.default_rng(1)
    n = 4
    model = Model.start(np.full(n, 0.5), 0.1, "full", noisy=True)
    oracle: Any = library(np.full(n, 0.5), 0.1, lr_adapt=True)
    shape, rates = model.shape, model.rates
    assert isinstance(shape, Full)
    assert rates is not None
    for generation in range(20):
        before = rates.remember(model)
        root = (shape.basis / shape.axes) @ shape.basis.T
        model.mean = model.mean + 0.05 * rng.standard_normal(n) + 0.02
        model.sigma *= float(np.exp(0.1 * rng.standard_normal()))
        y = rng.standard_normal((n, n))
        shape.covariance = 0.8 * shape.covariance + 0.2 * y @ y.T / n
        oracle._mean, oracle._sigma, oracle._C = model.mean, model.sigma, shape.covariance
        old = before.sigma**2 * before.shape.covariance
        oracle._lr_adaptation(before.mean, before.sigma, old, root)
        rates.blend(model, before)
        np.testing.assert_allclose(model.mean, oracle._mean)
        assert model.sigma == pytest.approx(oracle._sigma)
        np.testing.assert_allclose(shape.covariance, oracle._C)
        assert rates.eta_mean == pytest.approx(oracle._eta_mean)
        assert rates.eta_covariance == pytest.approx(oracle._eta_Sigma)
        shape.settle(generation + 1, 1, None)
    assert rates.eta_mean < 0.9


def test_the_diagonal_blends_as_the_full_matrix_does() -> None:
    models = [Model.start(np.full(3, 0.5), 0.1, kind, noisy=True) for kind in ("full", "diagonal")]
    rng = np.random.default_rng(1)
    for _ in range(5):
        moved, grown = 0.05 * rng.standard_normal(3), rng.uniform(0.5, 2, 3)
        for model in models:
            shape, rates = model.shape, model.rates
            assert isinstance(shape, Full | Diagonal)
            assert rates is not None
            before = rates.remember(model)
            model.mean = model.mean + moved
            shape.covariance = shape.covariance * (np.diag(grown) if isinstance(shape, Full) else grown)
            rates.blend(model, before)
            shape.settle(model.generation, 0, None)
    np.testing.assert_allclose(models[0].mean, models[1].mean)
    assert models[0].sigma == pytest.approx(models[1].sigma)
    np.testing.assert_allclose(models[0].shape.variances(), models[1].shape.variances())


@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_under_noise_adapted_rates_come_much_closer(kind: Kind) -> None:
    """Sphere in 6 dimensions with noise of standard deviation 1: true loss of the mean, median of 3 seeds."""

    def reached(seed: int, learning_rate: str) -> float:
        noise = np.random.default_rng(seed + 100)
        optimizer = fresh("cmaes", box(6), seed, learning_rate=learning_rate, covariance=kind, population=9)
        for _ in range(200):
            asked = optimizer.ask(9)
            optimizer.tell(
                [Evaluated(s.id, (sphere(np.array(s.params["x"])) + noise.standard_normal(),)) for s in asked]
            )
        recommendation = restored(optimizer).recommend()
        assert recommendation is not None
        return sphere(np.array(recommendation.params["x"]))

    fixed, adapted = (np.median([reached(seed, rate) for seed in range(3)]) for rate in ("fixed", "adapted"))
    assert adapted < 0.3 * fixed, (adapted, fixed)


def test_rates_are_smaller_where_the_ranking_is_random() -> None:
    rates = []
    for noise in (0.0, 1e6):
        model = Model.start(np.full(2, 0.5), 0.1, "full", noisy=True)
        strategy = Strategy.of(2, 20)
        rng = np.random.default_rng(1)
        for _ in range(150):
            points = model.sample(rng, 20)
            losses = ((points - 0.2) ** 2).sum(axis=1) + noise * rng.standard_normal(20)
            model.update(strategy, points[np.argsort(losses)], 20, np.zeros(20, bool))
        assert model.rates is not None
        rates.append((model.rates.eta_mean, model.rates.eta_covariance))
    assert rates[1][0] < 0.5 * rates[0][0]
    assert rates[1][1] < 0.5 * rates[0][1]
