"""Whole numbers and choices in CMA-ES: the margin that keeps them searched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from optimizers.base import Evaluated
from optimizers.bins import bin_width, bins, discrete, least_std
from optimizers.bounds import to_unit
from optimizers.cma.cmaes import CMAES
from optimizers.cma.integers import keep_margin
from optimizers.cma.model import Model
from optimizers.space import Categorical, Float, Int, Space
from tests.optimizers.problems import fresh, restored, sphere

MIXED = Space({"x": Float(0, 1), "n": Int(1, 7), "k": Int(1, 500, log=True), "c": Categorical([1, 2, 3]),
               "b": Categorical([False, True])})  # fmt: skip


def test_bin_widths_are_those_of_the_space() -> None:
    """Against the space itself: walking half a width less from the middle of a bin stays in it."""
    space = Space({"x": Float(0, 1), "n": Int(1, 7), "k": Int(1, 500, log=True), "c": Categorical([1, 2, 3])})
    for unit in np.random.default_rng(1).random((10, 4)):
        width = bin_width(space, unit)
        assert width[0] == 0
        assert width[[1, 3]].tolist() == pytest.approx([1 / 7, 1 / 3])
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


@settings(deadline=None)
@given(
    mean=st.lists(st.floats(-1.5, 2.5), min_size=5, max_size=5),
    sigma=st.sampled_from([1e-9, 1e-3, 0.02, 0.1, 0.3]),
    alpha=st.sampled_from([0.2, 0.01, 1e-4]),
)
def test_every_bin_is_left_with_the_margin(mean: list[float], sigma: float, alpha: float) -> None:
    """Towards each neighbour with alpha / 2, where there is only one with alpha; the value stays the same;
    what is wide enough stays as it is."""
    model = Model.start(np.array(mean), sigma)
    before = to_unit(model.mean)
    keep_margin(model, MIXED, discrete(MIXED), alpha)
    after, std = to_unit(model.mean), model.std()
    assert MIXED.decode(np.append(before[0], after[1:])) == MIXED.decode(before)
    assert model.mean[0] == mean[0]
    assert std[0] == pytest.approx(sigma)
    low, high = bins(MIXED, after)
    exact = 1 - 1e-6 - 1e-14 / sigma  # ends and means are rounded, at distances counted in sigmas
    for i in range(1, 5):
        # In the bins used here the transformation at the bounds is monotone: compare in the genome.
        ends = [from_end(low[i]), from_end(high[i])]
        left = norm.cdf(ends[0], model.mean[i], std[i]) if low[i] > 1e-9 else None
        right = norm.sf(ends[1], model.mean[i], std[i]) if high[i] < 1 - 1e-9 else None
        if left is None or right is None:
            assert max(left or 0, right or 0) >= alpha * exact
        else:
            assert min(left, right) >= alpha / 2 * exact
    again = Model.start(model.mean, model.sigma)
    again.spread = model.spread
    keep_margin(again, MIXED, discrete(MIXED), alpha)
    np.testing.assert_allclose(again.mean, model.mean, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(again.spread, model.spread, rtol=1e-5)


def from_end(unit: float) -> float:
    """The genome of the end of a bin, by bisection of `to_unit`."""
    low, high = -0.05, 1.05
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if to_unit(np.array([middle]))[0] < unit else (low, middle)
    return low


def test_the_margin_is_that_of_the_library() -> None:
    """Against cmaes.CMAwM, bins of width 0.1, all but the outer ones of which have no curved bounds."""
    library = pytest.importorskip("cmaes").CMAwM
    n, alpha = 6, 1 / 48
    rng = np.random.default_rng(2)
    space = Space({"n": Int(0, 9, shape=(n,))})
    bounds, steps = np.tile([0.05, 0.95], (n, 1)), np.full(n, 0.1)
    for _ in range(20):
        mean, sigma = rng.uniform(0.06, 0.94, n), 10 ** rng.uniform(-4, -1)
        oracle: Any = library(mean.copy(), sigma, bounds, steps, population_size=8, margin=alpha)
        oracle._cma.tell = lambda _: None  # the step itself is not compared
        oracle.tell([])
        model = Model.start(mean, sigma)
        keep_margin(model, space, discrete(space), alpha)
        np.testing.assert_allclose(model.mean, oracle._cma._mean, atol=1e-9)
        np.testing.assert_allclose(model.spread, oracle._A, rtol=1e-6)


def test_the_margin_finds_whole_numbers_sooner_than_a_floor_does() -> None:
    """Sphere over 20 whole numbers from -10 to 10, median evaluations of three seeds."""
    space = Space({"n": Int(-10, 10, shape=(20,))})
    target = np.random.default_rng(5).integers(-9, 10, 20)

    def effort(seed: int, integers: str) -> int:
        optimizer = fresh("cmaes", space, seed, population=12, start="random")
        assert isinstance(optimizer, CMAES)
        optimizer._integers = integers
        for used in range(12, 4000, 12):
            asked = optimizer.ask(12)
            losses = [float(((np.array(s.params["n"]) - target) ** 2).sum()) for s in asked]
            if min(losses) == 0:
                return used
            optimizer.tell([Evaluated(s.id, (loss,)) for s, loss in zip(asked, losses, strict=True)])
        return 4000

    margin, floor = (np.median([effort(seed, kind) for seed in range(3)]) for kind in ("margin", "floor"))
    assert margin < 0.7 * floor, (margin, floor)


def test_states_with_a_floor_keep_it() -> None:
    """So that states of version 1 go on as before."""
    optimizer = fresh("cmaes", Space({"n": Int(0, 9, shape=(2,))}), population=4)
    assert isinstance(optimizer, CMAES)
    optimizer._integers = "floor"
    again = restored(optimizer)
    assert isinstance(again, CMAES)
    for _ in range(30):
        again.tell([Evaluated(s.id, (sphere(np.array(s.params["n"])),)) for s in again.ask(4)])
    assert again._model.spread.tolist() == [1.0]
    assert restored(again).diagnostics()["std_min"] > 0.02
