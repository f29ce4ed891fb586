"""Asking and telling: exactly once, as a whole, exactly what was written."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection, Engine

from l2l_tasks.errors import StoreError, UserError
from l2l_tasks.store import campaigns, evaluations, generations, individuals, states
from l2l_tasks.store.generations import NewEvaluation, NewIndividual, ToldIndividual
from tests.store import build
from tests.support.postgres import table_count


def test_a_generation_is_asked_once(connection: Connection) -> None:
    made = build.campaign(connection)
    assert build.ask(connection, made.id, 0, range(3), tasks=2)
    assert not build.ask(connection, made.id, 0, range(10, 20))
    assert table_count(connection, "individuals") == 3
    assert table_count(connection, "evaluations") == 6
    found = generations.get(connection, made.id, 0)
    assert found == generations.last(connection, made.id)
    assert found is not None
    assert (found.number, found.asked, found.told_at, found.summary) == (0, 3, None, None)
    after = campaigns.get(connection, made.id)
    assert (after.next_generation, after.evaluations_total) == (1, 6)


def test_generations_that_do_not_exist(connection: Connection) -> None:
    made = build.campaign(connection)
    assert generations.last(connection, made.id) is None
    assert generations.get(connection, made.id, 0) is None
    with pytest.raises(StoreError, match="0 is next"):
        build.ask(connection, made.id, 1, [0])
    with pytest.raises(StoreError, match="never asked"):
        build.tell(connection, made.id, 0, [])
    for mark in (generations.mark_submitted, generations.mark_collected, generations.mark_logged):
        with pytest.raises(StoreError, match="never asked"):
            mark(connection, made.id, 0)
    with pytest.raises(UserError):
        build.ask(connection, "none-00000000", 0, [0])


def test_marks_keep_the_first_time(engine: Engine) -> None:
    with engine.begin() as connection:
        made = build.campaign(connection)
        build.ask(connection, made.id, 0, [0])
    seen = []
    for _ in range(2):
        with engine.begin() as connection:
            generations.mark_submitted(connection, made.id, 0)
            generations.mark_collected(connection, made.id, 0)
            generations.mark_logged(connection, made.id, 0)
            seen.append(generations.get(connection, made.id, 0))
    assert seen[0] == seen[1]
    assert seen[0] is not None
    assert None not in (seen[0].submitted_at, seen[0].collected_at, seen[0].logged_at)


def test_a_generation_is_told_once(connection: Connection) -> None:
    made = build.campaign(connection)
    build.ask(connection, made.id, 0, range(3))
    told = [ToldIndividual(2, "ok", [1.5, -0.0]), ToldIndividual(0, "failed", None)]
    arguments = (connection, made.id, 0, told, build.state(0, "told"), {"mean": 2.0}, "f" * 64)
    assert generations.tell_generation(*arguments, best=(2, [1.5, -0.0]))
    assert not generations.tell_generation(*arguments, best=(0, [9.0]))
    after = campaigns.get(connection, made.id)
    assert (after.generations_told, after.best_individual, after.best_fitness) == (1, 2, [1.5, 0.0])
    assert generations.history(connection, made.id) == [{"mean": 2.0}]
    assert generations.told_sequence(connection, made.id) == [(0, "f" * 64)]
    rows = individuals.told_in(connection, made.id, 0)
    assert [(row.index, row.status, row.fitness) for row in rows] == [
        (2, "ok", [1.5, 0.0]),
        (0, "failed", None),
    ]
    open_one = individuals.get(connection, made.id, 1)
    assert open_one is not None
    assert (open_one.status, open_one.told_generation, open_one.params) == ("pending", None, {"x": 1.0})
    assert individuals.get(connection, made.id, 99) is None


def test_best_stays_when_none_is_given(connection: Connection) -> None:
    made = build.campaign(connection)
    build.ask(connection, made.id, 0, [0])
    build.ask(connection, made.id, 1, [1])
    told = [ToldIndividual(0, "ok", [3.0])]
    generations.tell_generation(
        connection, made.id, 0, told, build.state(0, "told"), {}, build.SHA, best=(0, [3.0])
    )
    build.tell(connection, made.id, 1, [1])
    assert campaigns.get(connection, made.id).best_fitness == [3.0]


def test_an_individual_of_an_older_generation_can_be_told_later(connection: Connection) -> None:
    """Steady state: what is told need not be what was asked in the same generation."""
    made = build.campaign(connection)
    build.ask(connection, made.id, 0, range(4))
    build.tell(connection, made.id, 0, [3, 1])
    build.ask(connection, made.id, 1, [4, 5])
    assert build.tell(connection, made.id, 1, [4, 0])
    assert [one.index for one in individuals.told_in(connection, made.id, 1)] == [4, 0]


@pytest.mark.parametrize("told", [[0, 99], [0, 0], [1, 2]], ids=["unknown", "named twice", "told before"])
def test_what_cannot_be_told_is_refused_as_a_whole(engine: Engine, told: list[int]) -> None:
    with engine.begin() as connection:
        made = build.campaign(connection)
        build.ask(connection, made.id, 0, range(3))
        build.tell(connection, made.id, 0, [2])
        build.ask(connection, made.id, 1, [3])
    with pytest.raises(StoreError), engine.begin() as connection:
        build.tell(connection, made.id, 1, told)
    with engine.begin() as connection:
        found = generations.get(connection, made.id, 1)
        assert found is not None
        assert found.told_at is None
        assert individuals.told_in(connection, made.id, 1) == []


@pytest.mark.parametrize("fitness", [[float("nan")], [float("inf")], [1.0, float("-inf")], [], None])
def test_an_ok_individual_needs_finite_fitness(engine: Engine, fitness: list[float] | None) -> None:
    with engine.begin() as connection:
        made = build.campaign(connection)
        build.ask(connection, made.id, 0, [0])
    told = [ToldIndividual(0, "ok", fitness)]
    with pytest.raises(StoreError, match="check constraint"), engine.begin() as connection:
        generations.tell_generation(connection, made.id, 0, told, build.state(0, "told"), {}, build.SHA)


def test_an_index_cannot_be_used_twice(engine: Engine) -> None:
    with engine.begin() as connection:
        made = build.campaign(connection)
        build.ask(connection, made.id, 0, [0])
    with pytest.raises(StoreError, match="pk_individuals"), engine.begin() as connection:
        build.ask(connection, made.id, 1, [0])


def test_params_that_are_not_json_are_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        made = build.campaign(connection)
    bad = [NewIndividual(0, {"x": float("nan")})]
    with pytest.raises(StoreError, match="cannot be stored as JSON"), engine.begin() as connection:
        generations.ask_generation(connection, made.id, 0, bad, [], build.state(0))


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
_JSON = st.recursive(
    _PLAIN | _TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3)
)
_numbers = itertools.count()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(_TEXT, _JSON, max_size=4), min_size=1, max_size=4), st.binary())
def test_params_tasks_and_states_come_back_exactly(
    connection: Connection, documents: list[dict[str, Any]], data: bytes
) -> None:
    """Same bytes in, same values out, including -0.0, 1e16, order of keys, tabs, backslashes, quotes."""
    made = build.campaign(connection, origin=f"property/{next(_numbers)}")
    new = [NewIndividual(index, params) for index, params in enumerate(documents)]
    asked = [NewEvaluation(one.index, 0, 0, one.params, 2**63 - 1, "n" * 16) for one in new]
    generations.ask_generation(connection, made.id, 0, new, asked, build.state(0, data=data))
    found = evaluations.outstanding(connection, made.id)
    assert [repr(one.params) for one in found] == [repr(document) for document in documents]
    assert [repr(one.task) for one in found] == [repr(document) for document in documents]
    latest = states.load_latest(connection, made.id)
    assert latest is not None
    assert latest == build.state(0, data=data)


def test_the_newest_states_are_kept(connection: Connection) -> None:
    made = build.campaign(connection)
    assert states.load_latest(connection, made.id) is None
    for number in range(4):
        build.ask(connection, made.id, number, [number])
        build.tell(connection, made.id, number, [number])
    assert states.load_latest(connection, made.id) == build.state(3, "told")
    kept = connection.execute(sa.text("SELECT generation, phase FROM l2l.optimizer_states ORDER BY serial"))
    assert [tuple(row) for row in kept] == [(2, "told"), (3, "asked"), (3, "told")]


def test_a_damaged_state_is_not_used(connection: Connection) -> None:
    made = build.campaign(connection)
    build.ask(connection, made.id, 0, [0])
    connection.execute(sa.text("UPDATE l2l.optimizer_states SET data = 'other'"))
    with pytest.raises(StoreError, match="damaged"):
        states.load_latest(connection, made.id)
