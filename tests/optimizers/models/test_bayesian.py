"""Bayesian optimization: quality, trust region, pending and failed individuals, choices, its limits."""

from __future__ import annotations

import numpy as np
import pytest

from optimizers import OptimizerError
from optimizers.base import Evaluated
from optimizers.bins import Bins
from optimizers.models.bayesian import _SMALLEST_LENGTH, Bayesian, _standardised
from optimizers.models.points import best_and_newest
from optimizers.space import Categorical, Float, Int, Space
from tests.optimizers.problems import (
    MIXED,
    Loss,
    box,
    ellipsoid,
    evaluated,
    fresh,
    minimise,
    mixed_loss,
    search_mixed,
    sphere,
)


def bayesian(space: Space, seed: int = 1, **options: object) -> Bayesian:
    made = fresh("bayesian", space, seed, **options)
    assert isinstance(made, Bayesian)
    return made


@pytest.mark.parametrize(("loss", "decades"), [(sphere, 1.0), (ellipsoid, 1.5)])
def test_better_than_cmaes_and_random_with_a_small_budget(loss: Loss, decades: float) -> None:
    """30 evaluations per dimension, in 5-D, the optimum at another place for each seed: median over the seeds
    of log10 of the lowest loss."""

    def median(name: str) -> float:
        runs = []
        for seed in range(2):
            shift = np.random.Generator(np.random.PCG64(100 + seed)).uniform(-3, 3, 5)
            runs.append(
                minimise(fresh(name, box(5), seed), lambda x, shift=shift: loss(x - shift), 150, 5)  # type: ignore[misc]
            )
        return float(np.median(np.log10(runs)))

    own = median("bayesian")
    assert own <= median("cmaes") - decades
    assert own <= median("random") - 2


def test_the_trust_region_grows_shrinks_and_begins_anew() -> None:
    optimizer = bayesian(box(2), initial=4)
    optimizer.tell([evaluated(optimizer, s, 10.0) for s in optimizer.ask(4)])
    length = optimizer._length
    for i in range(3):  # better and better
        optimizer.tell([evaluated(optimizer, s, 9.0 - i) for s in optimizer.ask(2)])
    assert optimizer._length == 2 * length
    lengths = []
    while not optimizer._restarts:
        optimizer.tell([evaluated(optimizer, s, 20.0) for s in optimizer.ask(2)])
        lengths.append(optimizer._length)
    # Four failures each time; then a new run, with nothing in its model.
    assert lengths[1::2][:3] == [length, length / 2, length / 4]
    assert min(lengths) == pytest.approx(2 * length / 2 ** (len(lengths) // 2 - 1))
    assert min(lengths) / 2 < _SMALLEST_LENGTH
    assert optimizer.diagnostics()["points"] == 0
    best = optimizer.best()
    assert best is not None
    assert best.losses == (7.0,)


def test_without_a_trust_region_the_whole_space_is_searched() -> None:
    """Near a deceptive optimum the trust region stays; the whole space has the better one elsewhere."""
    optimizer = bayesian(box(2), trust_region=False)
    for _ in range(30):
        optimizer.tell([evaluated(optimizer, s, 20.0) for s in optimizer.ask(4)])
    assert optimizer.diagnostics()["restarts"] == 0
    assert optimizer.diagnostics()["points"] == 120


def test_pending_individuals_repel_others() -> None:
    """With a hundred in flight around the same optimum, new ones keep their distance."""
    optimizer = bayesian(Space({"n": Int(1, 60)}))
    optimizer.tell([evaluated(optimizer, s, (s.params["n"] - 20) ** 2) for s in optimizer.ask(6)])
    values = [s.params["n"] for _ in range(6) for s in optimizer.ask(5)]
    assert len(set(values)) == 30


def test_regions_that_fail_are_left_and_chance_failures_are_not_avoided() -> None:
    """The loss falls towards a half of the space in which everything fails."""
    optimizer = bayesian(box(2))
    failed = []
    for _ in range(15):
        told = []
        for s in optimizer.ask(8):
            x = np.array(s.params["x"])
            failed.append(x[0] > 0)
            told.append(
                Evaluated(s.id, None, "failed") if failed[-1] else evaluated(optimizer, s, float(-x.sum()))
            )
        optimizer.tell(told)
    assert np.mean(failed[:16]) > 0.3
    assert np.mean(failed[-40:]) < 0.5
    best = optimizer.best()
    assert best is not None
    assert best.losses[0] < -4.5


def test_choices_are_equally_far_apart() -> None:
    space = Space({"c": Categorical(["a", "b", "c", "d"]), "x": Float(0, 1), "n": Int(1, 3)})
    optimizer = bayesian(space)
    units = np.array([[0.125, 0.5, 0.2], [0.375, 0.5, 0.2], [0.875, 0.5, 0.2], [0.9, 0.5, 0.05]])
    features, groups = optimizer._features(units)
    distances = ((features[:, None] - features[None]) ** 2).sum(axis=2)
    assert distances[0, 1] == pytest.approx(1)
    assert distances[0, 2] == pytest.approx(1)
    assert distances[2, 3] == 0  # the same bins
    assert sorted(groups.tolist()) == [0, 0, 0, 0, 1, 2]


def test_a_mixed_space_is_solved() -> None:
    """Much better than random with 150 evaluations; nothing is evaluated twice."""
    asked = search_mixed(bayesian(MIXED), 25, 6)
    assert min(map(mixed_loss, asked)) < 1.0
    assert len(set(map(str, asked))) == 150


def test_bins_agree_with_the_space() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    units = rng.random((200, MIXED.dimension))
    low, middle, high = Bins(MIXED).of(units)
    decoded = [MIXED.decode(unit) for unit in units]
    assert middle == pytest.approx(np.array([MIXED.encode(params) for params in decoded]), abs=1e-12)
    inside = low + (high - low) * (0.001 + 0.998 * rng.random(units.shape))
    for one, params in zip(inside, decoded, strict=True):
        again = MIXED.decode(np.clip(one, 0, 1))
        assert {k: again[k] for k in ("layers", "width", "kernel", "order")} == {
            k: params[k] for k in ("layers", "width", "kernel", "order")
        }


def test_few_points_are_kept_the_best_and_the_newest() -> None:
    assert best_and_newest(np.array([5.0, 1, 2, 9, 8, 7]), 4).tolist() == [1, 2, 4, 5]
    optimizer = bayesian(box(2), max_points=20, trust_region=False)
    for _ in range(12):
        optimizer.tell([evaluated(optimizer, s, float(s.id)) for s in optimizer.ask(5)])
    assert optimizer._ids.tolist() == [*range(10), *range(50, 60)]


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_losses_of_any_size_are_standardised(scale: float) -> None:
    values = _standardised(scale * np.array([1.0, 2, 3, 1.7e8]))
    assert values.std() == pytest.approx(1)
    assert values[1] - values[0] > 0.1
    assert (_standardised(np.zeros(3)) == 0).all()


def test_large_spaces_are_refused() -> None:
    with pytest.raises(OptimizerError, match="at most 1000, got 1001"):
        bayesian(box(1001))
