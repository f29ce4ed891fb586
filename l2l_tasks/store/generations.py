"""Generations: what was asked of the optimizer and what it was told, each exactly once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from l2l_tasks.errors import StoreError
from l2l_tasks.store import bulk, campaigns, states
from l2l_tasks.store.schema import campaigns as campaigns_table
from l2l_tasks.store.schema import generations
from l2l_tasks.store.states import OptimizerState
from l2l_tasks.store.values import json_text


@dataclass(frozen=True)
class Generation:
    """A row of `generations`: individuals `asked` (no tests), the times of its steps, `summary` as told."""

    campaign_id: str
    number: int
    asked: int
    asked_at: datetime
    submitted_at: datetime | None
    collected_at: datetime | None
    told_at: datetime | None
    logged_at: datetime | None
    told_sha256: str | None
    summary: dict[str, Any] | None


@dataclass(frozen=True)
class NewIndividual:
    """One parameter set; `index` is unique in the campaign, below 0 for tests on held-out tasks.

    Attributes:
        origin, parent: earlier individuals: the one with the same parameters, the one whose learner goes on.
        tasks: (first, number) of the campaign's tasks that it is evaluated on; None: all.
    """

    index: int
    params: dict[str, Any]
    origin: int | None = None
    parent: int | None = None
    tasks: tuple[int, int] | None = None


@dataclass(frozen=True)
class NewEvaluation:
    """One individual at one task; seed: 0 <= seed < 2**63, nonce: 16 hex digits."""

    individual: int
    task_index: int
    repeat: int
    task: dict[str, Any]
    seed: int
    nonce: str


@dataclass(frozen=True)
class ToldIndividual:
    """What the optimizer was told: ok (one fitness per objective), failed or infeasible (fitness None).

    `violation` of an infeasible one: how far it is from being feasible, > 0, finite; None when not known.
    """

    index: int
    status: str
    fitness: Sequence[float] | None
    violation: float | None = None


_COLUMNS = [generations.c[field.name] for field in fields(Generation)]


def ask_generation(
    connection: Connection,
    campaign_id: str,
    number: int,
    individuals: Sequence[NewIndividual],
    evaluations: Sequence[NewEvaluation],
    state: OptimizerState,
) -> bool:
    """Write generation `number` with its individuals, evaluations and the optimizer's state after asking.

    Returns:
        False when the generation exists already: nothing is written then.
    Raises:
        StoreError: an earlier generation is missing, or the rows contradict those there are.
    """
    campaign = campaigns.lock(connection, campaign_id)
    if number < campaign.next_generation:
        return False
    if number > campaign.next_generation:
        raise StoreError(
            f"generation {number} of {campaign_id} cannot be asked: {campaign.next_generation} is next"
        )
    asked = sum(one.index >= 0 for one in individuals)
    row = {"campaign_id": campaign_id, "number": number, "asked": asked}
    connection.execute(generations.insert().values(row))
    bulk.copy(
        connection,
        "l2l.individuals",
        ("campaign_id", "index", "generation", "params", "origin", "parent", "first_task", "n_tasks"),
        (
            (
                campaign_id,
                one.index,
                number,
                json_text(one.params),
                one.origin,
                one.parent,
                *(one.tasks or (None, None)),
            )
            for one in individuals
        ),
    )
    rows = (
        (
            one.individual,
            one.task_index,
            one.repeat,
            campaign_id,
            number,
            json_text(one.task),
            one.seed,
            one.nonce,
        )
        for one in evaluations
    )
    key = ("individual", "task_index", "repeat")
    bulk.copy(
        connection, "l2l.evaluations", (*key, "campaign_id", "generation", "task", "seed", "nonce"), rows
    )
    states.save(connection, campaign_id, state)
    c = campaigns_table.c
    connection.execute(
        campaigns_table.update()
        .where(c.id == campaign_id)
        .values(next_generation=number + 1, evaluations_total=c.evaluations_total + len(evaluations))
    )
    return True


def get(connection: Connection, campaign_id: str, number: int) -> Generation | None:
    """Generation `number`; None when it was not asked yet."""
    query = sa.select(*_COLUMNS).where(_is(campaign_id, number))
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Generation(**row)


def last(connection: Connection, campaign_id: str) -> Generation | None:
    """The generation asked last; None before the first."""
    query = (
        sa.select(*_COLUMNS)
        .where(generations.c.campaign_id == campaign_id)
        .order_by(generations.c.number.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Generation(**row)


def mark_submitted(connection: Connection, campaign_id: str, number: int) -> None:
    """Note the time of the first submission that went through."""
    _mark(connection, campaign_id, number, "submitted_at")


def mark_collected(connection: Connection, campaign_id: str, number: int) -> None:
    """Note the time at which all results were there."""
    _mark(connection, campaign_id, number, "collected_at")


def mark_logged(connection: Connection, campaign_id: str, number: int) -> None:
    """Note the time at which MLflow had the generation."""
    _mark(connection, campaign_id, number, "logged_at")


def tell_generation(
    connection: Connection,
    campaign_id: str,
    number: int,
    told: Sequence[ToldIndividual],
    state: OptimizerState,
    summary: Mapping[str, Any],
    told_sha256: str,
    *,
    best: tuple[int, Sequence[float]] | None = None,
) -> bool:
    """Write what the optimizer was told, in that order, and its state after it.

    Args:
        best: the best individual so far and its fitness; the caller judges, since directions and noise are
            its business. None leaves the one there is.
    Returns:
        False when the generation was told already: nothing is written then.
    Raises:
        StoreError: the generation was not asked, or an individual is unknown or was told before.
    """
    campaigns.lock(connection, campaign_id)
    changed = connection.execute(
        generations.update()
        .where(_is(campaign_id, number), generations.c.told_at.is_(None))
        .values(told_at=sa.func.now(), told_sha256=told_sha256, summary=dict(summary))
    )
    if changed.rowcount == 0:
        if get(connection, campaign_id, number) is None:
            raise StoreError(f"generation {number} of {campaign_id} cannot be told: it was never asked")
        return False
    _tell(connection, campaign_id, number, told)
    states.save(connection, campaign_id, state)
    c = campaigns_table.c
    values: dict[str, Any] = {"generations_told": c.generations_told + 1, "told_at": sa.func.now()}
    if best is not None:
        values |= {"best_individual": best[0], "best_fitness": [float(value) for value in best[1]]}
    connection.execute(campaigns_table.update().where(c.id == campaign_id).values(values))
    return True


def history(connection: Connection, campaign_id: str) -> list[dict[str, Any]]:
    """The summaries of all told generations in order (for plots and reports; it grows with the campaign)."""
    query = sa.select(generations.c.summary).where(*_told(campaign_id)).order_by(generations.c.number)
    return list(connection.scalars(query))


def told_sequence(connection: Connection, campaign_id: str) -> list[tuple[int, str]]:
    """(generation, told_sha256) of all told generations in order; grows with the campaign."""
    query = (
        sa.select(generations.c.number, generations.c.told_sha256)
        .where(*_told(campaign_id))
        .order_by(generations.c.number)
    )
    return [(number, sha256) for number, sha256 in connection.execute(query)]


_STAGED = {
    "position": "integer",
    "campaign_id": "text",
    "index": "integer",
    "status": "text",
    "fitness": "double precision[]",
    "violation": "double precision",
}
_TELL = sa.text("""
    UPDATE l2l.individuals AS i
    SET status = t.status, fitness = t.fitness, violation = t.violation, told_generation = :number,
        told_position = t.position
    FROM pg_temp.l2l_told AS t
    WHERE i.campaign_id = t.campaign_id AND i.index = t.index AND i.told_generation IS NULL
""")


def _tell(connection: Connection, campaign_id: str, number: int, told: Sequence[ToldIndividual]) -> None:
    rows = (
        (position, campaign_id, one.index, one.status, one.fitness, one.violation)
        for position, one in enumerate(told)
    )
    bulk.stage(connection, "l2l_told", _STAGED, rows)
    changed = connection.execute(_TELL, {"number": number}).rowcount
    if changed != len(told):
        raise StoreError(
            f"generation {number} of {campaign_id} cannot be told: only {changed} of {len(told)} "
            "individuals are known, named once and not told before"
        )


def _told(campaign_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return generations.c.campaign_id == campaign_id, generations.c.told_at.is_not(None)


def _is(campaign_id: str, number: int) -> sa.ColumnElement[bool]:
    return sa.and_(generations.c.campaign_id == campaign_id, generations.c.number == number)


def _mark(connection: Connection, campaign_id: str, number: int, column: str) -> None:
    """Set a time once; it stays at the first call's."""
    first = sa.func.coalesce(generations.c[column], sa.func.now())
    changed = connection.execute(generations.update().where(_is(campaign_id, number)).values({column: first}))
    if changed.rowcount == 0:
        raise StoreError(f"generation {number} of {campaign_id} does not exist: it was never asked")
