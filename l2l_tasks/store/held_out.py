"""Tests on held-out tasks: parameters that no optimizer is told about, as individuals below 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.engine import Connection


class HeldOutEvaluation(NamedTuple):
    """One evaluation at a held-out task; fitness is None unless status is ok, `metrics` are plain numbers."""

    task_index: int
    repeat: int
    status: str
    fitness: list[float] | None
    curve: Sequence[Any]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class HeldOutTest:
    """Parameters all of whose evaluations, sorted by task and repeat, are final.

    `generation`: the one they were asked with; as many generations had been told before.
    """

    index: int
    generation: int
    params: dict[str, Any]
    evaluations: list[HeldOutEvaluation]


def next_index(connection: Connection, campaign_id: str) -> int:
    """The index of the next test: -1, -2, ..."""
    return int(connection.execute(_NEXT, {"campaign": campaign_id}).scalar_one())


def finished(connection: Connection, campaign_id: str) -> list[HeldOutTest]:
    """Tests that are not told yet, of generations none of whose tests is open; the newest first."""
    return _read(connection, campaign_id, _UNTOLD)


def told(connection: Connection, campaign_id: str) -> list[HeldOutTest]:
    """All tests of a campaign that were told, the newest first."""
    return _read(connection, campaign_id, "told_generation IS NOT NULL")


def _read(connection: Connection, campaign_id: str, condition: str) -> list[HeldOutTest]:
    query = sa.text(_TESTS.format(condition=condition)).columns(params=JSON, curve=JSONB, metrics=JSONB)
    rows = connection.execute(query, {"campaign": campaign_id})
    found = []
    for index, group in groupby(rows, key=lambda row: row.index):
        final = list(group)
        first = final[0]
        evaluations = [
            HeldOutEvaluation(
                row.task_index, row.repeat, row.status, row.fitness, row.curve or (), row.metrics or {}
            )
            for row in final
        ]
        found.append(HeldOutTest(index, first.generation, first.params, evaluations))
    return found


_NEXT = sa.text("""
    SELECT least(coalesce(min(index), 0), 0) - 1 FROM l2l.individuals WHERE campaign_id = :campaign
""")

_UNTOLD = """told_generation IS NULL AND generation NOT IN (
            SELECT generation FROM l2l.evaluations
            WHERE campaign_id = :campaign AND status = 'pending' AND individual < 0
        )"""

_TESTS = """
    SELECT i.index, i.generation, i.params, e.task_index, e.repeat, e.status, e.fitness, e.curve, (
            SELECT jsonb_object_agg(one.key, one.value) FROM jsonb_each(e.metrics) AS one
            WHERE jsonb_typeof(one.value) = 'number'
        ) AS metrics
    FROM (
        SELECT * FROM l2l.individuals
        WHERE campaign_id = :campaign AND index < 0 AND {condition}
    ) AS i CROSS JOIN LATERAL (
        SELECT task_index, repeat, status, fitness, curve, metrics FROM l2l.evaluations
        WHERE campaign_id = i.campaign_id AND individual = i.index ORDER BY task_index, repeat
    ) AS e
    ORDER BY i.index, e.task_index, e.repeat
"""
