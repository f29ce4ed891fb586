"""Campaigns: one row each, with the totals that overviews show."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection, RowMapping

from l2l_tasks.errors import UserError
from l2l_tasks.store import events
from l2l_tasks.store.schema import CAMPAIGN_STATUSES, campaigns, spec_versions, workers
from l2l_tasks.store.values import clean


@dataclass(frozen=True)
class Campaign:
    """A row of `campaigns`.

    Attributes:
        origin: what asked for it; one origin makes one campaign, however often it asks.
        spec: the specification in force (plain JSON); `spec_version` counts from 1.
        problem: what goes with it: space, objectives and code of the optimizee (plain JSON).
        status: running, paused, stopped or finished; `reason` says why.
        next_generation: the number that `ask_generation` takes next.
        best_individual, best_fitness: as last given to `tell_generation`.
        core_seconds: used by all workers, as far as known.
    """

    id: str
    name: str
    origin: str
    spec: dict[str, Any]
    spec_hash: str
    spec_version: int
    problem: dict[str, Any]
    code_hash: str
    site: str
    seed: int
    status: str
    reason: str | None
    created_at: datetime
    ended_at: datetime | None
    mlflow_run_id: str | None
    staged: bool
    next_generation: int
    generations_told: int
    told_at: datetime | None
    best_fitness: list[float] | None
    best_individual: int | None
    evaluations_total: int
    evaluations_ok: int
    evaluations_failed: int
    evaluations_infeasible: int
    core_seconds: float


@dataclass(frozen=True)
class Overview:
    """One line of a list of campaigns.

    Attributes:
        generation: the last one asked; None before the first.
        generations_budget: how many there may be; None when another limit ends the campaign.
        live_workers, waiting_workers: those that run; those that the scheduler still has to start.
    """

    id: str
    name: str
    site: str
    status: str
    reason: str | None
    created_at: datetime
    ended_at: datetime | None
    generation: int | None
    generations_told: int
    generations_budget: int | None
    told_at: datetime | None
    best_fitness: list[float] | None
    best_individual: int | None
    evaluations_done: int
    evaluations_ok: int
    evaluations_failed: int
    evaluations_infeasible: int
    evaluations_total: int
    live_workers: int
    waiting_workers: int
    core_seconds: float
    mlflow_run_id: str | None


_COLUMNS = [campaigns.c[field.name] for field in fields(Campaign)]


def create(
    connection: Connection,
    *,
    origin: str,
    name: str,
    spec: Mapping[str, Any],
    spec_hash: str,
    problem: Mapping[str, Any],
    code_hash: str,
    site: str,
    seed: int,
) -> Campaign:
    """The campaign of `origin`, made when there is none yet (then with an event).

    Args:
        name: [a-z0-9-]; the id is the name with 8 random hex digits.
        code_hash: of code that `code.put` keeps already.
        seed: 0 <= seed < 2**63.
    Raises:
        UserError: the name or the seed cannot be used.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise UserError(f"campaign name {name!r}: use small letters, digits and '-', first a letter or digit")
    if not 0 <= seed < 2**63:
        raise UserError(f"campaign {name}: seed {seed} is outside 0 ... 2**63 - 1")
    row = {
        "id": f"{name}-{uuid.uuid4().hex[:8]}",
        "name": name,
        "origin": origin,
        "spec": dict(spec),
        "spec_hash": spec_hash,
        "problem": dict(problem),
        "code_hash": code_hash,
        "site": site,
        "seed": seed,
    }
    statement = insert(campaigns).values(row).on_conflict_do_nothing(index_elements=["origin"])
    made = connection.execute(statement.returning(*_COLUMNS)).mappings().one_or_none()
    if made is None:
        return _campaign(
            connection.execute(sa.select(*_COLUMNS).where(campaigns.c.origin == origin)).mappings().one()
        )
    first = {name: row[name] for name in ("spec", "spec_hash", "problem")}
    first |= {"campaign_id": made["id"], "version": 1, "from_generation": 0, "who": origin}
    connection.execute(spec_versions.insert().values(first))
    events.add(
        connection, made["id"], "created", {"spec_hash": spec_hash, "code_hash": code_hash}, who=origin
    )
    return _campaign(made)


def get(connection: Connection, campaign_id: str) -> Campaign:
    """The campaign; UserError when there is none of that id."""
    return _one(connection, campaign_id, sa.select(*_COLUMNS).where(campaigns.c.id == campaign_id))


def find(connection: Connection, origin: str) -> Campaign | None:
    """The campaign that `origin` made; None when it made none."""
    row = (
        connection.execute(sa.select(*_COLUMNS).where(campaigns.c.origin == origin)).mappings().one_or_none()
    )
    return None if row is None else _campaign(row)


def named(connection: Connection, name: str) -> Campaign:
    """The campaign with this id, or else the newest of this name that was told something.

    Raises:
        UserError: there is none.
    """
    c = campaigns.c
    query = (
        sa.select(*_COLUMNS)
        .where((c.id == name) | ((c.name == name) & (c.generations_told > 0)))
        .order_by((c.id == name).desc(), c.created_at.desc(), c.id)
        .limit(1)
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise UserError(
            f"there is no campaign {name!r} that has told anything so far: `l2l status` lists those there are"
        )
    return _campaign(row)


def lock(connection: Connection, campaign_id: str) -> Campaign:
    """The campaign, locked against other writers until the transaction ends; UserError when there is none.

    The lock (FOR NO KEY UPDATE) lets others read, and add events.
    """
    query = sa.select(*_COLUMNS).where(campaigns.c.id == campaign_id).with_for_update(key_share=True)
    return _one(connection, campaign_id, query)


def set_status(
    connection: Connection, campaign_id: str, status: str, reason: str | None = None, *, who: str
) -> bool:
    """Change the status, with an event that says who did it; False when nothing changed.

    `stopped` and `finished` set `ended_at`, the others clear it.
    """
    if status not in CAMPAIGN_STATUSES:
        raise ValueError(f"status {status!r} is none of {', '.join(CAMPAIGN_STATUSES)}")
    reason = None if reason is None else clean(reason)
    before = lock(connection, campaign_id)
    if (before.status, before.reason) == (status, reason):
        return False
    ended = (
        sa.func.coalesce(campaigns.c.ended_at, sa.func.now()) if status in ("stopped", "finished") else None
    )
    _update(connection, campaign_id, status=status, reason=reason, ended_at=ended)
    detail = {"from": before.status, "to": status, "reason": reason}
    events.add(connection, campaign_id, "status", detail, who=who)
    return True


def set_mlflow_run(connection: Connection, campaign_id: str, run_id: str) -> None:
    """Remember the MLflow run of the campaign."""
    _update(connection, campaign_id, mlflow_run_id=run_id)


def set_staged(connection: Connection, campaign_id: str) -> None:
    """Remember that the campaign's code and folder are at the site."""
    _update(connection, campaign_id, staged=True)


def listing(connection: Connection) -> list[Overview]:
    """All campaigns, newest first, from their rows and the live workers only: one statement."""
    running = workers.c.state == "RUNNING"
    live = (
        sa.select(
            workers.c.campaign_id,
            sa.func.count().filter(running).label("running"),
            sa.func.count().filter(~running).label("others"),
        )
        .where(workers.c.ended_at.is_(None))
        .group_by(workers.c.campaign_id)
        .subquery()
    )
    c = campaigns.c
    computed = {
        "generation": sa.func.nullif(c.next_generation - 1, -1),
        "generations_budget": c.spec["budget"]["generations"].astext.cast(sa.Integer),
        "evaluations_done": c.evaluations_ok + c.evaluations_failed + c.evaluations_infeasible,
        "live_workers": sa.func.coalesce(live.c.running, 0),
        "waiting_workers": sa.func.coalesce(live.c.others, 0),
    }
    names = [field.name for field in fields(Overview)]
    columns = [computed[name].label(name) if name in computed else c[name] for name in names]
    query = (
        sa.select(*columns)
        .select_from(campaigns.outerjoin(live, live.c.campaign_id == c.id))
        .order_by(c.created_at.desc(), c.id)
    )
    return [Overview(**row) for row in connection.execute(query).mappings()]


def _update(connection: Connection, campaign_id: str, **values: Any) -> None:
    statement = campaigns.update().where(campaigns.c.id == campaign_id).values(**values)
    if connection.execute(statement).rowcount == 0:
        raise _unknown(campaign_id)


def _one(connection: Connection, campaign_id: str, query: sa.Select[Any]) -> Campaign:
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise _unknown(campaign_id)
    return _campaign(row)


def _unknown(campaign_id: str) -> UserError:
    return UserError(f"there is no campaign {campaign_id!r}: `l2l status` lists those there are")


def _campaign(row: RowMapping) -> Campaign:
    return Campaign(**row)
