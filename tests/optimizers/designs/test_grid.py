"""The grid: complete, without repeats, in an order that is even when it is stopped early."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers import OptimizerError
from optimizers.base import Optimizer
from optimizers.designs.grid import levels, permuted
from optimizers.space import Categorical, Fixed, Float, Int, Ordinal, Space
from tests.optimizers.problems import box, fresh, restored

SPACE = Space(
    {
        "rate": Float(1e-3, 1.0, log=True),
        "x": Float(-1.0, 1.0, shape=(2,)),
        "n": Int(1, 3),
        "c": Categorical(["a", "b"]),
        "o": Ordinal([1, 10, 100]),
        "f": Fixed(7),
    }
)


def asked(optimizer: Optimizer, batch: int) -> list[dict[str, Any]]:
    """All individuals of a design."""
    params: list[dict[str, Any]] = []
    while optimizer.stop_reason() is None:
        params += [s.params for s in optimizer.ask(batch)]
        optimizer = restored(optimizer)
    assert optimizer.ask(1) == []
    return params


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_the_order_is_a_permutation(n: int, seed: int) -> None:
    keys = np.random.PCG64(seed).random_raw(8)
    order = permuted(np.arange(n, dtype=np.uint64), n, keys)
    assert sorted(order.tolist()) == list(range(n))


def test_every_combination_comes_once() -> None:
    found = asked(fresh("grid", SPACE, points={"rate": 4, "x": 3}), 17)
    expected = {
        json.dumps([rate, list(x), n, c, o])
        for rate, x, n, c, o in itertools.product(
            [1e-3, 1e-2, 1e-1, 1.0],
            itertools.product([-1.0, 0.0, 1.0], repeat=2),
            [1, 2, 3],
            ["a", "b"],
            [1, 10, 100],
        )
    }
    texts = [
        json.dumps(
            [
                min([1e-3, 1e-2, 1e-1, 1.0], key=lambda r: abs(math.log(r / p["rate"]))),
                p["x"],
                p["n"],
                p["c"],
                p["o"],
            ]
        )
        for p in found
    ]
    assert len(found) == len(expected) == 648
    assert set(texts) == expected
    assert {round(p["rate"], 9) for p in found} == {1e-3, 1e-2, 1e-1, 1.0}


@pytest.mark.parametrize(
    ("parameter", "points", "values"),
    [
        (Int(0, 100), 5, [0, 25, 50, 75, 100]),
        (Int(0, 3), 5, [0, 1, 2, 3]),
        (Int(1, 1000, log=True), 4, [1, 10, 100, 1000]),
        (Int(1, 4, log=True), 9, [1, 2, 3, 4]),
        (Int(0, 100), 1, [50]),
        (Float(0.0, 8.0), 1, [4.0]),
        (Float(0.0, 8.0), 3, [0.0, 4.0, 8.0]),
        (Categorical(["a", "b", "c"]), 2, ["a", "b", "c"]),
    ],
)
def test_levels_of_a_parameter(parameter: Any, points: int, values: list[Any]) -> None:
    assert [parameter.decode(np.array([u])) for u in levels(parameter, points)] == values


def test_a_grid_that_is_stopped_early_is_even() -> None:
    """A tenth of 1000 points: every value of every coordinate about as often as the others."""
    optimizer = fresh("grid", box(3), points=10)
    x = np.array([s.params["x"] for s in optimizer.ask(100)])
    for column in x.T:
        counts = np.unique(column, return_counts=True)[1]
        assert len(counts) == 10
        assert counts.max() <= 20


def test_what_cannot_be_a_grid_is_refused() -> None:
    with pytest.raises(OptimizerError, match="11390625 individuals, at most 10000000"):
        fresh("grid", box(6), points=15)
    assert fresh("grid", box(7), points=10).ask(3)
    for name in ("y", "c", "f"):
        with pytest.raises(OptimizerError, match=f"'{name}' is no free number"):
            fresh("grid", SPACE, points={name: 3})
    for wrong in (0, {"rate": 0}, "many"):
        with pytest.raises(OptimizerError, match="points"):
            fresh("grid", SPACE, points=wrong)
