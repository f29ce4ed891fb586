"""What every registered optimizer must do: one suite, parametrised over all of them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import optimizers
from optimizers import OptimizerError, state
from optimizers.base import ALL_KINDS, Evaluated, Observation, Suggestion
from optimizers.space import Categorical, Fixed, Float, Int, Space
from tests.optimizers.problems import (
    REQUIRED,
    box,
    elsewhere,
    evaluated,
    fresh,
    history,
    judged,
    mixed,
    n_objectives,
    outcome,
    restored,
    search_mixed,
    sphere,
    winners,
)

pytestmark = pytest.mark.parametrize("name", optimizers.names())

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_same_seed_and_results_give_the_same_individuals(name: str) -> None:
    one, two = fresh(name, seed=7), fresh(name, seed=7)
    assert list(history(one)) == list(history(two))
    assert one.state() == two.state()


def test_another_seed_gives_other_individuals(name: str) -> None:
    assert search_mixed(fresh(name, seed=7), 4, 8) != search_mixed(fresh(name, seed=8), 4, 8)


def test_the_order_within_a_tell_does_not_matter(name: str) -> None:
    one, two = fresh(name), fresh(name)
    for _ in range(4):
        told = [judged(one, s) for s in one.ask(11)]
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
    pending: list[Suggestion] = []
    total = 0
    for action in data.draw(st.lists(st.sampled_from(["ask", "tell", "restore"]), max_size=12)):
        if action == "ask":
            n = data.draw(st.integers(1, 12))
            asked = optimizer.ask(n)
            assert asked == twin.ask(n)
            assert len(asked) == n or optimizer.stop_reason()
            assert [s.id for s in asked] == list(range(total, total + len(asked)))
            for suggestion in asked:
                optimizer.space.validate(suggestion.params)
            pending += asked
            total += len(asked)
        elif action == "tell" and pending:
            chosen = data.draw(st.lists(st.sampled_from(pending), unique_by=lambda s: s.id))
            told = [
                Evaluated(s.id, None, "failed")
                if data.draw(st.booleans())
                else evaluated(optimizer, s, float(s.id % 5))
                for s in chosen
            ]
            optimizer.tell(told)
            twin.tell(told)
            pending = [s for s in pending if s not in chosen]
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
    total = 0
    for _ in range(20):
        told = []
        for s in optimizer.ask(10) if optimizer.stop_reason() is None else []:
            total += 1
            if chance.random() < failing:
                failed.add(s.id)
                told.append(Evaluated(s.id, None, "failed"))
            else:
                told.append(evaluated(optimizer, s, sphere(np.array(s.params["x"]))))
        optimizer.tell(told)
    assert winners(optimizer)
    assert not failed.intersection(winners(optimizer))
    assert optimizer.diagnostics()["failed_share"] == len(failed) / total
    recommendation = optimizer.recommend()
    if optimizer.n_objectives == 1:
        assert recommendation is not None
        assert recommendation.individual not in failed
        assert sphere(np.array(recommendation.params["x"])) < 6


def test_goes_on_when_everything_fails(name: str) -> None:
    optimizer = fresh(name)
    for _ in range(5):
        optimizer.tell([Evaluated(s.id, None, "infeasible") for s in optimizer.ask(10)])
    assert optimizer.recommend() is None
    assert winners(optimizer) == []
    assert "best_loss" not in optimizer.diagnostics()
    assert len(optimizer.ask(10)) == 10 or optimizer.stop_reason()


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
    if not {p.kind for p in space.parameters.values()} <= {"fixed", *optimizers.get(name).capabilities.kinds}:
        with pytest.raises(OptimizerError, match="of the kinds"):
            fresh(name, space)
        return
    optimizer = fresh(name, space)
    for _ in range(15):
        told = []
        for s in optimizer.ask(8) if optimizer.stop_reason() is None else []:
            space.validate(s.params)
            told.append(evaluated(optimizer, s, float(len(json.dumps(s.params)))))
        optimizer.tell(told)
    assert winners(optimizer)
    recommendation = optimizer.recommend()
    if recommendation is not None:
        space.validate(recommendation.params)


def test_optimum_on_the_bounds_is_approached(name: str) -> None:
    """Losses that fall towards a corner: the best comes near it, and nobody leaves the box."""
    optimizer = fresh(name, box(2, bound=1.0))
    lowest = 2.0
    for _ in range(30):
        asked = optimizer.ask(8) if optimizer.stop_reason() is None else []
        assert all(-1 <= value <= 1 for s in asked for value in s.params["x"])
        lowest = min([lowest, *(sum(s.params["x"]) for s in asked)])
        optimizer.tell([evaluated(optimizer, s, sum(s.params["x"]), target=0.0) for s in asked])
    assert lowest < -1.75


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
    optimizer.tell([evaluated(optimizer, asked[0], 1.0)])
    before = optimizer.state()
    wrong = [
        replace(
            one,
            losses=one.losses and (*one.losses, 0.0)[: optimizer.n_objectives - 1 + len(one.losses)],
            measures=evaluated(optimizer, asked[-1], 0.0).measures,
        )
        for one in make(asked[-1].id)
    ]
    message = message.replace("1 are", f"{optimizer.n_objectives} are").replace(
        "2 losses", f"{1 + optimizer.n_objectives} losses"
    )
    with pytest.raises(OptimizerError, match=message):
        optimizer.tell([evaluated(optimizer, asked[1], 0.0), *wrong])
    assert optimizer.state() == before


def test_wrong_asks_and_constructions_are_refused(name: str) -> None:
    cls, space, n = optimizers.get(name), mixed(name), n_objectives(name)
    good = REQUIRED.get(name, {})
    with pytest.raises(OptimizerError, match="at least one"):
        fresh(name).ask(0)
    with pytest.raises(OptimizerError, match=r"nosuch: Extra inputs"):
        cls(space, n, {**good, "nosuch": 1}, 0)
    with pytest.raises(OptimizerError, match="every parameter is fixed"):
        cls(Space({"a": Fixed(1)}), n, good, 0)
    with pytest.raises(OptimizerError, match="seed"):
        cls(space, n, good, -1)


def test_objectives_are_taken_or_refused_as_declared(name: str) -> None:
    cls, space, options = optimizers.get(name), mixed(name), REQUIRED.get(name, {})
    allowed = {"single": [1], "multi": [2, 3], "any": [1, 2, 3]}[cls.capabilities.objectives]
    for n in (0, 1, 2, 3):
        if n not in allowed:
            with pytest.raises(OptimizerError, match="objective"):
                cls(space, n, options, 0)
            continue
        optimizer = cls(space, n, options, 0)
        optimizer.tell(
            [
                Evaluated(s.id, (1.0, 2.0, float(s.id))[:n], measures=evaluated(optimizer, s, 0.0).measures)
                for s in optimizer.ask(3)
            ]
        )
        assert (optimizer.best() is None) == (n > 1) == (optimizer.pareto_front() != [])
        assert cls.from_state(optimizer.state(), space, n, options).ask(2) == optimizer.ask(2)


def test_kinds_of_parameters_are_taken_or_refused_as_declared(name: str) -> None:
    kinds = optimizers.get(name).capabilities.kinds
    assert kinds <= ALL_KINDS
    for kind, parameter in {"float": Float(0, 1), "categorical": Categorical(["a", "b", "c"])}.items():
        if kind not in kinds:
            with pytest.raises(OptimizerError, match="; p is of another"):
                fresh(name, Space({"p": parameter}))


def test_elites_are_evaluated_again(name: str) -> None:
    """Under noise, whoever was lucky once is found out: what is called the best has been evaluated twice, and
    its loss is the mean."""
    if n_objectives(name) > 1:
        with pytest.raises(OptimizerError, match="one objective"):
            fresh(name, reevaluate=3)
        return
    optimizer = fresh(name, box(2), reevaluate=3)
    chance = np.random.Generator(np.random.PCG64(5))
    losses: dict[int, list[float]] = {}
    tasks: dict[int, list[int]] = {}
    params: dict[int, Any] = {}
    for generation in range(12):
        asked = optimizer.ask(10) if optimizer.stop_reason() is None else []
        told = []
        for s in asked:
            loss = sphere(np.array(s.params["x"])) + float(chance.normal(0, 5))
            key = s.id if s.origin is None else s.origin
            losses.setdefault(key, []).append(loss)
            tasks.setdefault(key, []).append(1 if s.tasks is None else s.tasks[1])
            assert params.setdefault(key, s.params) == s.params
            told.append(evaluated(optimizer, s, loss))
        optimizer.tell(told)
        if generation > 0 and asked:
            assert any(s.origin is not None for s in asked)
        optimizer = restored(optimizer)
    best = optimizer.best()
    assert best is not None
    assert best.evaluations == len(losses[best.individual]) > 1
    mean = np.average(losses[best.individual], weights=tasks[best.individual])
    assert best.losses[0] == pytest.approx(mean)
    assert best.params == params[best.individual]


def test_observations_are_learned_from_or_left_out(name: str) -> None:
    """What was evaluated elsewhere: useless ones are counted out, the order does not matter, and one of this
    campaign may be the best."""
    one, two, cold = fresh(name), fresh(name), fresh(name)
    known = elsewhere(one)
    assert one.observe(known) == 5
    assert two.observe(known) == 5
    assert one.state() == two.state()
    assert winners(one) == []
    assert one.diagnostics()["observed"] == 5
    assert len(one.ask(8)) == len(cold.ask(8))

    first_id = 40
    cls = type(one)
    changed = cls(one.space, one.n_objectives, one.options, 1, first_id)
    mine = Observation(known[0].params, known[0].losses, individual=17)
    assert changed.observe([mine]) == 1
    assert winners(changed) == [17]
    assert [s.id for s in changed.ask(2)] == [40, 41]
    assert outcome(restored(changed)) == outcome(changed)


def test_states_that_do_not_fit_are_refused(name: str) -> None:
    """A newer format, another optimizer, space or number of objectives: each with its own message."""
    optimizer = fresh(name)
    cls, space, n = type(optimizer), optimizer.space, optimizer.n_objectives
    optimizer.ask(5)
    meta, arrays = state.load(optimizer.state())

    def changed(**values: Any) -> bytes:
        return state.dump({**meta, **values}, arrays)

    newer = cls.format_version + 1
    for data, other, message in [
        (changed(format_version=newer), space, rf"format version \d+\.{newer}, this installation reads"),
        (changed(base_version=99), space, r"format version 99\.\d+, this installation reads"),
        (changed(name="other"), space, "state of optimizer 'other'"),
        (changed(), box(9), "another search space"),
        (changed(n_objectives=n + 1), space, f"another number of objectives: {n + 1}, now {n}"),
        (b"no archive", space, "cannot be read"),
    ]:
        with pytest.raises(OptimizerError, match=message):
            cls.from_state(data, other, n, optimizer.options)


def test_the_space_may_have_been_stored_as_jsonb(name: str) -> None:
    """jsonb reorders keys and writes whole floats from 1e16 on without a point: still the same space."""
    space = Space({"x": Float(0, 1e22, default=1e16), "n": Int(1, 3), "f": Fixed({"b": 1e22, "a": 0.5})})
    optimizer = fresh(name, space)
    text = json.dumps(space.to_json(), sort_keys=True)
    stored = Space.from_json(
        json.loads(text.replace("1e+22", "1" + 22 * "0").replace("1e+16", "1" + 16 * "0"))
    )
    again = type(optimizer).from_state(optimizer.state(), stored, optimizer.n_objectives, optimizer.options)
    assert again.ask(3) == optimizer.ask(3)


def test_changed_options_are_refused_and_new_ones_default(name: str) -> None:
    """Where an option is not given, that of the state counts: defaults may change between releases."""
    optimizer = fresh(name)
    cls, space, n = type(optimizer), optimizer.space, optimizer.n_objectives
    options = optimizer.options.model_dump()
    meta, arrays = state.load(optimizer.state())
    again = fresh(name, reevaluate=2) if n == 1 else optimizer
    assert cls.from_state(again.state(), space, n, REQUIRED.get(name, {})).options == again.options
    for option in meta["options"]:
        other = state.dump({**meta, "options": {**meta["options"], option: -1}}, arrays)
        with pytest.raises(OptimizerError, match=f"options.*{option}"):
            cls.from_state(other, space, n, options)
        before = {key: value for key, value in meta["options"].items() if key != option}
        assert cls.from_state(state.dump({**meta, "options": before}, arrays), space, n, options).ask(3)


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
    assert set(schema.get("required", [])) == set(REQUIRED.get(name, {}))
