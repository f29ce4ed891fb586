"""Individuals: reading them back, one, a generation's, or those that another optimizer learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.engine import Connection

from l2l_tasks.store.schema import individuals


@dataclass(frozen=True)
class Individual:
    """A row of `individuals`; asked in `generation`, told to the optimizer in `told_generation`.

    Attributes:
        origin, parent, first_task, n_tasks: as asked, see `generations.NewIndividual`.
        violation: see `generations.ToldIndividual`.
    """

    index: int
    generation: int
    params: dict[str, Any]
    status: str
    fitness: list[float] | None
    told_generation: int | None
    origin: int | None
    parent: int | None
    first_task: int | None
    n_tasks: int | None
    violation: float | None


@dataclass(frozen=True)
class Evaluated:
    """An individual with a fitness; `origin`: as `Individual`, `weight`: tasks that it was evaluated on."""

    index: int
    origin: int | None
    weight: int
    params: dict[str, Any]
    fitness: list[float]


_COLUMNS = [individuals.c[field.name] for field in fields(Individual)]


def get(connection: Connection, campaign_id: str, index: int) -> Individual | None:
    """The individual; None when there is none of that index."""
    query = sa.select(*_COLUMNS).where(individuals.c.campaign_id == campaign_id, individuals.c.index == index)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Individual(**row)


def count(connection: Connection, campaign_id: str) -> int:
    """How many have been asked, which is the index of the next one."""
    query = sa.select(sa.func.coalesce(sa.func.max(individuals.c.index) + 1, 0)).where(
        individuals.c.campaign_id == campaign_id, individuals.c.index >= 0
    )
    return int(connection.execute(query).scalar_one())


def untold(connection: Connection, campaign_id: str, first: int) -> int:
    """How many from index `first` on have not been told."""
    query = sa.select(sa.func.count()).where(
        individuals.c.campaign_id == campaign_id,
        individuals.c.told_generation.is_(None),
        individuals.c.index >= first,
    )
    return int(connection.execute(query).scalar_one())


def parents(connection: Connection, campaign_id: str, indices: Sequence[int]) -> dict[int, int | None]:
    """The parents of some individuals."""
    query = sa.select(individuals.c.index, individuals.c.parent).where(
        individuals.c.campaign_id == campaign_id, individuals.c.index.in_(indices)
    )
    return {index: parent for index, parent in connection.execute(query)}  # noqa: C416


def oldest_in_use(connection: Connection, campaign_id: str, generation: int) -> int:
    """The first individual that is untold, a parent of one, or told in the two generations before.

    Before this generation, or before the one in which the oldest untold individual was asked.
    """
    values = {"campaign": campaign_id, "generation": generation}
    return int(connection.execute(_OLDEST_IN_USE, values).scalar_one())


def told_in(connection: Connection, campaign_id: str, generation: int) -> list[Individual]:
    """The individuals told in `generation`, in the order in which they were told."""
    query = (
        sa.select(*_COLUMNS)
        .where(
            individuals.c.campaign_id == campaign_id,
            individuals.c.told_generation == generation,
            individuals.c.index >= 0,
        )
        .order_by(individuals.c.told_position)
    )
    return [Individual(**row) for row in connection.execute(query).mappings()]


_OLDEST_IN_USE = sa.text("""
    SELECT coalesce(least(
        (SELECT min(least(index, parent)) FROM l2l.individuals
         WHERE campaign_id = :campaign AND told_generation IS NULL AND index >= 0),
        (SELECT min(index) FROM l2l.individuals
         WHERE campaign_id = :campaign AND index >= 0 AND told_generation >= least(:generation,
            (SELECT min(generation) FROM l2l.individuals
             WHERE campaign_id = :campaign AND told_generation IS NULL AND index >= 0)) - 2)
    ), 0)
""")

_EVALUATED = sa.text("""
    SELECT index, origin, coalesce(n_tasks, 1) AS weight, params, fitness
    FROM l2l.individuals
    WHERE campaign_id = :campaign AND status = 'ok' AND told_generation < :before AND index >= 0
    ORDER BY CASE WHEN :sign <> 0 THEN :sign * fitness[1] ELSE -index END, index
    LIMIT :most
""").columns(params=JSON)


def evaluated(
    connection: Connection, campaign_id: str, *, before: int, sign: int, most: int
) -> list[Evaluated]:
    """The individuals with a fitness that were told before a generation, at most so many.

    Args:
        before: generation.
        sign: 1 to have those with the smallest first objective, -1 those with the largest, 0 the newest.
        most: how many.
    """
    values = {"campaign": campaign_id, "before": before, "sign": sign, "most": most}
    return [Evaluated(**row) for row in connection.execute(_EVALUATED, values).mappings()]
