"""Population-based training: lineages of learners, exploit and explore, members under way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers.base import Evaluated, Observation, Optimizer, Suggestion
from optimizers.space import Categorical, Float, Int, Space
from tests.optimizers.problems import box, fresh


def make(dimension: int = 2, population: int = 10, seed: int = 1, **options: Any) -> Optimizer:
    return fresh("population_based_training", box(dimension, 1.0), seed, population=population, **options)


def generation(optimizer: Optimizer, losses: list[float | None]) -> list[Suggestion]:
    asked = optimizer.ask(len(losses))
    optimizer.tell(
        [
            Evaluated(s.id, None, "failed") if loss is None else Evaluated(s.id, (loss,))
            for s, loss in zip(asked, losses, strict=True)
        ]
    )
    return asked


def test_members_begin_anew_and_then_go_on_with_their_own_learner() -> None:
    optimizer = make(interval=3)
    first = generation(optimizer, [float(i) for i in range(10)])
    second = generation(optimizer, [float(i) for i in range(10)])
    assert [s.parent for s in first] == [None] * 10
    assert [s.parent for s in second] == [s.id for s in first]
    assert [s.params for s in second] == [s.params for s in first]


def test_the_worst_go_on_with_the_learners_of_the_best_and_other_parameters() -> None:
    """Truncation of 20 % of 10 members: the two worst copy one of the two best; the others go on."""
    optimizer = make()
    first = generation(optimizer, [5.0, 0.0, 7.0, 3.0, 9.0, 1.0, 6.0, 2.0, 8.0, 4.0])
    second = optimizer.ask(10)
    for s, before in zip(second, first, strict=True):
        if before.id in (4, 8):
            assert s.parent in (1, 5)
            assert s.params not in [other.params for other in first]
        else:
            assert (s.parent, s.params) == (before.id, before.params)
    assert optimizer.diagnostics()["exploits"] == 2


def test_nobody_gives_up_before_its_interval() -> None:
    optimizer = make(interval=3)
    exploits = []
    for _ in range(8):
        generation(optimizer, [float(i) for i in range(10)])
        exploits.append(optimizer.diagnostics()["exploits"])
    assert exploits == [0, 0, 0, 2, 2, 2, 4, 4]


def test_a_failed_member_goes_on_with_a_good_learner() -> None:
    """Whatever its interval; and where nobody is good, from the beginning."""
    optimizer = make(population=5, interval=99)
    first = generation(optimizer, [1.0, None, 0.5, 2.0, 3.0])
    second = generation(optimizer, [1.0, 1.0, None, 1.0, 1.0])
    assert second[1].parent == 2
    assert second[1].params != first[1].params
    third = generation(optimizer, [None] * 5)
    assert third[2].parent in [s.id for s in second if s.id != second[2].id]
    assert [s.parent for s in optimizer.ask(5)] == [None] * 5


def test_more_than_the_members_are_challengers() -> None:
    """They branch off the best; a good one takes the place of the worst, whose own individual, told later,
    has to win a place itself."""
    optimizer = make(population=5)
    generation(optimizer, [1.0, 2.0, 3.0, 4.0, 50.0])
    under_way = optimizer.ask(5)
    challenger, other = optimizer.ask(2)
    assert challenger.parent == other.parent == 0
    optimizer.tell([Evaluated(challenger.id, (0.1,)), Evaluated(other.id, (60.0,))])
    optimizer.tell([Evaluated(s.id, (float(s.id),)) for s in under_way])
    parents = [s.parent for s in optimizer.ask(5)]
    assert challenger.id in parents
    assert other.id not in parents
    assert under_way[4].id not in parents


def test_a_member_goes_on_as_soon_as_it_is_told() -> None:
    """The others may still be under way."""
    optimizer = make(population=6)
    first = optimizer.ask(6)
    optimizer.tell([Evaluated(first[2].id, (1.0,))])
    assert [s.parent for s in optimizer.ask(1)] == [2]
    optimizer.tell([Evaluated(first[4].id, (0.5,)), Evaluated(first[0].id, (9.0,))])
    assert [s.parent for s in optimizer.ask(2)] == [0, 4]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_parent_has_a_checkpoint(data: st.DataObject) -> None:
    """Any asks and tells: a parent was told, and ok; an individual has the parameters of its parent or is an
    explorer; nobody who is under way is asked for again."""
    optimizer = make(population=4, seed=data.draw(st.integers(0, 99)))
    pending: list[Suggestion] = []
    good: set[int] = set()
    for _ in range(data.draw(st.integers(1, 12))):
        asked = optimizer.ask(data.draw(st.integers(1, 7)))
        assert all(s.parent is None or s.parent in good for s in asked)
        pending += asked
        chosen = data.draw(st.lists(st.sampled_from(pending), unique_by=lambda s: s.id))
        told = []
        for s in chosen:
            if data.draw(st.booleans()):
                told.append(Evaluated(s.id, (float(data.draw(st.integers(0, 9))),)))
                good.add(s.id)
            else:
                told.append(Evaluated(s.id, None, "failed"))
        optimizer.tell(told)
        pending = [s for s in pending if s not in chosen]


def test_perturbations_have_their_width_and_resampling_its_rate() -> None:
    optimizer = make(dimension=200, population=4, perturbation=0.01, resample=0.0)
    generation(optimizer, [0.0, 1.0, 2.0, 3.0])
    genomes = optimizer._genomes  # type: ignore[attr-defined]
    steps = np.array([optimizer._explored(genomes[0]) for _ in range(20)]) - genomes[0]  # type: ignore[attr-defined]
    assert float(steps.std()) == pytest.approx(0.01, rel=0.15)
    anew = make(dimension=200, population=4, perturbation=1e-9, resample=0.25)
    generation(anew, [0.0, 1.0, 2.0, 3.0])
    genome = anew._genomes[0]  # type: ignore[attr-defined]
    changed = np.array([np.abs(anew._explored(genome) - genome) > 1e-6 for _ in range(20)])  # type: ignore[attr-defined]
    assert changed.mean() == pytest.approx(0.25, abs=0.03)


def test_whole_numbers_change_by_one_at_least_or_not_at_all() -> None:
    space = Space({"n": Int(0, 9), "c": Categorical(["a", "b", "c"])})
    optimizer = fresh("population_based_training", space, population=4, perturbation=1e-6, resample=0.0)
    genome = np.array([0.55, 0.5])
    seen = [space.decode(optimizer._explored(genome)) for _ in range(400)]  # type: ignore[attr-defined]
    counts = [sum(s["n"] == n for s in seen) for n in (4, 5, 6)]
    assert sum(counts) == 400
    assert counts[1] == pytest.approx(200, abs=50)
    assert 10 < sum(s["c"] != "b" for s in seen) < 80


def test_a_learner_is_trained_with_a_schedule() -> None:
    """A learner whose loss falls fastest at a rate that is high in the beginning and low in the end, and that
    gets worse at a wrong one: the population beats the best of as many constant rates."""
    space = Space({"rate": Float(0.0, 1.0)})
    weights: dict[int, float] = {}

    def step(weight: float, rate: float, time: int) -> float:
        return weight * (0.6 + 0.8 * abs(rate - (0.9 - 0.025 * time)))

    optimizer = fresh("population_based_training", space, seed=3, population=12)
    best = np.inf
    for time in range(32):
        told = []
        for s in optimizer.ask(12):
            weights[s.id] = step(1.0 if s.parent is None else weights[s.parent], s.params["rate"], time)
            told.append(Evaluated(s.id, (weights[s.id],)))
        optimizer.tell(told)
        best = min(weights[t.id] for t in told)
    constant = []
    for rate in np.linspace(0, 1, 101):
        weight = 1.0
        for time in range(32):
            weight = step(weight, float(rate), time)
        constant.append(weight)
    assert best < min(constant) / 3


def test_observed_parameters_begin_with_new_learners() -> None:
    optimizer = make(dimension=1, population=4)
    optimizer.observe(
        [Observation({"x": [x]}, (abs(x),), individual=i) for i, x in enumerate((0.9, 0.1, -0.5))]
    )
    asked = optimizer.ask(4)
    assert [s.parent for s in asked] == [None] * 4
    assert [s.params["x"][0] for s in asked[:3]] == pytest.approx([0.1, -0.5, 0.9])
