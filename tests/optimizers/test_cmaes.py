"""CMA-ES beyond the common contract: generations, failures, bounds, whole numbers, restarts, noise."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizers import OptimizerError
from optimizers.base import Evaluated, Optimizer
from optimizers.cma_model import Model, Strategy, effective_weights
from optimizers.cmaes import bin_width, from_unit, least_std, to_unit
from optimizers.space import Categorical, Float, Int, Space
from tests.optimizers.problems import box, fresh, minimise, rastrigin, restored, sphere


def tell_sphere(optimizer: Optimizer, n: int) -> None:
    asked = optimizer.ask(n)
    optimizer.tell([Evaluated(s.id, (sphere(np.array(s.params["x"])),)) for s in asked])


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
        tell_sphere(optimizer, told)
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
    model.update(s, points, 8, np.zeros(8, bool), np.zeros(n))
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
    np.testing.assert_allclose(model.covariance, covariance, rtol=1e-6)
    np.testing.assert_allclose((model.basis * model.axes**2) @ model.basis.T, covariance, rtol=1e-6)
    assert model.sigma == pytest.approx(0.1 * np.exp(s.c_sigma / s.d_sigma * (norm / s.chi_n - 1)))


def test_far_injected_points_move_the_model_little() -> None:
    """A late result from an older, wider distribution must not blow up the covariance."""
    s = Strategy.of(2, 8)
    near = 0.5 + 0.001 * np.random.default_rng(2).standard_normal((8, 2))
    points = np.vstack([[0.9, 0.9], near[1:]])
    models = []
    for injected in (False, True):
        model = Model.start(np.full(2, 0.5), 0.001)
        model.update(s, points, 8, np.array([injected] + [False] * 7), np.zeros(2))
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
        optimizer.tell([Evaluated(s.id, (sphere(np.array(s.params["x"])),)) for s in told])
        waiting = waiting + optimizer.ask(8)
    assert optimizer.diagnostics()["best_loss"] < 1e-3


def test_one_very_late_result_does_not_widen_the_distribution() -> None:
    """Asked in the first generation, told as the best of all when the distribution has become narrow."""
    optimizer = fresh("cmaes", box(4), population=8)
    late = optimizer.ask(1)
    for _ in range(60):
        tell_sphere(optimizer, 8)
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


def test_bin_widths_are_those_of_the_space() -> None:
    """Against the space itself: walking half a width less from the middle of a bin stays in it."""
    space = Space({"x": Float(0, 1), "n": Int(1, 7), "k": Int(1, 500, log=True), "c": Categorical([1, 2, 3])})
    for unit in np.random.default_rng(1).random((10, 4)):
        width = bin_width(space, unit)
        assert width[0] == 0
        assert width[[1, 3]].tolist() == [1 / 7, 1 / 3]
        k = space.decode(unit)["k"]
        inside = [u for u in np.linspace(0, 1, 1001) if space.decode([0, 0, u, 0])["k"] == k]
        assert len(inside) / 1001 == pytest.approx(width[2], abs=2.1e-3)


def test_least_std_lets_one_sample_in_five_leave_its_bins() -> None:
    space = Space({"x": Float(0, 1), "n": Int(0, 9, shape=(4,))})
    std = least_std(space, np.full(5, 0.45))
    assert std[0] == 0
    offsets = np.random.default_rng(1).standard_normal((20_000, 4)) * std[1:]
    assert np.mean((np.abs(offsets) > 0.05).any(axis=1)) == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_whole_numbers_do_not_get_stuck(seed: int) -> None:
    """Reals that matter more and converge first must not freeze the whole numbers."""
    space = Space({"x": Float(-5, 5, shape=(3,)), "n": Int(0, 50, shape=(3,))})
    optimizer = fresh("cmaes", space, seed, population=14)
    for _ in range(150):
        told = []
        for s in optimizer.ask(14):
            off = np.array(s.params["n"]) - [40, 3, 17]
            loss = 100 * sphere(np.array(s.params["x"])) + 0.01 * float(off @ off)
            told.append(Evaluated(s.id, (loss,)))
        optimizer.tell(told)
    recommendation = optimizer.recommend()
    assert recommendation is not None
    assert recommendation.params["n"] == [40, 3, 17]
    np.testing.assert_allclose(recommendation.params["x"], 0.3, atol=0.05)


def test_restarts_double_the_population_and_find_the_global_optimum() -> None:
    """Rastrigin in 2-D has about 100 basins within the bounds. One run alone ends in a wrong one."""
    single = [minimise(fresh("cmaes", box(2), seed, restarts=0), rastrigin, 4000, 8) for seed in range(6)]
    restarted = [fresh("cmaes", box(2), seed) for seed in range(6)]
    losses = [minimise(optimizer, rastrigin, 4000, 8) for optimizer in restarted]
    assert np.median(single) > 0.5
    assert max(losses) < 1e-6
    for optimizer in restarted:
        figures = optimizer.diagnostics()
        assert figures["population"] == 8 * 2 ** figures["restarts"]


def test_resume_is_exact_around_restarts_and_the_end() -> None:
    """Flat losses make each run end soon; after the last one the model stays, and asks go on."""
    whole = fresh("cmaes", box(1), restarts=2, population=4)
    broken = fresh("cmaes", box(1), restarts=2, population=4)
    seen = set()
    for _ in range(120):
        asked = whole.ask(4)
        assert broken.ask(4) == asked
        for optimizer in (whole, broken):
            optimizer.tell([Evaluated(s.id, (float(round(abs(s.params["x"][0]))),)) for s in asked])
        broken = restored(broken)
        assert broken.state() == whole.state()
        seen.add((whole.diagnostics()["restarts"], whole.diagnostics()["converged"]))
    assert seen == {(0, 0), (1, 0), (2, 0), (2, 1)}


def test_a_restart_does_not_lose_the_recommendation() -> None:
    """A new run starts far away with large losses: until it is better, the old run's mean is recommended."""
    optimizer = fresh("cmaes", box(2), seed=2)
    while not optimizer.diagnostics().get("restarts"):
        tell_sphere(optimizer, 8)
    for _ in range(4):
        tell_sphere(optimizer, 8)
        recommendation = optimizer.recommend()
        assert recommendation is not None
        assert recommendation.individual is None
        assert sphere(np.array(recommendation.params["x"])) < 1e-12


def test_results_of_an_earlier_run_do_not_enter_the_new_one() -> None:
    """Individuals in flight when a run restarts count as told, and change nothing else."""
    optimizer = fresh("cmaes", box(2), seed=2)
    while not optimizer.diagnostics().get("restarts"):
        late = optimizer.ask(3)
        tell_sphere(optimizer, 8)
    before = json.dumps([optimizer.diagnostics()[key] for key in ("sigma", "waiting", "model_generation")])
    optimizer.tell([Evaluated(s.id, (-1.0,)) for s in late])
    assert before == json.dumps(
        [optimizer.diagnostics()[key] for key in ("sigma", "waiting", "model_generation")]
    )
    assert optimizer.diagnostics()["best_loss"] == -1


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


def test_too_many_dimensions_are_refused() -> None:
    with pytest.raises(OptimizerError, match="at most 2000 dimensions, got 2001"):
        fresh("cmaes", box(2001))


def test_the_largest_floats_are_losses_like_any_other() -> None:
    """Guards against an overflow in the median of two large losses: the score was infinite."""
    optimizer = fresh("cmaes", box(3), population=4)
    optimizer.tell([Evaluated(s.id, (1.7e308,)) for s in optimizer.ask(4)])
    assert restored(optimizer).diagnostics()["median_loss"] == 1.7e308
