"""Sobol indices: against the exact ones, against scipy, with failures, and what is reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import sobol_indices as scipy_indices
from scipy.stats import uniform

from optimizers import OptimizerError
from optimizers.base import Evaluated, Optimizer
from optimizers.designs.saltelli import Saltelli, sobol_indices
from optimizers.space import Categorical, Float, Int, Space
from tests.optimizers.problems import fresh, restored

BOX = Space({"x": Float(-np.pi, np.pi, shape=(3,))})
FIRST = [0.3139, 0.4424, 0.0]
TOTAL = [0.5576, 0.4424, 0.2437]


def ishigami(params: dict[str, Any]) -> float:
    """Indices known in closed form (Ishigami and Homma, 1990)."""
    x = params["x"]
    return float(np.sin(x[0]) + 7 * np.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * np.sin(x[0]))


def done(
    optimizer: Optimizer, loss: Callable[[dict[str, Any]], float], fails: Any = ().__contains__
) -> Optimizer:
    """The design, asked in batches, restored between, told newest first."""
    asked = []
    while optimizer.stop_reason() is None:
        asked += optimizer.ask(501)
        optimizer = restored(optimizer)
    assert optimizer.ask(2) == []
    told = [
        Evaluated(s.id, None, "failed") if fails(s.id) else Evaluated(s.id, (loss(s.params),)) for s in asked
    ]
    optimizer.tell(told[len(told) // 2 :])
    assert not any("total/" in name for name in optimizer.diagnostics())
    optimizer = restored(optimizer)
    optimizer.tell(told[: len(told) // 2])
    return restored(optimizer)


def test_the_indices_of_a_known_function_are_found() -> None:
    optimizer = done(fresh("saltelli", BOX, samples=1024), ishigami)
    figures = optimizer.diagnostics()
    assert [figures[f"first_order/x[{i}]"] for i in range(3)] == pytest.approx(FIRST, abs=0.02)
    assert [figures[f"total/x[{i}]"] for i in range(3)] == pytest.approx(TOTAL, abs=0.02)
    assert figures["asked"] == 1024 * 5
    assert figures["base_points_usable_share"] == 1


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_failures_cost_precision_only(share: float) -> None:
    chance = np.random.default_rng(3)
    failed = set(np.flatnonzero(chance.random(2048 * 5) < share).tolist())
    figures = done(fresh("saltelli", BOX, samples=2048), ishigami, failed.__contains__).diagnostics()
    assert [figures[f"first_order/x[{i}]"] for i in range(3)] == pytest.approx(FIRST, abs=0.04)
    assert [figures[f"total/x[{i}]"] for i in range(3)] == pytest.approx(TOTAL, abs=0.04)
    assert figures["base_points_usable_share"] == pytest.approx((1 - share) ** 5, abs=0.03)


def test_it_is_what_scipy_computes() -> None:
    """The same estimators on the same losses; also when they are far from zero, huge or tiny."""
    chance = np.random.default_rng(1)
    a, b, ab = chance.random(64), chance.random(64), chance.random((64, 3))
    values = {"f_A": a[None], "f_B": b[None], "f_AB": ab.T[:, None]}
    expected = scipy_indices(func=values, n=64, dists=[uniform()] * 3)
    for scale, shift in ((1.0, 0.0), (1e300, 0.0), (1e-300, 0.0), (1.0, 1e3)):
        first, total = sobol_indices(a * scale + shift, b * scale + shift, ab * scale + shift)
        assert first == pytest.approx(np.ravel(expected.first_order), abs=1e-9)
        assert total == pytest.approx(np.ravel(expected.total_order), abs=1e-9)


def test_the_design_is_saltellis() -> None:
    """A, B and, for each coordinate, A with that one of B; A and B fill the cube evenly."""
    space = Space({"x": Float(0.0, 1.0, shape=(2,))})
    asked = np.array([s.params["x"] for s in fresh("saltelli", space, samples=16).ask(64)]).reshape(16, 4, 2)
    a, b = asked[:, 0], asked[:, 1]
    assert (asked[:, 2] == np.stack([b[:, 0], a[:, 1]], axis=1)).all()
    assert (asked[:, 3] == np.stack([a[:, 0], b[:, 1]], axis=1)).all()
    for column in np.concatenate([a, b], axis=1).T:
        assert sorted(np.floor(column * 16)) == list(range(16))


def test_discrete_parameters_and_names() -> None:
    """A choice that decides everything, one that does nothing."""
    space = Space({"n": Int(1, 2), "c": Categorical(["a", "b", "c"]), "w": Float(0, 1, shape=(1, 2))})
    figures = done(fresh("saltelli", space), lambda p: {"a": 0.0, "b": 1.0, "c": 2.0}[p["c"]]).diagnostics()
    assert figures["total/c"] == pytest.approx(1, abs=0.2)
    assert {name: figures[name] for name in ("total/n", "total/w[0][0]", "total/w[0][1]")} == {
        "total/n": 0,
        "total/w[0][0]": 0,
        "total/w[0][1]": 0,
    }


def test_at_most_a_hundred_coordinates_are_reported() -> None:
    """Those with the largest total indices; `indices` has them all."""
    space = Space({"x": Float(-1, 1, shape=(130,))})
    optimizer = done(fresh("saltelli", space, samples=8), lambda p: float(np.dot(p["x"], np.arange(130))))
    figures = optimizer.diagnostics()
    assert isinstance(optimizer, Saltelli)
    found = optimizer.indices()
    assert found is not None
    reported = {i for i in range(130) if f"total/x[{i}]" in figures}
    assert len(reported) == 100
    assert figures["coordinates_left_out"] == 30
    assert found[1][0, sorted(reported)].min() >= np.delete(found[1][0], sorted(reported)).max()


def test_losses_that_do_not_vary_have_no_indices() -> None:
    figures = done(fresh("saltelli", BOX, samples=8), lambda _: 3.0).diagnostics()
    assert not any("total/" in name for name in figures)
    figures = done(fresh("saltelli", BOX, samples=8), ishigami, lambda i: i % 5 == 0).diagnostics()
    assert not any("total/" in name for name in figures)
    assert figures["base_points_usable_share"] == 0


def test_several_objectives_have_indices_each() -> None:
    optimizer = Saltelli(BOX, 2, {"samples": 256}, 1)
    asked = optimizer.ask(256 * 5)
    optimizer.tell([Evaluated(s.id, (ishigami(s.params), s.params["x"][2])) for s in asked])
    figures = optimizer.diagnostics()
    assert figures["total/x[1]/0"] == pytest.approx(TOTAL[1], abs=0.05)
    assert figures["total/x[2]/1"] == pytest.approx(1, abs=0.05)
    assert figures["total/x[0]/1"] == 0


def test_samples_must_be_a_power_of_two() -> None:
    with pytest.raises(OptimizerError, match="power of two"):
        fresh("saltelli", BOX, samples=100)
    with pytest.raises(OptimizerError, match="at most 10000000"):
        fresh("saltelli", BOX, samples=2**22)
