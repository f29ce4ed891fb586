"""Versions of a campaign's specification: what a running campaign was told to change, when and by whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from l2l_tasks.store import campaigns
from l2l_tasks.store.schema import campaigns as campaigns_table
from l2l_tasks.store.schema import spec_versions
from l2l_tasks.store.values import clean


@dataclass(frozen=True)
class SpecVersion:
    """A row of `spec_versions`.

    Attributes:
        version: 1 is what the campaign began with.
        from_generation: the first generation asked with it, unless a newer version has the same number.
        spec, problem: as in `campaigns.Campaign`.
    """

    campaign_id: str
    version: int
    from_generation: int
    spec: dict[str, Any]
    spec_hash: str
    problem: dict[str, Any]
    who: str
    created_at: datetime


_COLUMNS = [spec_versions.c[field.name] for field in fields(SpecVersion)]


def add(
    connection: Connection,
    campaign_id: str,
    *,
    spec: Mapping[str, Any],
    spec_hash: str,
    problem: Mapping[str, Any],
    who: str,
) -> SpecVersion:
    """Add a version that comes into force when the next generation is asked."""
    campaign = campaigns.lock(connection, campaign_id)
    row = {
        "campaign_id": campaign_id,
        "version": newest(connection, campaign_id).version + 1,
        "from_generation": campaign.next_generation,
        "spec": dict(spec),
        "spec_hash": spec_hash,
        "problem": dict(problem),
        "who": clean(who),
    }
    statement = spec_versions.insert().values(row).returning(*_COLUMNS)
    return SpecVersion(**connection.execute(statement).mappings().one())


def newest(connection: Connection, campaign_id: str) -> SpecVersion:
    """The version that the next generation is asked with."""
    query = sa.select(*_COLUMNS).where(spec_versions.c.campaign_id == campaign_id)
    query = query.order_by(spec_versions.c.version.desc()).limit(1)
    return SpecVersion(**connection.execute(query).mappings().one())


def put_in_force(connection: Connection, version: SpecVersion) -> None:
    """Make a version the campaign's own."""
    connection.execute(
        campaigns_table.update()
        .where(campaigns_table.c.id == version.campaign_id)
        .values(
            spec=version.spec,
            spec_hash=version.spec_hash,
            spec_version=version.version,
            problem=version.problem,
        )
    )


def in_force_from(connection: Connection, campaign_id: str, version: int) -> int:
    """The first generation that was asked with a version."""
    query = sa.select(spec_versions.c.from_generation).where(
        spec_versions.c.campaign_id == campaign_id, spec_versions.c.version == version
    )
    return int(connection.execute(query).scalar_one())


def listing(connection: Connection, campaign_id: str) -> list[SpecVersion]:
    """All versions of a campaign, the first one first."""
    query = sa.select(*_COLUMNS).where(spec_versions.c.campaign_id == campaign_id)
    query = query.order_by(spec_versions.c.version)
    return [SpecVersion(**row) for row in connection.execute(query).mappings()]
