"""Versions of a specification, and what individuals carry besides their parameters."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.engine import Connection

from l2l_tasks.errors import StoreError, UserError
from l2l_tasks.store import campaigns, evaluations, generations, individuals, versions, workload
from l2l_tasks.store.generations import NewEvaluation, NewIndividual, ToldIndividual
from tests.store import build


def add(connection: Connection, campaign_id: str, name: str) -> versions.SpecVersion:
    values: dict[str, Any] = {"spec": {"name": name}, "spec_hash": name, "problem": {"batch": 1e16}}
    return versions.add(connection, campaign_id, **values, who="a user")


def test_a_version_counts_from_the_generation_that_is_asked_next(connection: Connection) -> None:
    made = build.campaign(connection)
    first = versions.newest(connection, made.id)
    assert (first.version, first.from_generation, first.spec) == (1, 0, made.spec)
    build.ask(connection, made.id, 0, [0])
    two, three = add(connection, made.id, "two"), add(connection, made.id, "three")
    assert [(v.version, v.from_generation) for v in (two, three)] == [(2, 1), (3, 1)]
    assert versions.newest(connection, made.id) == three
    assert versions.listing(connection, made.id) == [first, two, three]
    assert campaigns.get(connection, made.id).spec == made.spec
    versions.put_in_force(connection, three)
    row = campaigns.get(connection, made.id)
    assert (row.spec, row.spec_hash, row.problem, row.spec_version) == (
        {"name": "three"},
        "three",
        {"batch": 1e16},
        3,
    )
    assert versions.in_force_from(connection, made.id, 3) == 1


def test_versions_of_an_unknown_campaign(connection: Connection) -> None:
    with pytest.raises(UserError, match="there is no campaign"):
        add(connection, "nobody-00000000", "x")


def ask(connection: Connection, *new: NewIndividual) -> str:
    """A campaign that has asked individual 0 of all four tasks, and these."""
    made = build.campaign(connection)
    everyone = [NewIndividual(0, {"x": 0.0}), *new]
    rows = [
        NewEvaluation(one.index, task, 0, {}, 1, build.nonce(one.index, task))
        for one in everyone
        for task in range(*(one.tasks or (0, 4)))
    ]
    generations.ask_generation(connection, made.id, 0, everyone, rows, build.state(0))
    return made.id


def test_individuals_carry_what_the_optimizer_said(connection: Connection) -> None:
    campaign = ask(
        connection,
        NewIndividual(1, {"x": 0.0}, origin=0, tasks=(1, 2)),
        NewIndividual(2, {"x": 1.0}, parent=1, tasks=(0, 1)),
    )
    found = [individuals.get(connection, campaign, index) for index in range(3)]
    said = [(one.origin, one.parent, one.first_task, one.n_tasks) for one in found if one is not None]
    assert said == [(None, None, None, None), (0, None, 1, 2), (None, 1, 0, 1)]
    counts = workload.counts(connection, campaign)
    assert (counts.untold, counts.open, counts.sliced, counts.slices) == (3, 3, 2, 3)


@pytest.mark.parametrize(
    "wrong",
    [{"origin": 7}, {"parent": 7}, {"tasks": (0, 0)}, {"tasks": (-1, 1)}],
    ids=str,
)
def test_what_it_cannot_have_said_is_refused(connection: Connection, wrong: dict[str, Any]) -> None:
    with pytest.raises(StoreError):
        ask(connection, NewIndividual(1, {"x": 0.0}, **wrong))


@pytest.mark.parametrize(
    ("status", "fitness", "violation"),
    [
        ("ok", [1.0], 0.5),
        ("failed", None, 0.5),
        ("infeasible", None, 0.0),
        ("infeasible", None, float("inf")),
    ],
)
def test_only_infeasible_individuals_have_a_violation(
    connection: Connection, status: str, fitness: list[float] | None, violation: float
) -> None:
    made = build.campaign(connection)
    build.ask(connection, made.id, 0, [0])
    told = [ToldIndividual(0, status, fitness, violation)]
    with pytest.raises(Exception, match="ck_individuals_violation"):
        generations.tell_generation(connection, made.id, 0, told, build.state(0, "told"), {}, build.SHA)


def test_metrics_come_in_the_order_in_which_they_are_asked_for(connection: Connection) -> None:
    made = build.campaign(connection)
    build.ask(connection, made.id, 0, [0], tasks=2)
    lines = [
        build.result(0, 0, metrics={"b": 2.5, "a": 1e16, "c": 0}),
        build.result(0, 1, metrics={"a": -3}),
    ]
    evaluations.ingest(connection, made.id, lines)
    (one,) = evaluations.complete_untold(connection, made.id, ["a", "b"])
    assert [list(e.metrics) for e in one.evaluations] == [[10**16, 2.5], [-3, None]]
    (one,) = evaluations.complete_untold(connection, made.id)
    assert [list(e.metrics) for e in one.evaluations] == [[], []]


def tell_three(connection: Connection) -> str:
    """A campaign that was told fitness 3, 1, 2 of the individuals 0, 1, 2 in generations 0, 0, 1."""
    made = build.campaign(connection)
    for number, fitness in ((0, {0: 3.0, 1: 1.0}), (1, {2: 2.0})):
        build.ask(connection, made.id, number, list(fitness))
        told = [ToldIndividual(index, "ok", [value]) for index, value in fitness.items()]
        state = build.state(number, "told")
        generations.tell_generation(connection, made.id, number, told, state, {}, build.SHA)
    return made.id


@pytest.mark.parametrize(
    ("before", "sign", "most", "expected"),
    [(2, 1, 2, [1, 2]), (2, -1, 2, [0, 2]), (2, 0, 2, [2, 1]), (1, 1, 9, [1, 0]), (0, 1, 9, [])],
)
def test_evaluated_individuals_are_the_best_or_the_newest(
    connection: Connection, before: int, sign: int, most: int, expected: list[int]
) -> None:
    found = individuals.evaluated(connection, tell_three(connection), before=before, sign=sign, most=most)
    assert [one.index for one in found] == expected
    assert all(one.params == {"x": float(one.index)} and one.weight == 1 for one in found)


def test_a_campaign_is_found_by_id_or_by_name(connection: Connection) -> None:
    """By name: the newest that was told something."""
    told = tell_three(connection)
    build.campaign(connection)  # newer, and has nothing to give
    assert campaigns.named(connection, "sphere-test").id == told
    assert campaigns.named(connection, told).id == told
    with pytest.raises(UserError, match="there is no campaign 'nobody' that has told anything"):
        campaigns.named(connection, "nobody")
    assert individuals.count(connection, told) == 3


def test_the_oldest_individual_in_use(connection: Connection) -> None:
    """Untold, parent of an untold one, or told in the two generations before the oldest untold one."""
    made = build.campaign(connection)
    assert individuals.oldest_in_use(connection, made.id, 0) == 0
    for number in range(5):
        build.ask(connection, made.id, number, [2 * number, 2 * number + 1])
        build.tell(connection, made.id, number, [2 * number, 2 * number + 1])
    assert individuals.oldest_in_use(connection, made.id, 5) == 6
    new = [NewIndividual(10, {}, parent=3), NewIndividual(11, {}, parent=9)]
    generations.ask_generation(connection, made.id, 5, new, [], build.state(5))
    assert individuals.oldest_in_use(connection, made.id, 5) == 3
    build.tell(connection, made.id, 5, [10])
    for number in range(6, 9):
        build.ask(connection, made.id, number, [2 * number])
        build.tell(connection, made.id, number, [2 * number])
    # Individual 11 is slow: what was told shortly before it was asked is kept as well.
    assert individuals.oldest_in_use(connection, made.id, 9) == 6
