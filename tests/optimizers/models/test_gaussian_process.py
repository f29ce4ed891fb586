"""The Gaussian process: its gradient, its posterior, and what the hyperparameters come out as."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from optimizers.base import FloatArray
from optimizers.models.gaussian_process import Posterior, _loss, first_theta, fit


def data(n: int, d: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Points and a smooth function of the first coordinate, mean 0 and variance 1."""
    points = np.random.Generator(np.random.PCG64(seed)).random((n, d))
    values = np.sin(4 * points[:, 0])
    return points, (values - values.mean()) / values.std()


def matern(one: FloatArray, other: FloatArray, lengths: FloatArray) -> float:
    """As in the book, for one pair."""
    r = np.sqrt(5 * (((one - other) / lengths) ** 2).sum())
    return float((1 + r + r**2 / 3) * np.exp(-r))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4), st.floats(-7.0, 0.0))
def test_the_gradient_is_that_of_the_loss(part: list[float], noise: float) -> None:
    """Also where two columns share a length scale, and where points were evaluated several times."""
    points, values = data(12, 4)
    groups = np.array([0, 1, 2, 2])
    theta, counts = np.array([*part, noise]), np.arange(1.0, 13.0)
    numeric = approx_fprime(theta, lambda t: _loss(t, points, groups, values, counts)[0], 1e-6)
    assert _loss(theta, points, groups, values, counts)[1] == pytest.approx(numeric, rel=1e-3, abs=1e-3)


def test_the_posterior_is_that_of_the_book() -> None:
    """Mean and covariance by the plain formula (Rasmussen and Williams, 2.25 and 2.26)."""
    points, values = data(9, 2)
    theta = np.array([np.log(0.4), np.log(1.5), 0.3, -3.0])
    lengths, signal, noise = np.exp(theta[:2]), np.exp(0.3), np.exp(-3.0)
    counts = np.array([1.0, 1, 1, 2, 4, 1, 1, 1, 1])
    new = np.array([[0.2, 0.7], [0.9, 0.1]])
    kernel = signal * np.array([[matern(a, b, lengths) for b in points] for a in points])
    cross = signal * np.array([[matern(a, b, lengths) for b in points] for a in new])
    prior = signal * np.array([[matern(a, b, lengths) for b in new] for a in new])
    inverse = np.linalg.inv(kernel + np.diag(noise / counts))
    mean, covariance = cross @ inverse @ values, prior - cross @ inverse @ cross.T

    posterior = Posterior(points, np.arange(2), values, counts, theta)
    assert posterior.mean(new) == pytest.approx(mean, abs=1e-6)
    drawn = posterior.sample(new, 40_000, np.random.Generator(np.random.PCG64(1)))
    assert drawn.mean(axis=1) == pytest.approx(mean, abs=0.02)
    assert np.cov(drawn) == pytest.approx(covariance, abs=0.02)


def test_the_fit_finds_what_matters() -> None:
    """The coordinate that matters has the shortest length scale, and noise is found only where it is."""
    points, values = data(40, 3)
    clean = fit(points, np.arange(3), values, np.ones(40), [first_theta(3)], 40)
    assert clean[0] + 1 < min(clean[1], clean[2])
    assert clean[-1] < -6
    noisy = values + np.random.Generator(np.random.PCG64(2)).normal(0, 0.5, 40)
    noisy = (noisy - noisy.mean()) / noisy.std()
    starts = [first_theta(3), np.append(first_theta(3)[:-1], -1.0)]
    found = fit(points, np.arange(3), noisy, np.ones(40), starts, 40)
    assert np.exp(found[-1]) == pytest.approx(0.2, abs=0.12)


def test_equal_points_do_not_break_it() -> None:
    points = np.full((20, 2), 0.5)
    values = np.zeros(20)
    theta = fit(points, np.arange(2), values, np.ones(20), [first_theta(2)], 10)
    posterior = Posterior(points, np.arange(2), values, np.ones(20), theta)
    assert np.isfinite(posterior.sample(points, 3, np.random.Generator(np.random.PCG64(1)))).all()
