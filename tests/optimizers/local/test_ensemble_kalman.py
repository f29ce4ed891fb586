"""Ensemble Kalman inversion: the formula, the choice of gamma, replacement, mini-batches, a small network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers import OptimizerError
from optimizers.base import Evaluated, Observation, Suggestion
from optimizers.local.ensemble_kalman import EnsembleKalman, adapted
from optimizers.space import Float, Space
from tests.optimizers.problems import fresh, restored

Array = npt.NDArray[np.float64]
CUBE = Space({"x": Float(0.0, 1.0, shape=(3,))})
MATRIX = np.random.Generator(np.random.PCG64(4)).standard_normal((6, 3))
TRUTH = np.array([0.4, 0.6, 0.55])


def linear(x: Array) -> Array:
    return np.asarray((MATRIX @ x).reshape(2, 3))  # two evaluations of three outputs


def told(s: Suggestion, model: Callable[[Array], Array] = linear, factor: float = 1.0) -> Evaluated:
    outputs, targets = model(np.array(s.params["x"])), model(TRUTH)
    loss = float(((outputs - targets) ** 2).mean())
    return Evaluated(s.id, (loss,), measures={"outputs": factor * outputs, "targets": factor * targets})


def genomes(suggestions: list[Suggestion]) -> Array:
    return np.array([s.params["x"] for s in suggestions])


def in_order(members: Array) -> Array:
    return np.array(sorted(members.tolist()))


def filtered(u: Array, gamma: float) -> Array:
    """Kalman's formula as it is written, in the space of outputs."""
    p, y = u @ MATRIX.T, MATRIX @ TRUTH
    du, dp = u - u.mean(axis=0), p - p.mean(axis=0)
    gain = (du.T @ dp / len(u)) @ np.linalg.inv(dp.T @ dp / len(u) + gamma * np.eye(6))
    return np.asarray(u + (y - p) @ gain.T)


def test_an_update_is_kalmans_formula() -> None:
    """Also when the generation is told in parts and restored in between."""
    optimizer = fresh("ensemble_kalman", CUBE, gamma=0.7)
    asked = optimizer.ask(12)
    optimizer.tell([told(s) for s in asked[5:]])
    optimizer = restored(optimizer)
    optimizer.tell([told(s) for s in asked[:5]])
    expected = np.clip(filtered(genomes(asked), 0.7), 0, 1)
    assert in_order(genomes(optimizer.ask(12))) == pytest.approx(in_order(expected), abs=1e-9)
    assert optimizer.diagnostics()["gamma"] == 0.7


@pytest.mark.parametrize("options", [{}, {"gamma": 0.01}, {"perturbed": True}, {"inflation": 1.02}])
def test_the_solution_of_a_linear_problem_is_found(options: dict[str, Any]) -> None:
    optimizer = fresh("ensemble_kalman", CUBE, **options)
    for _ in range(40):
        optimizer.tell([told(s) for s in optimizer.ask(20)])
    recommendation = optimizer.recommend()
    assert recommendation is not None
    assert recommendation.individual is None
    assert recommendation.params["x"] == pytest.approx(TRUTH, abs=0.03)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.integers(1, 12), st.floats(0.05, 0.95), st.integers(0, 10**6))
def test_an_adapted_gamma_leaves_the_wanted_residual(k: int, p: int, reduction: float, seed: int) -> None:
    """Of what the ensemble can change: the residual's part in the span of the deviations."""
    chance = np.random.default_rng(seed)
    outputs, residual = chance.standard_normal((k, p)), chance.standard_normal(p)
    a = (outputs - outputs.mean(axis=0)) / np.sqrt(k)
    gamma = adapted(a @ a.T, a @ residual, reduction)
    inside = np.linalg.pinv(a, rcond=1e-7) @ a @ residual
    left = inside - a.T @ np.linalg.solve(a @ a.T + gamma * np.eye(k), a @ inside)
    assert np.linalg.norm(left) == pytest.approx(reduction * np.linalg.norm(inside), rel=1e-3)


def test_the_scale_of_the_outputs_does_not_matter_when_gamma_is_adapted() -> None:
    ends = []
    for factor in (1.0, 2.0**40, 2.0**-40, 1e200):
        optimizer = fresh("ensemble_kalman", CUBE)
        with np.errstate(all="raise", under="ignore"):
            for _ in range(5):
                optimizer.tell([told(s, factor=factor) for s in optimizer.ask(10)])
        ends.append(genomes(optimizer.ask(10)))
    assert (ends[0] == ends[1]).all()
    assert (ends[0] == ends[2]).all()
    assert ends[0] == pytest.approx(ends[3], abs=1e-6)


def test_outputs_that_are_all_equal_move_nobody() -> None:
    optimizer = fresh("ensemble_kalman", CUBE)
    first = optimizer.ask(6)
    optimizer.tell([told(s, model=lambda x: np.ones((1, 2)) * (len(x) == 3)) for s in first])
    assert sorted(genomes(optimizer.ask(6)).tolist()) == sorted(genomes(first).tolist())
    assert optimizer.diagnostics()["updates"] == 0


def test_failed_members_are_replaced_around_the_best() -> None:
    optimizer = fresh("ensemble_kalman", CUBE, gamma=1e9, noise=0.0)  # nobody moves
    asked = optimizer.ask(10)
    results = [Evaluated(s.id, None, "failed") if s.id in (2, 5) else told(s) for s in asked]
    optimizer.tell(results)
    losses = {one.id: one.losses[0] for one in results if one.losses}
    best = genomes(asked)[min(losses, key=lambda i: losses[i])]
    after = genomes(optimizer.ask(10))
    assert len(after) == 10
    assert [np.allclose(x, best, atol=1e-6) for x in after].count(True) == 3
    kept = np.delete(genomes(asked), [2, 5], axis=0)
    assert in_order(after[:8]) == pytest.approx(in_order(kept), abs=1e-6)


def test_the_worst_are_replaced_around_the_best() -> None:
    optimizer = fresh("ensemble_kalman", CUBE, gamma=1e9, replace=0.3, best=0.1, noise=0.01)
    asked = optimizer.ask(10)
    optimizer.tell([told(s) for s in asked])
    order = sorted(range(10), key=lambda i: told(asked[i]).losses or ())
    after = genomes(optimizer.ask(10))
    assert in_order(after[:7]) == pytest.approx(in_order(genomes(asked)[order[:7]]), abs=1e-6)
    assert np.abs(after[7:] - genomes(asked)[order[0]]).max() < 0.03
    assert len({tuple(x) for x in after[7:]}) == 3


def test_members_with_another_number_of_outputs_are_not_used() -> None:
    optimizer = fresh("ensemble_kalman", CUBE, gamma=0.5, noise=0.0)
    asked = optimizer.ask(9)
    short = [told(s, model=lambda x: linear(x)[:1]) for s in asked[:2]]
    optimizer.tell([*short, *(told(s) for s in asked[2:])])
    assert optimizer.diagnostics()["unusable"] == 2
    expected = np.clip(filtered(genomes(asked[2:]), 0.5), 0, 1)
    assert in_order(genomes(optimizer.ask(7))) == pytest.approx(in_order(expected), abs=1e-9)


def test_late_members_of_an_earlier_generation_are_not_used() -> None:
    """They may have seen another mini-batch. Spare members are asked meanwhile, so nothing waits for them."""
    optimizer = fresh("ensemble_kalman", CUBE, population=6)
    first = optimizer.ask(6)
    optimizer.tell([told(s) for s in first[:5]])
    spare = optimizer.ask(2)
    optimizer.tell([told(s) for s in spare])
    assert optimizer.diagnostics()["updates"] == 1
    optimizer.tell([told(first[5])])
    assert optimizer.diagnostics()["waiting"] == 0


def test_outputs_and_targets_must_have_one_shape() -> None:
    optimizer = fresh("ensemble_kalman", CUBE)
    s = optimizer.ask(5)[0]
    before = optimizer.state()
    wrong = Evaluated(s.id, (1.0,), measures={"outputs": np.ones((2, 3)), "targets": np.ones((1, 3))})
    with pytest.raises(OptimizerError, match=r"outputs of shape \(2, 3\), but targets of shape \(1, 3\)"):
        optimizer.tell([wrong])
    assert optimizer.state() == before


def test_metrics_are_named_by_the_options() -> None:
    cls = EnsembleKalman
    assert cls.measures(cls.Options.model_validate({"outputs": "a", "targets": "b"})) == ("a", "b")
    with pytest.raises(OptimizerError, match="two metrics"):
        fresh("ensemble_kalman", CUBE, outputs="a", targets="a")


def test_observed_individuals_are_first_members() -> None:
    optimizer = fresh("ensemble_kalman", CUBE)
    optimizer.observe([Observation({"x": [i / 10] * 3}, (float(9 - i),)) for i in range(10)])
    assert genomes(optimizer.ask(6)[:2]) == pytest.approx(np.array([[0.9] * 3, [0.8] * 3]))
    assert len(optimizer.ask(6)) == 6


def test_a_network_learns_to_classify() -> None:
    """Softmax regression, three noisy patterns of 64 pixels, 195 weights: the mean of 80 members after 15
    generations, each with new images."""
    chance = np.random.Generator(np.random.PCG64(1))
    labels = chance.integers(0, 3, 800)
    pixels = chance.random((3, 64))[labels] - 0.5 + 0.5 * chance.standard_normal((800, 64))
    images = np.concatenate([pixels, np.ones((800, 1))], axis=1)
    train, test = np.arange(400), np.arange(400, 800)
    space = Space({"w": Float(-2.0, 2.0, shape=(195,), default=0.0)})

    def scores(weights: Array, chosen: npt.NDArray[np.int64]) -> Array:
        z = images[chosen] @ weights.reshape(65, 3)
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))

    optimizer = fresh("ensemble_kalman", space, start="default", spread=0.05)
    for _ in range(15):
        batch = chance.choice(train, 32, replace=False)
        wanted = np.eye(3)[labels[batch]]
        results = []
        for s in optimizer.ask(80):
            found = scores(np.array(s.params["w"]), batch)
            loss = float(((found - wanted) ** 2).mean())
            results.append(Evaluated(s.id, (loss,), measures={"outputs": found, "targets": wanted}))
        optimizer.tell(results)
    recommendation = optimizer.recommend()
    assert recommendation is not None
    found = scores(np.array(recommendation.params["w"]), test)
    assert (found.argmax(axis=1) == labels[test]).mean() > 0.9
