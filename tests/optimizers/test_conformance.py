"""What every registered optimizer must do: one suite, parametrised over all of them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import optimizers
from optimizers import OptimizerError, state
from optimizers.base import Evaluated, Optimizer
from optimizers.space import Categorical, Fixed, Float, Int, Space
from tests.optimizers.problems import MIXED, box, fresh, history, judged, mixed_loss, restored, sphere

pytestmark = pytest.mark.parametrize("name", optimizers.names())

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def run(optimizer: Optimizer, generations: int = 4, batch: int = 8) -> list[dict[str, Any]]:
    """Parameters asked in some generations of the mixed problem; every one is told."""
    params = []
    for _ in range(generations):
        asked = optimizer.ask(batch)
        params += [s.params for s in asked]
        optimizer.tell([Evaluated(s.id, (mixed_loss(s.params),)) for s in asked])
    return params


def test_same_seed_and_results_give_the_same_individuals(name: str) -> None:
    one, two = fresh(name, seed=7), fresh(name, seed=7)
    assert list(history(one)) == list(history(two))
    assert one.state() == two.state()


def test_another_seed_gives_other_individuals(name: str) -> None:
    assert run(fresh(name, seed=7)) != run(fresh(name, seed=8))


def test_the_order_within_a_tell_does_not_matter(name: str) -> None:
    one, two = fresh(name), fresh(name)
    for _ in range(4):
        told = [judged(s) for s in one.ask(11)]
        two.ask(11)
        one.tell(told)
        two.tell(random.Random(3).sample(told, len(told)))
    assert one.state() == two.state()


def test_state_bytes_survive_a_round_trip(name: str) -> None:
    """Equal states are equal bytes: before the first ask, with individuals in flight, and after tells."""
    optimizer = fresh(name)
    assert restored(optimizer).state() == optimizer.state()
    for _ in history(optimizer):
        assert restored(optimizer).state() == optimizer.state()


def test_two_instances_interleaved_equal_each_alone(name: str) -> None:
    alone = [list(history(fresh(name, seed=1))), list(history(fresh(name, seed=2)))]
    one, two = history(fresh(name, seed=1)), history(fresh(name, seed=2))
    together = list(zip(one, two, strict=True))
    assert [[a for a, _ in together], [b for _, b in together]] == alone


def test_global_random_state_is_neither_read_nor_changed(name: str) -> None:
    random.seed(1)
    np.random.seed(1)
    before = (random.getstate(), json.dumps(np.random.get_state()[1].tolist()))  # type: ignore[index]
    texts = list(history(fresh(name)))
    assert (random.getstate(), json.dumps(np.random.get_state()[1].tolist())) == before  # type: ignore[index]
    random.seed(2)
    np.random.seed(2)
    assert list(history(fresh(name))) == texts


@quick
@given(data=st.data())
def test_any_history_keeps_the_contract(name: str, data: st.DataObject) -> None:
    """Any asks, tells of any part in any order, failures and restores: ids run on, parameters are valid,
    what is asked does not depend on the restores."""
    optimizer, twin = fresh(name), fresh(name)
    pending: list[int] = []
    total = 0
    for action in data.draw(st.lists(st.sampled_from(["ask", "tell", "restore"]), max_size=12)):
        if action == "ask":
            n = data.draw(st.integers(1, 12))
            asked = optimizer.ask(n)
            assert asked == twin.ask(n)
            assert [s.id for s in asked] == list(range(total, total + n))
            for suggestion in asked:
                MIXED.validate(suggestion.params)
            pending += [s.id for s in asked]
            total += n
        elif action == "tell" and pending:
            chosen = data.draw(st.lists(st.sampled_from(pending), unique=True))
            told = [
                Evaluated(i, None, "failed") if data.draw(st.booleans()) else Evaluated(i, (float(i % 5),))
                for i in chosen
            ]
            optimizer.tell(told)
            twin.tell(told)
            pending = [i for i in pending if i not in chosen]
        else:
            optimizer = restored(optimizer)
        figures = optimizer.diagnostics()
        assert (figures["asked"], figures["pending"]) == (total, len(pending))
        assert all(math.isfinite(value) for value in figures.values())


@pytest.mark.parametrize("failing", [0.3, 0.5])
def test_goes_on_with_failures(name: str, failing: float) -> None:
    """Failed individuals are neither recommended nor do they stop the search."""
    optimizer = fresh(name, box(3))
    chance = np.random.Generator(np.random.PCG64(5))
    failed: set[int] = set()
    for _ in range(20):
        told = []
        for s in optimizer.ask(10):
            if chance.random() < failing:
                failed.add(s.id)
                told.append(Evaluated(s.id, None, "failed"))
            else:
                told.append(Evaluated(s.id, (sphere(np.array(s.params["x"])),)))
        optimizer.tell(told)
    recommendation = optimizer.recommend()
    assert recommendation is not None
    assert recommendation.individual not in failed
    assert sphere(np.array(recommendation.params["x"])) < 5
    assert optimizer.diagnostics()["failed_share"] == len(failed) / 200


def test_goes_on_when_everything_fails(name: str) -> None:
    optimizer = fresh(name)
    for _ in range(5):
        optimizer.tell([Evaluated(s.id, None, "infeasible") for s in optimizer.ask(10)])
    assert optimizer.recommend() is None
    assert "best_loss" not in optimizer.diagnostics()
    assert len(optimizer.ask(10)) == 10


@pytest.mark.parametrize(
    "space",
    [
        Space({"x": Float(0.0, 1e-3)}),
        Space({"n": Int(-3, 3)}),
        Space({"flag": Categorical([True, False]), "fixed": Fixed({"a": [1]})}),
        Space({"x": Float(1e-8, 1e8, log=True, shape=(3, 2)), "n": Int(1, 2**40, log=True)}),
    ],
    ids=["real", "whole", "boolean", "wide"],
)
def test_parameters_are_valid_in_any_space(name: str, space: Space) -> None:
    """Bounds, types and shapes hold, also in one dimension and where the space has few points."""
    optimizer = fresh(name, space)
    for _ in range(15):
        told = []
        for s in optimizer.ask(8):
            space.validate(s.params)
            first = json.dumps(s.params)
            told.append(Evaluated(s.id, (float(len(first)),)))
        optimizer.tell(told)
    recommendation = optimizer.recommend()
    assert recommendation is not None
    space.validate(recommendation.params)


def test_optimum_on_the_bounds_is_approached(name: str) -> None:
    """Losses that fall towards a corner: the best of the second half is at least as good, inside the box."""
    optimizer = fresh(name, box(2, bound=1.0))
    for _ in range(30):
        asked = optimizer.ask(8)
        assert all(-1 <= value <= 1 for s in asked for value in s.params["x"])
        optimizer.tell([Evaluated(s.id, (sum(s.params["x"]),)) for s in asked])
    assert optimizer.diagnostics()["best_loss"] < -1.75


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda i: [Evaluated(i + 1, (1.0,))], "never asked"),
        (lambda _: [Evaluated(-1, (1.0,))], "never asked"),
        (lambda _: [Evaluated(0, (1.0,))], "told already"),
        (lambda i: [Evaluated(i, (1.0,)), Evaluated(i, (1.0,))], "told already"),
        (lambda i: [Evaluated(i, (math.nan,))], "not finite"),
        (lambda i: [Evaluated(i, (math.inf,))], "not finite"),
        (lambda i: [Evaluated(i, (1.0, 2.0))], "2 losses, 1 are needed"),
        (lambda i: [Evaluated(i, None)], "ok with losses None"),
        (lambda i: [Evaluated(i, (1.0,), "failed")], "failed with losses"),
    ],
)
def test_wrong_tells_are_refused_and_change_nothing(
    name: str, make: Callable[[int], list[Evaluated]], message: str
) -> None:
    optimizer = fresh(name)
    asked = optimizer.ask(6)
    optimizer.tell([Evaluated(0, (1.0,))])
    before = optimizer.state()
    with pytest.raises(OptimizerError, match=message):
        optimizer.tell([Evaluated(1, (0.0,)), *make(asked[-1].id)])
    assert optimizer.state() == before


def test_wrong_asks_and_constructions_are_refused(name: str) -> None:
    cls = optimizers.get(name)
    with pytest.raises(OptimizerError, match="at least one"):
        fresh(name).ask(0)
    with pytest.raises(OptimizerError, match=r"nosuch: Extra inputs"):
        cls(MIXED, 1, {"nosuch": 1}, 0)
    with pytest.raises(OptimizerError, match="every parameter is fixed"):
        cls(Space({"a": Fixed(1)}), 1, {}, 0)
    with pytest.raises(OptimizerError, match="seed"):
        cls(MIXED, 1, {}, -1)


def test_several_objectives_are_taken_or_refused_as_declared(name: str) -> None:
    cls = optimizers.get(name)
    if cls.capabilities.objectives == "single":
        with pytest.raises(OptimizerError, match="one objective"):
            cls(MIXED, 2, {}, 0)
    else:
        optimizer = cls(MIXED, 2, {}, 0)
        optimizer.tell([Evaluated(s.id, (1.0, 2.0)) for s in optimizer.ask(3)])
        assert optimizer.recommend() is None
        assert cls.from_state(optimizer.state(), MIXED, 2, {}).ask(2) == optimizer.ask(2)


def test_states_that_do_not_fit_are_refused(name: str) -> None:
    """A newer format, another optimizer, space or number of objectives: each with its own message."""
    cls = optimizers.get(name)
    optimizer = fresh(name)
    optimizer.ask(5)
    meta, arrays = state.load(optimizer.state())

    def changed(**values: Any) -> bytes:
        return state.dump({**meta, **values}, arrays)

    newer = cls.format_version + 1
    for data, space, message in [
        (changed(format_version=newer), MIXED, f"format version {newer}, this installation reads"),
        (changed(name="other"), MIXED, "state of optimizer 'other'"),
        (changed(), box(9), "another search space"),
        (changed(n_objectives=2), MIXED, "another number of objectives: 2, now 1"),
        (b"no archive", MIXED, "cannot be read"),
    ]:
        with pytest.raises(OptimizerError, match=message):
            cls.from_state(data, space, 1, {})


def test_the_space_may_have_been_stored_as_jsonb(name: str) -> None:
    """jsonb reorders keys and writes whole floats from 1e16 on without a point: still the same space."""
    space = Space({"x": Float(0, 1e22, default=1e16), "n": Int(1, 3), "f": Fixed({"b": 1e22, "a": 0.5})})
    optimizer = fresh(name, space)
    text = json.dumps(space.to_json(), sort_keys=True)
    stored = Space.from_json(
        json.loads(text.replace("1e+22", "1" + 22 * "0").replace("1e+16", "1" + 16 * "0"))
    )
    again = type(optimizer).from_state(optimizer.state(), stored, 1, {})
    assert again.ask(3) == optimizer.ask(3)


def test_changed_options_are_refused_and_new_ones_default(name: str) -> None:
    cls = optimizers.get(name)
    optimizer = fresh(name)
    meta, arrays = state.load(optimizer.state())
    for option in meta["options"]:
        other = state.dump({**meta, "options": {**meta["options"], option: -1}}, arrays)
        with pytest.raises(OptimizerError, match=f"options.*{option}"):
            cls.from_state(other, MIXED, 1, {})
        before = {key: value for key, value in meta["options"].items() if key != option}
        assert cls.from_state(state.dump({**meta, "options": before}, arrays), MIXED, 1, {}).ask(3)


def test_class_says_what_it_is(name: str) -> None:
    """What `l2l` and the spec show: a summary, a sensible batch, documented options with defaults."""
    cls = optimizers.get(name)
    assert cls.name == name
    assert len(cls.summary) > 20
    assert cls.capabilities.asynchronous in (True, False)
    assert all(cls.default_batch(dimension) >= 4 for dimension in (1, 10, 1000))
    schema = cls.Options.model_json_schema()
    assert schema["additionalProperties"] is False
    assert all(field.get("description") for field in schema.get("properties", {}).values())
    assert not schema.get("required")
