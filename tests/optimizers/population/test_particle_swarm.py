"""The particle swarm: the update formula, who informs whom, bounds, asynchronous flights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from optimizers.base import Evaluated, Observation, Optimizer
from tests.optimizers.problems import (
    arrays_of,
    best_in_steady_state,
    box,
    fresh,
    minimise,
    rosenbrock,
)


def make(dimension: int = 3, swarm: int | None = 6, seed: int = 1, **options: Any) -> Optimizer:
    return fresh("particle_swarm", box(dimension, 1.0), seed, swarm=swarm, **options)


def tell(optimizer: Optimizer, losses: dict[int, float | None]) -> None:
    optimizer.tell(
        [Evaluated(i, None, "failed") if v is None else Evaluated(i, (v,)) for i, v in losses.items()]
    )


@pytest.mark.parametrize("topology", ["ring", "global"])
@pytest.mark.parametrize("in_flight", [1, 6, 30])
def test_steady_state_converges_with_any_number_in_flight(topology: str, in_flight: int) -> None:
    """One told, one asked, oldest first: 900 evaluations in 3-D; random search stays above 0.003."""
    optimizer = make(swarm=10, topology=topology)
    assert best_in_steady_state(optimizer, in_flight, 900) < 1e-3


def test_a_move_is_inertia_and_two_pulls() -> None:
    """v' = w v + c1 r1 (p - x) + c2 r2 (g - x) with r in [0, 1]: per coordinate within those bounds."""
    optimizer = make(dimension=40, swarm=4, inertia=0.5, cognitive=0.3, social=0.2)
    optimizer.ask(4)
    tell(optimizer, {0: 3.0, 1: 1.0, 2: 2.0, 3: 4.0})
    for losses in ((9.0, 9.0, 9.0, 9.0), (9.0, 9.0, 9.0, 9.0)):
        before = arrays_of(optimizer)
        asked = [s.id for s in optimizer.ask(4)]
        after = arrays_of(optimizer)
        x, v = before["positions"], before["velocities"]
        cognitive = 0.3 * (before["genomes"] - x)
        social = 0.2 * (before["genomes"][1] - x)
        low = 0.5 * v + np.minimum(cognitive, 0) + np.minimum(social, 0)
        high = 0.5 * v + np.maximum(cognitive, 0) + np.maximum(social, 0)
        moved = after["positions"] - x
        inside = (after["positions"] > 0) & (after["positions"] < 1)
        assert inside.mean() > 0.5
        assert (moved >= low - 1e-12)[inside].all()
        assert (moved <= high + 1e-12)[inside].all()
        assert np.ptp(((moved - low) / (high - low + 1e-300))[inside & (high - low > 1e-6)]) > 0.5
        tell(optimizer, dict(zip(asked, losses, strict=True)))


@pytest.mark.parametrize(
    ("topology", "expected"), [("global", [2, 2, 2, 2, 2, 2]), ("ring", [5, 2, 2, 2, 5, 5])]
)
def test_who_informs_whom(topology: str, expected: list[int]) -> None:
    optimizer = make(swarm=6, topology=topology)
    optimizer.ask(6)
    tell(optimizer, {0: 9.0, 1: 8.0, 2: 1.0, 3: 7.0, 4: 6.0, 5: 2.0})
    assert optimizer._informants().tolist() == expected  # type: ignore[attr-defined]


def test_free_particles_fly_first_and_best_points_are_theirs() -> None:
    """Particles take turns; with all of them under way, the first flies on."""
    optimizer = make(swarm=4)
    optimizer.ask(4)
    tell(optimizer, {2: 5.0, 3: 1.0})
    optimizer.ask(2)
    assert arrays_of(optimizer)["flights"].tolist() == [[0, 0], [1, 1], [4, 2], [5, 3]]
    optimizer.ask(3)
    assert arrays_of(optimizer)["flights"][4:].tolist() == [[6, 0], [7, 1], [8, 2]]
    tell(optimizer, {8: 3.0, 0: 2.0, 4: 4.0})
    arrays = arrays_of(optimizer)
    assert arrays["ids"].tolist() == [0, -1, 8, 3]
    assert arrays["losses"].tolist() == [2.0, np.inf, 3.0, 1.0]


def test_best_points_follow_debs_rule() -> None:
    optimizer = make(swarm=3)
    optimizer.ask(3)
    optimizer.tell(
        [
            Evaluated(0, None, "infeasible", violation=2.0),
            Evaluated(1, None, "infeasible", violation=1.0),
            Evaluated(2, None, "failed"),
        ]
    )
    optimizer.ask(3)
    optimizer.tell(
        [Evaluated(3, None, "infeasible", violation=3.0), Evaluated(4, (1e9,)), Evaluated(5, None, "failed")]
    )
    assert arrays_of(optimizer)["ids"].tolist() == [0, 4, -1]
    assert optimizer._informants().tolist() == [1, 1, 1]  # type: ignore[attr-defined]


def test_among_failures_only_the_search_stays_uniform() -> None:
    optimizer = make(dimension=2, swarm=5)
    points = []
    for _ in range(60):
        asked = optimizer.ask(5)
        points += [s.params["x"] for s in asked]
        tell(optimizer, {s.id: None for s in asked})
    assert np.abs(np.array(points[100:])).max() > 0.9
    assert np.std(points[-100:]) == pytest.approx(2 / np.sqrt(12), rel=0.15)


def test_particles_bounce_off_the_bounds() -> None:
    optimizer = make(dimension=2, swarm=5)
    for _ in range(25):
        before = arrays_of(optimizer)
        asked = optimizer.ask(5)
        after = arrays_of(optimizer)
        if len(before["positions"]):
            at = (after["positions"] == 0) | (after["positions"] == 1)
            outwards = after["velocities"] * np.where(after["positions"] == 0, -1, 1)
            assert (outwards[at] <= 0).all()
        tell(optimizer, {s.id: -sum(s.params["x"]) for s in asked})
    assert optimizer.diagnostics()["best_loss"] < -1.99


def test_what_was_observed_draws_the_swarm() -> None:
    """Before the first ask and later; the worst best points give way."""
    optimizer = make(dimension=2, swarm=4)
    optimizer.observe([Observation({"x": [0.5, 0.5]}, (float(loss),)) for loss in (9, 1, 5, 7, 3)])
    optimizer.ask(4)
    assert arrays_of(optimizer)["losses"].tolist() == [1.0, 3.0, 5.0, 7.0]
    optimizer.observe([Observation({"x": [-0.5, 0.5]}, (float(loss),)) for loss in (2, 8, 4)])
    assert sorted(arrays_of(optimizer)["losses"].tolist()) == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("topology", ["ring", "global"])
def test_better_than_random(topology: str) -> None:
    """100 evaluations per dimension on Rosenbrock's function in 5-D: by a decade in the median."""

    def median(name: str, **options: Any) -> float:
        return float(
            np.median([minimise(fresh(name, box(5), s, **options), rosenbrock, 500, 10) for s in range(5)])
        )

    assert median("particle_swarm", topology=topology) < median("random") / 10
