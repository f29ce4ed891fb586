"""Events: what happened to a campaign, when, and who or what did it. Rows are only ever added."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from l2l_tasks.store.schema import events
from l2l_tasks.store.values import clean


@dataclass(frozen=True)
class Event:
    """One entry; `campaign_id` is None for what concerns no single campaign."""

    id: int
    campaign_id: str | None
    at: datetime
    kind: str
    who: str
    detail: dict[str, Any]


def add(
    connection: Connection, campaign_id: str | None, kind: str, detail: Mapping[str, Any], who: str
) -> None:
    """Add an event. `detail` holds plain JSON values and no secrets."""
    row = {"campaign_id": campaign_id, "kind": kind, "who": clean(who), "detail": dict(detail)}
    connection.execute(events.insert().values(row))


def recent(connection: Connection, campaign_id: str | None, limit: int) -> list[Event]:
    """The newest `limit` events of a campaign (None: those of no campaign), newest first."""
    query = (
        sa.select(events)
        .where(events.c.campaign_id.is_not_distinct_from(campaign_id))
        .order_by(events.c.id.desc())
        .limit(limit)
    )
    return [Event(**row) for row in connection.execute(query).mappings()]
