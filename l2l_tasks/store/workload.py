"""Numbers of a generation: what is still open, and what its evaluations cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection


@dataclass(frozen=True)
class Counts:
    """Individuals that were not told yet, and how many of them still have an evaluation without a result.

    `sliced` of the untold are evaluated on some of the campaign's tasks only, on `slices` tasks together.
    `tests` evaluations on held-out tasks have no result.
    """

    untold: int
    open: int
    sliced: int = 0
    slices: int = 0
    tests: int = 0

    @property
    def complete(self) -> int:
        """Individuals that can be told now."""
        return self.untold - self.open


_COUNTS = sa.text("""
    SELECT count(*) AS untold, (
            SELECT count(DISTINCT individual) FROM l2l.evaluations
            WHERE campaign_id = :campaign AND status = 'pending' AND individual >= 0
        ) AS open, count(n_tasks) AS sliced, coalesce(sum(n_tasks), 0) AS slices, (
            SELECT count(*) FROM l2l.evaluations
            WHERE campaign_id = :campaign AND status = 'pending' AND individual < 0
        ) AS tests
    FROM l2l.individuals WHERE campaign_id = :campaign AND told_generation IS NULL AND index >= 0
""")


def counts(connection: Connection, campaign_id: str) -> Counts:
    """What a campaign has open now."""
    return Counts(**connection.execute(_COUNTS, {"campaign": campaign_id}).mappings().one())


_TOTALS = sa.text("""
    SELECT status, error_kind, count(*) AS n, coalesce(sum(cpu_seconds), 0) AS cpu,
        coalesce(sum(extract(epoch FROM ended_at - started_at)), 0)::double precision AS wall,
        coalesce(sum(attempt), 0) AS retries, coalesce(sum(duplicates), 0) AS duplicates
    FROM l2l.evaluations
    WHERE campaign_id = :campaign AND individual = ANY(:individuals)
    GROUP BY status, error_kind
""")

_WAIT = sa.text("""
    SELECT extract(epoch FROM min(e.started_at) - g.submitted_at)::double precision
    FROM l2l.generations AS g LEFT JOIN l2l.evaluations AS e
        ON e.campaign_id = g.campaign_id AND e.individual = ANY(:individuals)
    WHERE g.campaign_id = :campaign AND g.number = :generation
    GROUP BY g.submitted_at
""")


def totals(
    connection: Connection, campaign_id: str, generation: int, individuals: Sequence[int]
) -> dict[str, float]:
    """What the evaluations of these individuals came to.

    Returns:
        `ok`, `failed`, `infeasible` (evaluations), `failed_<kind>`, `cpu_seconds`, `wall_seconds`, `retries`,
        `duplicates`, and `queue_wait` (s from submission to the first start, when both are known).
    """
    values = {"campaign": campaign_id, "individuals": list(individuals), "generation": generation}
    found = {"ok": 0.0, "failed": 0.0, "infeasible": 0.0}
    found |= {"cpu_seconds": 0.0, "wall_seconds": 0.0, "retries": 0.0, "duplicates": 0.0}
    for row in connection.execute(_TOTALS, values).mappings():
        found[row["status"]] += row["n"]
        if row["status"] == "failed":
            kind = f"failed_{row['error_kind']}"
            found[kind] = found.get(kind, 0.0) + row["n"]
        found["cpu_seconds"] += row["cpu"]
        found["wall_seconds"] += row["wall"]
        found["retries"] += float(row["retries"])
        found["duplicates"] += float(row["duplicates"])
    wait = connection.scalar(_WAIT, values)
    return found if wait is None else {**found, "queue_wait": max(0.0, wait)}
