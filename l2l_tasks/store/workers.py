"""Workers: one row per Slurm array task (or local process), and the core-seconds they used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from l2l_tasks.store import bulk, campaigns

LIVE = ("PENDING", "RUNNING", "UNKNOWN")  # every other state means that the worker has ended


@dataclass(frozen=True)
class WorkerRow:
    """What is known about a worker; None leaves what was known before.

    Attributes:
        worker: its id; job, index, restart: job id, array index and restart count.
        state: normalised (PENDING, RUNNING, COMPLETED, ...); raw: the scheduler's word; reason: why it waits.
        cpus: cores it holds. submitted, started, ended: seconds since the epoch.
    """

    worker: str
    job: str
    index: int
    restart: int
    state: str
    raw: str | None = None
    reason: str | None = None
    host: str | None = None
    cpus: int | None = None
    submitted: float | None = None
    started: float | None = None
    ended: float | None = None


def upsert(
    connection: Connection, campaign_id: str, rows: Sequence[WorkerRow], *, all_live: bool = False
) -> None:
    """Add or update workers. What has ended stays ended.

    Args:
        all_live: `rows` holds every worker that the scheduler has (it did answer): the others have ended.
    """
    if not rows and not all_live:
        return
    campaigns.lock(connection, campaign_id)
    last = {row.worker: row for row in rows}
    bulk.stage(connection, "l2l_workers", _STAGED, ((campaign_id, *astuple(row)) for row in last.values()))
    parameters = {"campaign": campaign_id, "live": list(LIVE)}
    connection.execute(_UPSERT, parameters)
    if all_live:
        connection.execute(_END_OTHERS, parameters)


def core_seconds(connection: Connection, campaign_id: str) -> float:
    """Cores x seconds of all workers of the campaign, until each was last heard of."""
    return campaigns.get(connection, campaign_id).core_seconds


_STAGED = {
    "campaign_id": "text",
    "worker": "text",
    "job": "text",
    "index": "integer",
    "restart": "integer",
    "state": "text",
    "raw": "text",
    "reason": "text",
    "host": "text",
    "cpus": "integer",
    "submitted": "double precision",
    "started": "double precision",
    "ended": "double precision",
}

# `merged` is each staged worker with what was known before; the campaign's total grows by the difference.
_UPSERT = sa.text("""
    WITH merged AS (
        SELECT s.worker, s.job, s.index, s.restart,
            CASE WHEN w.ended_at IS NOT NULL AND s.state = ANY(:live) THEN w.state ELSE s.state END AS state,
            CASE WHEN w.ended_at IS NOT NULL AND s.state = ANY(:live) THEN w.raw ELSE s.raw END AS raw,
            s.reason, coalesce(s.host, w.host) AS host, coalesce(s.cpus, w.cpus) AS cpus,
            coalesce(to_timestamp(s.submitted), w.submitted_at) AS submitted_at,
            coalesce(to_timestamp(s.started), w.started_at) AS started_at,
            coalesce(to_timestamp(s.ended), w.ended_at, CASE WHEN s.state <> ALL(:live) THEN now() END)
                AS ended_at,
            coalesce(w.core_seconds, 0) AS before
        FROM pg_temp.l2l_workers AS s
        LEFT JOIN l2l.workers AS w ON w.campaign_id = s.campaign_id AND w.worker = s.worker
    ), saved AS (
        INSERT INTO l2l.workers AS w (campaign_id, worker, job, index, restart, state, raw, reason, host,
            cpus, submitted_at, started_at, ended_at, seen_at, core_seconds)
        SELECT :campaign, worker, job, index, restart, state, raw, reason, host, cpus,
            submitted_at, started_at, ended_at, now(), coalesce(
                cpus * greatest(0, extract(epoch FROM coalesce(ended_at, now()) - started_at)), before)
        FROM merged
        ON CONFLICT (campaign_id, worker) DO UPDATE SET state = excluded.state, raw = excluded.raw,
            reason = excluded.reason, host = excluded.host, cpus = excluded.cpus,
            submitted_at = excluded.submitted_at, started_at = excluded.started_at,
            ended_at = excluded.ended_at, seen_at = excluded.seen_at, core_seconds = excluded.core_seconds
        RETURNING w.worker, w.core_seconds
    )
    UPDATE l2l.campaigns SET core_seconds = core_seconds + (
        SELECT coalesce(sum(saved.core_seconds - merged.before), 0) FROM saved JOIN merged USING (worker)
    )
    WHERE id = :campaign
""")

# How and when they ended is not known: the end is when they were last seen.
_END_OTHERS = sa.text("""
    UPDATE l2l.workers AS w SET state = 'ENDED', ended_at = w.seen_at
    WHERE w.campaign_id = :campaign AND w.ended_at IS NULL
        AND NOT EXISTS (SELECT FROM pg_temp.l2l_workers AS s WHERE s.worker = w.worker)
""")
