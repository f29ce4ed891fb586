"""Sobol search: counter-based, and the sequence that scipy gives."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from optimizers import OptimizerError
from tests.optimizers.problems import box, fresh, restored

UNIT = box(3, bound=1.0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(0, 2**32))
def test_individual_i_is_a_function_of_seed_and_i(batches: list[int], seed: int) -> None:
    """However they are asked for, and whatever is restored in between; no warning about odd numbers."""
    optimizer = fresh("sobol", UNIT, seed)
    asked = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in batches:
            asked += [s.params["x"] for s in optimizer.ask(n)]
            optimizer = restored(optimizer)
    whole = [s.params["x"] for s in fresh("sobol", UNIT, seed).ask(128)]
    assert asked == whole[: len(asked)]


def test_it_is_the_scrambled_sequence_of_scipy() -> None:
    points = qmc.Sobol(3, scramble=True, rng=np.random.default_rng(4)).random(64)
    asked = np.array([s.params["x"] for s in fresh("sobol", UNIT, 4).ask(64)])
    np.testing.assert_allclose(asked, 2 * points - 1, rtol=0, atol=1e-15)


def test_it_covers_more_evenly_than_random() -> None:
    """Every one of 64 equal intervals of each coordinate holds one of 64 points."""
    asked = np.array([s.params["x"] for s in fresh("sobol", UNIT, 4).ask(64)])
    assert all(len(set(np.floor((column + 1) * 32))) == 64 for column in asked.T)


def test_too_many_dimensions_are_refused() -> None:
    with pytest.raises(OptimizerError, match="at most 21201 dimensions"):
        fresh("sobol", box(21202))
