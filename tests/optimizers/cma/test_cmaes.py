"""CMA-ES beyond the common contract: generations, failures, bounds, individuals from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizers.base import Evaluated, Observation
from optimizers.bounds import drawn_inside, from_unit, to_unit
from optimizers.cma.cmaes import CMAES
from optimizers.cma.model import Model, effective_weights
from optimizers.cma.shapes import Full, Strategy
from optimizers.space import Float, Space
from tests.optimizers.problems import box, ellipsoid, fresh, minimise, restored, sphere, tell_sphere


@pytest.mark.parametrize(
    ("options", "first", "population"), [({}, 20, 20), ({}, 2, 8), ({"population": 12}, 20, 12)]
)
def test_lambda_is_the_option_or_the_first_ask(options: dict[str, int], first: int, population: int) -> None:
    """A first ask that is too small for a generation gives the default, 4 + 3 ln D."""
    optimizer = fresh("cmaes", box(5), **options)
    optimizer.ask(first)
    optimizer.ask(30)
    assert optimizer.diagnostics()["population"] == population


def test_generations_are_made_of_lambda_told_whatever_the_batches() -> None:
    """Results gather until there are lambda; the rest waits, and it is part of the state."""
    optimizer = fresh("cmaes", box(5), population=10)
    for told, generation, waiting in [(4, 0, 4), (4, 0, 8), (4, 1, 2), (21, 3, 3), (7, 4, 0)]:
        tell_sphere(optimizer, optimizer.ask(told))
        optimizer = restored(optimizer)
        figures = optimizer.diagnostics()
        assert (figures["model_generation"], figures["waiting"]) == (generation, waiting)


def test_first_mean_is_the_default_of_the_space() -> None:
    space = Space({"x": Float(0, 1, default=0.9), "y": Float(0, 1)})
    for start, expected in [("default", [0.9, 0.5]), ("centre", [0.5, 0.5])]:
        asked = fresh("cmaes", space, start=start, sigma=1e-9).ask(4)
        assert [[s.params["x"], s.params["y"]] for s in asked] == [pytest.approx(expected, abs=1e-7)] * 4
    means = {fresh("cmaes", space, seed, start="random", sigma=1e-9).ask(1)[0].params["x"] for seed in (1, 2)}
    assert max(means) - min(means) > 0.01


def test_weights_with_failures() -> None:
    """Only individuals with a loss pull the mean; failures push evenly; without failures nothing changes."""
    strategy = Strategy.of(5, 10)
    whole, mu_eff = effective_weights(strategy, 10)
    assert whole.tolist() == strategy.weights.tolist()
    assert mu_eff == pytest.approx(strategy.mu_eff)
    for n_ok in range(1, 10):
        weights, mu_eff = effective_weights(strategy, n_ok)
        assert weights[weights > 0].sum() == pytest.approx(1)
        assert (weights[: min(n_ok, 5)] > 0).all()
        assert (weights[n_ok:] <= 0).all()
        assert len(set(weights[max(n_ok, 5) :])) == 1
        assert 1 <= mu_eff <= min(n_ok, 5)
        assert weights[weights < 0].sum() == pytest.approx(strategy.weights[5:].sum())


def test_one_step_is_that_of_the_tutorial() -> None:
    """Mean, paths, step size and covariance after one generation, written out from arXiv:1604.00772."""
    rng = np.random.default_rng(1)
    n, s = 3, Strategy.of(3, 8)
    model = Model.start(np.full(n, 0.5), 0.1)
    points = 0.5 + 0.1 * rng.standard_normal((8, n))
    model.update(s, points, 8, np.zeros(8, bool))
    y = (points - 0.5) / 0.1
    step = s.weights[:4] @ y[:4]
    path_sigma = np.sqrt(s.c_sigma * (2 - s.c_sigma) * s.mu_eff) * step
    norm = np.linalg.norm(path_sigma)
    assert norm / np.sqrt(1 - (1 - s.c_sigma) ** 2) / s.chi_n < 1.4 + 2 / (n + 1)  # h_sigma is 1 here
    path_c = np.sqrt(s.c_c * (2 - s.c_c) * s.mu_eff) * step
    scaled = [w if w >= 0 else w * n / (row @ row) for w, row in zip(s.weights, y, strict=True)]
    covariance = (1 - s.c_1 - s.c_mu * s.weights.sum()) * np.eye(n) + s.c_1 * np.outer(path_c, path_c)
    covariance += s.c_mu * sum(w * np.outer(row, row) for w, row in zip(scaled, y, strict=True))
    np.testing.assert_allclose(model.mean, 0.5 + 0.1 * step)
    np.testing.assert_allclose(model.path_sigma, path_sigma)
    shape = model.shape
    assert isinstance(shape, Full)
    np.testing.assert_allclose(shape.covariance, covariance, rtol=1e-6)
    np.testing.assert_allclose((shape.basis * shape.axes**2) @ shape.basis.T, covariance, rtol=1e-6)
    assert model.sigma == pytest.approx(0.1 * np.exp(s.c_sigma / s.d_sigma * (norm / s.chi_n - 1)))


def test_far_injected_points_move_the_model_little() -> None:
    """A late result from an older, wider distribution must not blow up the covariance."""
    s = Strategy.of(2, 8)
    near = 0.5 + 0.001 * np.random.default_rng(2).standard_normal((8, 2))
    points = np.vstack([[0.9, 0.9], near[1:]])
    models = []
    for injected in (False, True):
        model = Model.start(np.full(2, 0.5), 0.001)
        model.update(s, points, 8, np.array([injected] + [False] * 7))
        models.append(model)
    assert models[0].std().max() > 0.02
    assert models[1].std().max() < 0.005
    assert np.abs(models[1].mean - 0.5).max() < 0.003


def test_late_results_of_earlier_generations_do_no_harm() -> None:
    """Three generations in flight, told oldest first: still converges."""
    optimizer = fresh("cmaes", box(4), population=8)
    waiting = optimizer.ask(24)
    for _ in range(60):
        told, waiting = waiting[:8], waiting[8:]
        tell_sphere(optimizer, told)
        waiting = waiting + optimizer.ask(8)
    assert optimizer.diagnostics()["best_loss"] < 1e-3


def test_one_very_late_result_does_not_widen_the_distribution() -> None:
    """Asked in the first generation, told as the best of all when the distribution has become narrow."""
    optimizer = fresh("cmaes", box(4), population=8)
    late = optimizer.ask(1)
    for _ in range(60):
        tell_sphere(optimizer, optimizer.ask(8))
    before = optimizer.diagnostics()["std_max"]
    fresh_ones = optimizer.ask(7)
    optimizer.tell([Evaluated(late[0].id, (-1.0,)), *(Evaluated(s.id, (1.0,)) for s in fresh_ones)])
    assert before < 0.01
    assert optimizer.diagnostics()["std_max"] < 5 * before


units = st.lists(st.floats(0, 1), min_size=1, max_size=5).map(np.array)


@given(units)
def test_bounds_transformation_is_undone(unit: np.ndarray) -> None:
    np.testing.assert_allclose(to_unit(from_unit(unit)), unit, atol=1e-15)


@given(st.floats(-1e6, 1e6), st.floats(0, 0.01))
def test_bounds_transformation_is_continuous_and_stays_in_the_cube(x: float, step: float) -> None:
    """Its slope is at most 1, so a small step of the genome is a small step of the parameter."""
    a, b = to_unit(np.array([x, x + step]))
    assert 0 <= a <= 1
    assert abs(b - a) <= step + 1e-9
    assert not 0.05 <= x <= 0.95 or a == pytest.approx(x, abs=1e-15)


def test_optimum_in_a_corner_is_found_exactly_enough() -> None:
    optimizer = fresh("cmaes", box(6, bound=1.0), seed=3)
    assert minimise(optimizer, lambda x: float(x.sum()), 1200, 12) < -6 + 1e-6


def test_under_noise_the_mean_is_better_than_the_luckiest_individual() -> None:
    """Sphere with noise of standard deviation 1: true loss of what is recommended, median of 9 seeds."""
    means, luckiest = [], []
    for seed in range(9):
        optimizer = fresh("cmaes", box(5), seed)
        noise = np.random.Generator(np.random.PCG64(seed + 100))
        asked: dict[int, float] = {}
        observed: dict[int, float] = {}
        for _ in range(60):
            batch = optimizer.ask(16)
            for s in batch:
                asked[s.id] = sphere(np.array(s.params["x"]))
                observed[s.id] = asked[s.id] + float(noise.standard_normal())
            optimizer.tell([Evaluated(s.id, (observed[s.id],)) for s in batch])
        recommendation = optimizer.recommend()
        assert recommendation is not None
        means.append(sphere(np.array(recommendation.params["x"])))
        luckiest.append(asked[min(observed, key=lambda i: observed[i])])
    assert np.median(means) < np.median(luckiest)


def test_the_largest_floats_are_losses_like_any_other() -> None:
    """Guards against an overflow in the median of two large losses: the score was infinite."""
    optimizer = fresh("cmaes", box(3), population=4)
    optimizer.tell([Evaluated(s.id, (1.7e308,)) for s in optimizer.ask(4)])
    assert restored(optimizer).diagnostics()["median_loss"] == 1.7e308


def test_infeasible_individuals_lead_to_where_it_is_feasible() -> None:
    """Nothing feasible at first: the violation is followed; then the loss, up to the border (at 1, 1)."""
    optimizer = fresh("cmaes", box(2, 10.0), seed=2, start="random", population=10)
    feasible = []
    for _ in range(60):
        told = []
        for s in optimizer.ask(10):
            short = 2 - sum(s.params["x"])
            loss = sum(value**2 for value in s.params["x"])
            feasible.append(short <= 0)
            told.append(
                Evaluated(s.id, (loss,))
                if short <= 0
                else Evaluated(s.id, None, "infeasible", violation=short)
            )
        optimizer.tell(told)
        optimizer = restored(optimizer)
    best = optimizer.best()
    assert best is not None
    assert best.params["x"] == pytest.approx([1, 1], abs=0.02)


def test_a_generation_that_is_all_infeasible_is_learned_from() -> None:
    """By its violations, if they are known; then there is still nothing to recommend."""
    for violation, generation in [(None, 0), (1.0, 1)]:
        optimizer = fresh("cmaes", box(2), population=6)
        optimizer.tell(
            [Evaluated(s.id, None, "infeasible", violation and violation + s.id) for s in optimizer.ask(6)]
        )
        figures = optimizer.diagnostics()
        assert figures["model_generation"] == generation
        assert figures["waiting"] == 0
        assert optimizer.recommend() is None


def known_points(n: int, number: int, seed: int = 3) -> list[Observation]:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-5, 5, (number, n))
    return [Observation({"x": x.tolist()}, (ellipsoid(x),)) for x in points]


@pytest.mark.parametrize("pieces", [1, 3])
def test_first_distribution_comes_from_what_is_known(pieces: int) -> None:
    """As `cmaes` (the library) computes it, whether it is observed at once or in pieces."""
    get_warm_start_mgd = pytest.importorskip("cmaes").get_warm_start_mgd
    optimizer, observations = fresh("cmaes", box(4)), known_points(4, 300)
    for piece in range(pieces):
        optimizer.observe(observations[piece::pieces])
        optimizer = restored(optimizer)
    source = [(from_unit(optimizer.space.encode(o.params)), o.losses[0]) for o in observations]
    mean, sigma, covariance = get_warm_start_mgd(source)
    assert isinstance(optimizer, CMAES)
    model = optimizer._model
    np.testing.assert_allclose(model.mean, mean)
    assert model.sigma == pytest.approx(sigma)
    steps = model.shape.colour(np.eye(4))
    np.testing.assert_allclose(steps.T @ steps, covariance, rtol=1e-9, atol=1e-12)


def test_a_single_point_that_is_known_gives_the_first_mean_only() -> None:
    """And the best of all that were observed counts, not that of the last call."""
    optimizer = fresh("cmaes", box(2), sigma=0.01)
    for x, loss in [(2.0, 1.0), (4.0, 9.0)]:
        optimizer.observe([Observation({"x": [x, -3.0]}, (loss,))])
    assert optimizer.diagnostics()["sigma"] == 0.01
    points = np.array([s.params["x"] for s in optimizer.ask(200)])
    np.testing.assert_allclose(points.mean(axis=0), [2.0, -3.0], atol=0.05)


@pytest.mark.parametrize("kind", ["diagonal", "lowmemory"])
def test_first_scales_come_from_what_is_known(kind: str) -> None:
    """A space of any shape takes at least the step size."""
    optimizer = fresh("cmaes", box(4), covariance=kind)
    x = np.random.default_rng(1).normal(0, [0.1, 0.1, 0.1, 2.0], (200, 4)).clip(-5, 5)
    optimizer.observe([Observation({"x": row.tolist()}, (1.0,)) for row in x])
    figures = optimizer.diagnostics()
    assert 0.1 < figures["sigma"] < 0.2
    assert (figures["std_max"] > 1.5 * figures["std_min"]) == (kind == "diagonal")


def test_later_the_best_known_join_a_generation_with_a_limited_step() -> None:
    """A fifth of lambda at most, and only those better than half of the last generation."""
    optimizer = fresh("cmaes", box(3), population=20)
    for _ in range(15):
        tell_sphere(optimizer, optimizer.ask(20))
    before = optimizer.diagnostics()
    far = [Observation({"x": [4.0, 4.0, -4.0 + 0.1 * i]}, (-1.0,)) for i in range(10)]
    worse = [Observation({"x": [0.3, 0.3, 0.3]}, (before["median_loss"] + 1,))] * 10
    optimizer.observe(worse)
    assert optimizer.diagnostics()["waiting"] == 0
    optimizer.observe(far)
    optimizer = restored(optimizer)
    assert optimizer.diagnostics()["waiting"] == 4
    tell_sphere(optimizer, optimizer.ask(16))
    after = optimizer.diagnostics()
    assert after["model_generation"] == before["model_generation"] + 1
    assert after["std_max"] < 5 * before["std_max"] < 0.2


def test_a_loss_that_was_revised_counts_in_the_generation() -> None:
    """An individual that waits and turns out worse by its second evaluation does not lead the generation."""
    scores = []
    for second in (0.0, 1e6):
        optimizer = fresh("cmaes", box(2), population=6, reevaluate=1)
        first = optimizer.ask(3)
        optimizer.tell([Evaluated(s.id, (float(s.id),)) for s in first])
        asked = optimizer.ask(4)
        assert [s.origin for s in asked] == [None, None, None, 0]
        optimizer.tell([Evaluated(asked[3].id, (second,))])
        optimizer.tell([Evaluated(s.id, (10.0 + s.id,)) for s in asked[:3]])
        assert optimizer.diagnostics()["model_generation"] == 1
        scores.append(optimizer.diagnostics()["median_loss"])
    assert scores[0] < scores[1]


@pytest.mark.parametrize("dimension", [1, 5, 100])
def test_samples_inside_are_drawn_once(dimension: int) -> None:
    """What folding changes by rounding alone was taken for outside: half of all samples in 5-D, all in 100-D,
    where the second drawing was then given up and those really outside stayed."""
    chance = np.random.Generator(np.random.PCG64(1))
    points = chance.uniform(-0.05, 1.05, (50, dimension))
    points[7, 0] = 1.06
    numbers: list[int] = []

    def draw(n: int) -> np.ndarray:
        numbers.append(n)
        return points[:n].copy()

    drawn = drawn_inside(draw, 50)
    assert numbers == [50, 1]
    assert drawn[7].tolist() == points[0].tolist()
    assert np.delete(drawn, 7, axis=0).tolist() == np.delete(points, 7, axis=0).tolist()
