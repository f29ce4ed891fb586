"""The Parzen estimator: densities that are densities, choices, pending individuals, quality."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.base import Evaluated
from optimizers.bins import Bins
from optimizers.models.tpe import TPE, Mixture
from optimizers.space import Categorical, Float, Int, Ordinal, Space
from tests.optimizers.problems import (
    MIXED,
    box,
    evaluated,
    fresh,
    minimise,
    mixed_loss,
    search_mixed,
    sphere,
)

SMALL = Space(
    {
        "n": Int(1, 4),
        "w": Int(1, 30, log=True),
        "c": Categorical(["a", "b", "c"]),
        "o": Ordinal([1, 2, 4]),
    }
)


def tpe(space: Space, **options: Any) -> TPE:
    made = fresh("tpe", space, **options)
    assert isinstance(made, TPE)
    return made


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 6), st.integers(0, 2**20), st.booleans())
def test_the_probabilities_of_a_discrete_space_sum_to_one(k: int, seed: int, multivariate: bool) -> None:
    """Over all its points; for coordinates alone, over each."""
    rng = np.random.Generator(np.random.PCG64(seed))
    bins = Bins(SMALL)
    mixture = Mixture(bins.snap(rng.random((k, 4))), bins, multivariate)
    axes = [
        [SMALL.encode({"n": 1, "w": 1, "c": "a", "o": 1, n: v})[i] for v in values]
        for i, (n, values) in enumerate(
            {"n": range(1, 5), "w": range(1, 31), "c": "abc", "o": (1, 2, 4)}.items()
        )
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 4)
    density = np.exp(mixture.log_density(points))
    if multivariate:
        assert density.sum() == pytest.approx(1)
    for i in range(0 if multivariate else 4):
        others = len(points) / len(axes[i])
        assert density[:, i].sum() / others == pytest.approx(1)


@pytest.mark.parametrize("multivariate", [True, False])
def test_what_is_drawn_has_the_density(multivariate: bool) -> None:
    """A real and a choice: the density integrates to one, and draws have its mean and frequencies."""
    space = Space({"x": Float(0, 1), "c": Categorical(["a", "b", "c"])})
    bins = Bins(space)
    points = np.array([[0.1, 1 / 6], [0.15, 1 / 6], [0.9, 5 / 6]]).repeat(20, axis=0)
    mixture = Mixture(points, bins, multivariate)
    x = (np.arange(400) + 0.5) / 400
    choices = np.array([1, 3, 5]) / 6
    grid = np.stack(np.meshgrid(x, choices, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(mixture.log_density(grid))
    weights = (density[:, 0] if multivariate else density.prod(axis=1)) / 400
    assert weights.sum() == pytest.approx(1, abs=1e-4)
    drawn = mixture.draw(20_000, np.random.Generator(np.random.PCG64(1)))
    assert drawn[:, 0].mean() == pytest.approx((weights * grid[:, 0]).sum(), abs=0.01)
    for choice in choices:
        expected = weights[grid[:, 1] == choice].sum()
        share = np.isclose(drawn[:, 1], choice).mean()
        assert share == pytest.approx(expected, abs=0.015)
    # Only the multivariate mixture knows that large x come with choice c.
    third = np.isclose(drawn[:, 1], choices[2])
    apart = drawn[third, 0].mean() - drawn[~third, 0].mean()
    assert apart > 0.2 if multivariate else abs(apart) < 0.05


def test_a_choice_has_no_order() -> None:
    """Good ones are a and c; b, which lies between them, is not taken for it."""
    space = Space({"c": Categorical(["a", "b", "c"]), "x": Float(0, 1)})
    optimizer = tpe(space, initial=30)
    optimizer.tell([evaluated(optimizer, s, float(s.params["c"] == "b")) for s in optimizer.ask(30)])
    counts = [s.params["c"] for s in optimizer.ask(40)].count("b")
    assert counts < 10


def test_pending_individuals_repel_others() -> None:
    optimizer = tpe(Space({"n": Int(1, 60)}))
    optimizer.tell([evaluated(optimizer, s, float((s.params["n"] - 20) ** 2)) for s in optimizer.ask(10)])
    values = [s.params["n"] for _ in range(5) for s in optimizer.ask(5)]
    assert len(set(values)) == 25


def test_infeasible_ones_lead_to_feasible_ones() -> None:
    """Everything is infeasible but for a corner: the violation shows the way; failed ones are not good."""
    optimizer = tpe(box(2))
    late = []
    for generation in range(25):
        told = []
        for s in optimizer.ask(6):
            x = np.array(s.params["x"])
            away = float(np.abs(x - 4).sum())
            if x[0] < -3:
                told.append(Evaluated(s.id, None, "failed"))
            elif away > 1:
                told.append(Evaluated(s.id, None, "infeasible", violation=away))
            else:
                told.append(evaluated(optimizer, s, away))
            if generation >= 15:
                late.append(away)
        optimizer.tell(told)
    assert optimizer.best() is not None
    assert np.median(late) < 2


def test_better_than_random() -> None:
    runs = {
        name: [minimise(fresh(name, box(5), seed), lambda x: sphere(x - 2), 150, 5) for seed in range(3)]
        for name in ("tpe", "random")
    }
    assert np.median(runs["tpe"]) < np.median(runs["random"]) / 4


def test_a_mixed_space_is_searched_better_than_by_chance() -> None:
    lowest = {
        name: min(map(mixed_loss, search_mixed(fresh(name, MIXED), 25, 6))) for name in ("tpe", "random")
    }
    assert lowest["tpe"] < lowest["random"] - 1, lowest
