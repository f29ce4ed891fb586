"""Individuals: reading them back, one or a generation's."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from l2l_tasks.store.schema import individuals


@dataclass(frozen=True)
class Individual:
    """A row of `individuals`; asked in `generation`, told to the optimizer in `told_generation`."""

    index: int
    generation: int
    params: dict[str, Any]
    status: str
    fitness: list[float] | None
    told_generation: int | None


_COLUMNS = [individuals.c[field.name] for field in fields(Individual)]


def get(connection: Connection, campaign_id: str, index: int) -> Individual | None:
    """The individual; None when there is none of that index."""
    query = sa.select(*_COLUMNS).where(individuals.c.campaign_id == campaign_id, individuals.c.index == index)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else Individual(**row)


def told_in(connection: Connection, campaign_id: str, generation: int) -> list[Individual]:
    """The individuals told in `generation`, in the order in which they were told."""
    query = (
        sa.select(*_COLUMNS)
        .where(individuals.c.campaign_id == campaign_id, individuals.c.told_generation == generation)
        .order_by(individuals.c.told_position)
    )
    return [Individual(**row) for row in connection.execute(query).mappings()]
