"""Cross-entropy and FACE: the fit, smoothing, noise, worse individuals, the population that adapts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from optimizers import OptimizerError, state
from optimizers.base import Evaluated, FloatArray, Observation, Optimizer
from optimizers.bounds import from_unit
from optimizers.evolution.gaussian_mixture import Mixture, fit
from tests.optimizers.problems import Loss, box, ellipsoid, fresh, minimise, rastrigin, restored, sphere

NAMES = ["cross_entropy", "face"]
RNG = np.random.Generator(np.random.PCG64(0))


def model(optimizer: Optimizer) -> dict[str, FloatArray]:
    """The arrays of the fitted distribution."""
    _, arrays = state.load(optimizer.state())
    return {k.removeprefix("own.model."): a for k, a in arrays.items() if k.startswith("own.model.")}


def generation(optimizer: Optimizer, n: int, loss: Loss) -> tuple[FloatArray, FloatArray]:
    """Genomes asked and their losses; all are told."""
    asked = optimizer.ask(n)
    points = np.array([from_unit(optimizer.space.encode(s.params)) for s in asked])
    losses = np.array([loss(np.array(s.params["x"])) for s in asked])
    optimizer.tell([Evaluated(s.id, (value,)) for s, value in zip(asked, losses.tolist(), strict=True)])
    return points, losses


def two_clouds(n: int) -> FloatArray:
    """Points around (0, 0) and (10, 10), three of four at the latter."""
    rng = np.random.default_rng(3)
    centres = np.where(np.arange(n) % 4 == 0, 0.0, 10.0)[:, None]
    points: FloatArray = centres + rng.standard_normal((n, 2)) * [0.5, 1.0]
    return points


def test_one_gaussian_is_mean_and_shrunk_covariance() -> None:
    points = np.random.default_rng(1).standard_normal((12, 3)) @ np.array([[2, 1, 0], [0, 1, 1], [0, 0, 0.5]])
    full = fit(points, 1, True, None, RNG)
    diagonal = fit(points, 1, False, None, RNG)
    expected = np.cov(points, rowvar=False)
    np.testing.assert_allclose(full.means[0], points.mean(axis=0))
    np.testing.assert_allclose(np.diag(full.covariances[0]), np.diag(expected))
    np.testing.assert_allclose(diagonal.covariances[0], np.diag(expected))
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(full.covariances[0][off], expected[off] * 12 / 15)


@pytest.mark.parametrize("full", [True, False])
def test_a_mixture_finds_the_clouds_and_their_shares(full: bool) -> None:
    found = fit(two_clouds(200), 2, full, None, np.random.default_rng(1))
    order = np.argsort(found.means[:, 0])
    np.testing.assert_allclose(found.means[order], [[0, 0], [10, 10]], atol=0.35)
    np.testing.assert_allclose(found.weights[order], [0.25, 0.75], atol=0.01)
    np.testing.assert_allclose(np.sqrt(found.variances()), np.tile([0.5, 1.0], (2, 1)), atol=0.5)
    sample = found.sample(np.random.default_rng(2), 4000, np.zeros(2))
    assert (sample[:, 0] < 5).mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_allclose(sample.std(axis=0), found.spread(), rtol=0.05)


def test_components_keep_their_identity_and_are_smoothed_one_by_one() -> None:
    """Fitted from the old mixture, each component follows its cloud; smoothing keeps a share of it."""
    old = Mixture(np.array([0.5, 0.5]), np.array([[9.0, 9.0], [1.0, 1.0]]), np.ones((2, 2)))
    new = fit(two_clouds(200), 2, False, old, RNG)
    np.testing.assert_allclose(new.means, [[10, 10], [0, 0]], atol=0.35)
    smoothed = new.smoothed(old, 0.9)
    np.testing.assert_allclose(smoothed.means, 0.9 * old.means + 0.1 * new.means)
    np.testing.assert_allclose(smoothed.covariances, 0.9 * old.covariances + 0.1 * new.covariances)
    np.testing.assert_allclose(smoothed.weights, 0.9 * old.weights + 0.1 * new.weights)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize(
    "points", [np.zeros((2, 2)), np.full((5, 2), 1e9), np.eye(2), np.array([[0, 0], [1e-200, 1e150]])]
)
def test_degenerate_points_are_fitted(points: FloatArray, full: bool) -> None:
    """Fewer points than components, one point several times, scales apart: all finite."""
    first = fit(points, 3, full, None, np.random.default_rng(1))
    for found in (first, fit(points + 1.0, 3, full, first, RNG)):
        assert np.isfinite(found.means).all()
        assert np.isfinite(found.covariances).all()
        assert found.weights.sum() == pytest.approx(1)
        assert np.isfinite(found.sample(np.random.default_rng(1), 20, np.full(2, 1e-24))).all()


def test_the_first_generation_is_uniform_and_the_elite_is_fitted() -> None:
    """The next distributions are those of the method, written out."""
    optimizer = fresh("cross_entropy", box(2), covariance="diagonal", smoothing=0.4, rho=0.25)
    points, losses = generation(optimizer, 200, sphere)
    assert np.histogram(points[:, 0], [-0.06, 0.25, 0.5, 0.75, 1.06])[0].min() > 30
    elite = points[np.argsort(losses)[:50]]
    mean, variance = elite.mean(axis=0), elite.var(axis=0, ddof=1)
    np.testing.assert_allclose(model(optimizer)["means"][0], mean, atol=1e-9)
    np.testing.assert_allclose(model(optimizer)["covariances"][0], variance, atol=1e-9)
    points, losses = generation(optimizer, 200, sphere)
    elite = points[np.argsort(losses)[:50]]
    fitted = elite.var(axis=0, ddof=1) + 0.5 * (elite.mean(axis=0) - mean) ** 2
    np.testing.assert_allclose(model(optimizer)["means"][0], 0.4 * mean + 0.6 * elite.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(model(optimizer)["covariances"][0], 0.4 * variance + 0.6 * fitted, atol=1e-9)


@pytest.mark.parametrize("distribution", ["gaussian", "noisy_gaussian", "mixture"])
def test_noise_decays_and_only_where_it_is_wanted(distribution: str) -> None:
    optimizer = fresh("cross_entropy", box(2), distribution=distribution, noise=0.2, noise_decay=0.5)
    noise = []
    for _ in range(3):
        generation(optimizer, 40, sphere)
        noise.append(optimizer.diagnostics()["noise"])
    expected = [1e-12] * 3 if distribution == "gaussian" else [0.2, 0.1, 0.05]
    assert noise == pytest.approx(expected)


def test_a_plateau_does_not_shrink_the_distribution() -> None:
    """Whoever ties with the last of the best is fitted too."""
    optimizer = fresh("cross_entropy", box(2))
    for _ in range(10):
        generation(optimizer, 40, lambda _: 1.0)
    assert optimizer.diagnostics()["std_min"] > 0.15


def test_failures_are_not_fitted_and_one_success_is_too_few() -> None:
    optimizer = fresh("cross_entropy", box(2), rho=1.0)
    asked = optimizer.ask(10)
    optimizer.tell([Evaluated(s.id, None if s.id else (1.0,), "failed" if s.id else "ok") for s in asked])
    assert model(optimizer) == {}
    asked = optimizer.ask(10)
    ok = asked[:4]
    optimizer.tell([Evaluated(s.id, (1.0,)) if s in ok else Evaluated(s.id, None, "failed") for s in asked])
    points = np.array([from_unit(optimizer.space.encode(s.params)) for s in ok])
    np.testing.assert_allclose(model(optimizer)["means"][0], points.mean(axis=0), atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_worse_individuals_join_while_it_is_hot(name: str) -> None:
    """A temperature widens the fit; as it falls, fits become as without it. Huge losses are no harm."""
    for scale in (1.0, 1e306):
        cold, hot, never = (fresh(name, box(2), temp_decay=t) for t in (1e-9, 0.99, 0.0))
        for optimizer in (cold, hot, never):
            generation(optimizer, 80, lambda x, scale=scale: scale * sphere(x))  # type: ignore[misc]
        assert hot.diagnostics()["std_min"] > 1.1 * cold.diagnostics()["std_min"]
        np.testing.assert_array_equal(model(cold)["means"], model(never)["means"])


def told(optimizer: Optimizer, n: int, loss: float) -> dict[str, float]:
    """Diagnostics after `n` more were told, each a bit worse than the one before."""
    asked = optimizer.ask(n)
    optimizer.tell([Evaluated(s.id, (loss + s.id * 1e-9,)) for s in asked])
    return optimizer.diagnostics()


def test_the_population_grows_until_there_is_an_improvement() -> None:
    """And shrinks half of the way after one; at its largest there is a fit all the same."""
    optimizer = fresh("face", box(2), population_min=10, population_max=22, n_expand=5, n_elite=4)
    steps: list[tuple[int, float, tuple[int, int, int, int]]] = [
        # told, loss -> population, fits, waiting, stagnations
        (10, 5.0, (10, 1, 0, 0)),
        (10, 6.0, (15, 1, 10, 0)),  # worse: five more of the same distribution
        (5, 6.0, (20, 1, 15, 0)),
        (5, 4.0, (15, 2, 0, 0)),  # better: halfway from 20 to 10
        (14, 4.5, (15, 2, 14, 0)),
        (1, 3.0, (12, 3, 0, 0)),
        (12, 4.6, (17, 3, 12, 0)),
        (10, 4.6, (16, 4, 0, 1)),  # none of 22 is better
    ]
    for n, loss, expected in steps:
        figures = told(optimizer, n, loss)
        names = ("population", "model_generation", "waiting", "stagnations")
        assert tuple(int(figures[name]) for name in names) == expected
        optimizer = restored(optimizer)


def test_bounds_of_the_population_must_fit() -> None:
    with pytest.raises(OptimizerError, match="population_min 20 is larger than population_max 10"):
        fresh("face", box(2), population_min=20, population_max=10)
    optimizer = fresh("face", box(2), population_max=6)
    optimizer.ask(50)
    assert optimizer.diagnostics()["population"] == 6


@pytest.mark.parametrize("name", NAMES)
def test_correlations_are_learned_up_to_a_dimension(name: str) -> None:
    for dimension, covariance, full in [(200, "auto", True), (201, "auto", False), (201, "full", True)]:
        optimizer = fresh(name, box(dimension), covariance=covariance)
        generation(optimizer, 8, sphere)
        assert (model(optimizer)["covariances"].ndim == 3) == full
    with pytest.raises(OptimizerError, match=r"at most 1000 dimensions, got 1001\. Use diagonal"):
        fresh(name, box(1001), covariance="full")


@pytest.mark.parametrize("name", NAMES)
def test_known_individuals_are_fitted_first(name: str) -> None:
    """Before the first ask, a population of the best of them is kept, however many there are."""
    optimizer = fresh(name, box(2))
    rng = np.random.default_rng(4)
    known = [Observation({"x": rng.uniform(-5, 5, 2).tolist()}, (float(i),)) for i in range(100)]
    known += [Observation({"x": rng.uniform(2.9, 3.1, 2).tolist()}, (-1.0,)) for _ in range(40)]
    optimizer.observe(known)
    assert optimizer.diagnostics()["waiting"] == 32
    asked = optimizer.ask(32)
    assert float(np.mean([s.params["x"] for s in asked])) == pytest.approx(3.0, abs=0.2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("loss", "options", "decades"),
    [
        (sphere, {}, 3.0),
        (sphere, {"distribution": "mixture"}, 1.0),
        (sphere, {"distribution": "noisy_gaussian"}, 1.0),
        (ellipsoid, {}, 1.0),
        (rastrigin, {}, 0.4),
    ],
)
def test_better_than_random(name: str, loss: Loss, options: dict[str, Any], decades: float) -> None:
    """In 5 dimensions within 1600 evaluations, by so many decades."""
    found = math.log10(minimise(fresh(name, box(5), **options), loss, 1600, 32))
    random = math.log10(minimise(fresh("random", box(5)), loss, 1600, 32))
    assert found <= random - decades, (found, random)
