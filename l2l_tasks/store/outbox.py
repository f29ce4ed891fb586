"""The outbox: what MLflow still has to be told. A tracking server that is down never stops a campaign."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from l2l_tasks.store.schema import outbox


@dataclass(frozen=True)
class Message:
    """One generation to be logged."""

    id: int
    campaign_id: str
    generation: int
    payload: dict[str, Any]
    created_at: datetime


def add(connection: Connection, campaign_id: str, generation: int, payload: Mapping[str, Any]) -> bool:
    """Add the message of a generation; False (and nothing changed) when it has one already."""
    row = {"campaign_id": campaign_id, "generation": generation, "payload": dict(payload)}
    statement = (
        insert(outbox).values(row).on_conflict_do_nothing(index_elements=["campaign_id", "generation"])
    )
    return connection.execute(statement).rowcount == 1


def pending(connection: Connection, campaign_id: str, limit: int) -> list[Message]:
    """The oldest `limit` messages that were not sent, oldest first."""
    query = (
        sa.select(*(outbox.c[field.name] for field in fields(Message)))
        .where(outbox.c.campaign_id == campaign_id, outbox.c.sent_at.is_(None))
        .order_by(outbox.c.id)
        .limit(limit)
    )
    return [Message(**row) for row in connection.execute(query).mappings()]


def pending_count(connection: Connection, campaign_id: str) -> int:
    """How many messages were not sent."""
    query = sa.select(sa.func.count()).where(outbox.c.campaign_id == campaign_id, outbox.c.sent_at.is_(None))
    return connection.scalar(query) or 0


def mark_sent(connection: Connection, ids: Collection[int]) -> None:
    """Note that messages arrived; the first time stays."""
    if ids:
        connection.execute(
            outbox.update()
            .where(outbox.c.id == sa.any_(sa.literal(list(ids))), outbox.c.sent_at.is_(None))
            .values(sent_at=sa.func.now())
        )
