"""Latin hypercube: one point in each part of each coordinate, and a lower discrepancy when optimised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from optimizers import OptimizerError
from optimizers.designs.latin_hypercube import latin_hypercube, lower_discrepancy
from tests.optimizers.problems import box, fresh, restored


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.booleans(), st.integers(0, 100))
def test_each_part_of_each_coordinate_holds_one(n: int, d: int, optimised: bool, seed: int) -> None:
    optimizer = fresh("latin_hypercube", box(d, 1.0), seed, samples=n, optimised=optimised)
    rows = []
    while optimizer.stop_reason() is None:
        rows += [s.params["x"] for s in optimizer.ask(7)]
        optimizer = restored(optimizer)
    assert optimizer.ask(3) == []
    places = np.floor((np.array(rows) + 1) / 2 * n).astype(int)
    assert all(sorted(column) == list(range(n)) for column in places.T.tolist())


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 100))
def test_swaps_never_raise_the_discrepancy(n: int, d: int, seed: int) -> None:
    """Each accepted swap lowers it, by the measure of scipy: ten times one swap after the other."""
    points = latin_hypercube(n, d, np.random.default_rng(seed))
    for i in range(10):
        before = qmc.discrepancy(points)
        lower_discrepancy(points, 1, np.random.default_rng(i))
        assert qmc.discrepancy(points) <= before + 1e-12


def test_the_sums_are_kept_right_over_many_swaps() -> None:
    """A swap that the running sums call good is good: what is left after 4000 is nearly scipy's optimum."""
    points = latin_hypercube(50, 3, np.random.default_rng(1))
    plain = qmc.discrepancy(points)
    lower_discrepancy(points, 4000, np.random.default_rng(1))
    best = qmc.LatinHypercube(3, optimization="random-cd", rng=np.random.default_rng(1)).random(50)
    assert qmc.discrepancy(points) < min(plain / 2, 1.2 * qmc.discrepancy(best))


def test_optimised_is_more_even() -> None:
    def spread(optimised: bool) -> float:
        optimizer = fresh("latin_hypercube", box(4, 1.0), samples=60, optimised=optimised)
        return float(qmc.discrepancy((np.array([s.params["x"] for s in optimizer.ask(60)]) + 1) / 2))

    assert spread(True) < spread(False) / 1.5


def test_too_large_designs_are_refused() -> None:
    with pytest.raises(OptimizerError, match="too many"):
        fresh("latin_hypercube", box(11), samples=1_000_000)
