"""Evaluations: one individual at one task with one seed; what is open, and what came back from the site."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON, JSONB
from sqlalchemy.engine import Connection

from l2l_tasks.errors import StoreError
from l2l_tasks.store import bulk, campaigns, events
from l2l_tasks.store.schema import evaluations
from l2l_tasks.store.values import json_text

WINDOW = 200  # newest durations that count for the median
_INTEGER = 2**31
# Written out, not bound: the planner takes a partial index only for a condition that it can read.
_OK = evaluations.c.status == sa.literal_column("'ok'")
_LATEST = 253402300800.0  # the year 10000, in seconds: beyond it a time is not one


@dataclass(frozen=True)
class Outstanding:
    """An evaluation without a final result. `attempt` is the one to run next, `parent` its individual's."""

    individual: int
    task_index: int
    repeat: int
    params: dict[str, Any]
    task: dict[str, Any]
    seed: int
    nonce: str
    attempt: int
    generation: int
    parent: int | None

    @property
    def key(self) -> str:
        return f"{self.individual}.{self.task_index}.{self.repeat}"


@dataclass(frozen=True)
class IngestedResult:
    """A result line of the site, parsed.

    Attributes:
        status: ok (with finite fitness, one per objective), infeasible or failed.
        final: no attempt is left, or status is not failed.
        started, ended: seconds since the epoch; cpu: seconds.
    """

    individual: int
    task_index: int
    repeat: int
    nonce: str
    attempt: int
    status: str
    final: bool
    fitness: Sequence[float] | None
    metrics: dict[str, Any]
    curve: Sequence[Any]
    started: float
    ended: float
    cpu: float
    host: str
    worker: str
    error_kind: str | None = None
    error_message: str | None = None
    error_tail: str | None = None


@dataclass(frozen=True)
class IngestReport:
    """What became of a batch; the numbers add up to its size.

    Attributes:
        accepted: the first final result of its evaluation.
        duplicates: of an evaluation or attempt that was answered before.
        unknown_key, wrong_nonce: not asked for. invalid: values that no evaluation can have.
        retries: failures with another attempt to come.
    """

    accepted: int = 0
    duplicates: int = 0
    unknown_key: int = 0
    wrong_nonce: int = 0
    invalid: int = 0
    retries: int = 0


class FinalEvaluation(NamedTuple):
    """fitness is None unless status is ok; `metrics` are those asked for, None where there is none."""

    task_index: int
    repeat: int
    status: str
    fitness: list[float] | None
    metrics: Sequence[Any] = ()


@dataclass(frozen=True)
class CompleteIndividual:
    """An individual whose evaluations are all final, sorted by task and repeat, and that was not told yet."""

    index: int
    params: dict[str, Any]
    evaluations: list[FinalEvaluation]


def outstanding(connection: Connection, campaign_id: str) -> list[Outstanding]:
    """All evaluations without a final result, in the order of their keys."""
    rows = connection.execute(_OUTSTANDING, {"campaign": campaign_id})
    return [Outstanding(**row) for row in rows.mappings()]


def complete_untold(
    connection: Connection, campaign_id: str, metrics: Sequence[str] = ()
) -> list[CompleteIndividual]:
    """The individuals that can be told, by index; with these metrics of their evaluations. No tests."""
    complete = []
    rows = connection.execute(_COMPLETE, {"campaign": campaign_id, "metrics": list(metrics)})
    for index, group in groupby(rows, key=lambda row: row.index):
        found = list(group)
        final = [
            FinalEvaluation(row.task_index, row.repeat, row.status, row.fitness, row.metrics or ())
            for row in found
        ]
        complete.append(CompleteIndividual(index, found[0].params, final))
    return complete


def load_error(connection: Connection, campaign_id: str) -> str | None:
    """Why the optimizee could not be loaded at the site, when no individual that can be told got further."""
    n, unloaded, message = connection.execute(_UNLOADED, {"campaign": campaign_id}).one()
    return message if n and n == unloaded else None


def reopen_unloaded(connection: Connection, campaign_id: str) -> int:
    """Let evaluations begin again whose optimizee could not be loaded, unless told; how many.

    They get new nonces: the old lines may be read again when the site's files are made anew.
    """
    return connection.scalar(_REOPEN, {"campaign": campaign_id}) or 0


def duration_median(connection: Connection, campaign_id: str) -> float | None:
    """Seconds that the newest successful evaluations took; None before the first."""
    e = evaluations.c
    newest = (
        sa.select(sa.extract("epoch", e.ended_at - e.started_at).label("seconds"))
        .where(e.campaign_id == campaign_id, _OK)
        .order_by(e.ended_at.desc())
        .limit(WINDOW)
        .subquery()
    )
    median = connection.scalar(sa.select(sa.func.percentile_cont(0.5).within_group(newest.c.seconds)))
    return None if median is None else float(median)


def reject(connection: Connection, campaign_id: str, file: str, reason: str, n: int) -> None:
    """Note that `n` lines of a results file were refused."""
    detail = {"file": file, "reason": reason, "lines": n}
    events.add(connection, campaign_id, "results_rejected", detail, who="collect")


def ingest(connection: Connection, campaign_id: str, results: Sequence[IngestedResult]) -> IngestReport:
    """Take results in their order: the first final one of an evaluation counts, later ones are only counted.

    A failure that is not final raises the evaluation's attempt and leaves its error to be seen. Taking the
    same results again changes nothing. A result that cannot be stored is counted as invalid: one bad line of
    a site must not stop a campaign.
    """
    rows = [row for at, result in enumerate(results) if (row := _row(campaign_id, at, result)) is not None]
    invalid = len(results) - len(rows)
    if not rows:
        return IngestReport(invalid=invalid)
    campaigns.lock(connection, campaign_id)
    bulk.stage(connection, "l2l_results", _STAGED, rows)
    connection.execute(_JUDGE)
    bulk.analyze(connection, "l2l_results")
    for statement in (_ACCEPT, _RETRY, _COUNT_DUPLICATES):
        connection.execute(statement)
    connection.execute(_ADD_UP, {"campaign": campaign_id})
    verdicts: dict[str, int] = {row[0]: row[1] for row in connection.execute(_REPORT)}
    return IngestReport(**verdicts, invalid=invalid)


def _row(campaign_id: str, position: int, result: IngestedResult) -> tuple[object, ...] | None:
    """The staged row of a result, columns as in _STAGED; None when it cannot be stored."""
    if not (_valid_numbers(result) and _valid_outcome(result)):
        return None
    try:
        documents = json_text(result.metrics), json_text(result.curve)
    except StoreError:
        return None
    key = (campaign_id, result.individual, result.task_index, result.repeat)
    outcome = (result.nonce, result.attempt, result.status, result.final, result.fitness)
    run = (result.started, result.ended, result.cpu, result.host, result.worker)
    error = (result.error_kind, result.error_message, result.error_tail)
    return (position, *key, *outcome, *documents, *run, *error, None)


def _valid_numbers(result: IngestedResult) -> bool:
    whole = (abs(result.individual), result.task_index, result.repeat, result.attempt)
    if not all(0 <= number < _INTEGER for number in whole):
        return False
    return 0 <= result.started <= result.ended < _LATEST and 0 <= result.cpu < math.inf


def _valid_outcome(result: IngestedResult) -> bool:
    if result.status == "ok":
        fitness = result.fitness or ()
        return result.final and len(fitness) > 0 and all(map(math.isfinite, fitness))
    if result.fitness is not None:
        return False
    return result.status == "failed" or (result.status == "infeasible" and result.final)


# Plans must be good without statistics too, which a table has none of after a first large generation. A
# subquery with LIMIT or ORDER BY is looked up once per row: the planner cannot turn it into a join that
# compares every row with every other, or reads the history.
_OUTSTANDING = sa.text("""
    SELECT e.individual, e.task_index, e.repeat, i.params, e.task, e.seed, e.nonce, e.attempt, e.generation,
        i.parent
    FROM l2l.evaluations AS e CROSS JOIN LATERAL (
        SELECT params, parent FROM l2l.individuals
        WHERE campaign_id = e.campaign_id AND index = e.individual LIMIT 1
    ) AS i
    WHERE e.campaign_id = :campaign AND e.status = 'pending'
    ORDER BY e.individual, e.task_index, e.repeat
""").columns(params=JSON, task=JSON)

_COMPLETE = sa.text("""
    SELECT i.index, i.params, e.task_index, e.repeat, e.status, e.fitness, (
            SELECT jsonb_agg(e.metrics -> wanted.name ORDER BY wanted.position)
            FROM unnest(CAST(:metrics AS text[])) WITH ORDINALITY AS wanted (name, position)
        ) AS metrics
    FROM l2l.individuals AS i CROSS JOIN LATERAL (
        SELECT task_index, repeat, status, fitness, metrics FROM l2l.evaluations
        WHERE campaign_id = i.campaign_id AND individual = i.index ORDER BY task_index, repeat
    ) AS e
    WHERE i.campaign_id = :campaign AND i.told_generation IS NULL AND i.index >= 0 AND i.index NOT IN (
        SELECT individual FROM l2l.evaluations WHERE campaign_id = :campaign AND status = 'pending'
    )
    ORDER BY i.index, e.task_index, e.repeat
""").columns(params=JSON, metrics=JSONB)

_UNTOLD = """SELECT index FROM l2l.individuals WHERE campaign_id = :campaign AND told_generation IS NULL"""
_UNLOADED = sa.text(f"""
    SELECT count(*), count(*) FILTER (WHERE error_kind = 'import'), min(error_message)
    FROM l2l.evaluations
    WHERE campaign_id = :campaign AND status <> 'pending' AND individual IN ({_UNTOLD})
""")

_REOPEN = sa.text(f"""
    WITH reopened AS (
        UPDATE l2l.evaluations SET status = 'pending', attempt = 0, started_at = NULL, ended_at = NULL,
            nonce = left(replace(gen_random_uuid()::text, '-', ''), 16)
        WHERE campaign_id = :campaign AND status = 'failed' AND error_kind = 'import'
            AND individual IN ({_UNTOLD})
        RETURNING 1
    ), uncollected AS (
        UPDATE l2l.generations SET collected_at = NULL
        WHERE campaign_id = :campaign AND told_at IS NULL AND EXISTS (SELECT FROM reopened)
    )
    UPDATE l2l.campaigns SET evaluations_failed = evaluations_failed - (SELECT count(*) FROM reopened)
    WHERE id = :campaign RETURNING (SELECT count(*) FROM reopened)
""")

_STAGED = {
    "position": "integer",
    "campaign_id": "text",
    "individual": "integer",
    "task_index": "integer",
    "repeat": "integer",
    "nonce": "text",
    "attempt": "integer",
    "status": "text",
    "final": "boolean",
    "fitness": "double precision[]",
    "metrics": "jsonb",
    "curve": "jsonb",
    "started": "double precision",
    "ended": "double precision",
    "cpu": "double precision",
    "host": "text",
    "worker": "text",
    "error_kind": "text",
    "error_message": "text",
    "error_tail": "text",
    "verdict": "text",
}

# All columns are joined, the campaign's too: given as a constant, a planner without statistics takes it for
# so rare that it would compare every row with every other.
_SAME_KEY = """e.campaign_id = r.campaign_id AND e.individual = r.individual
        AND e.task_index = r.task_index AND e.repeat = r.repeat"""

# A verdict is a field of IngestReport. A failure that is not final says something new only while its
# evaluation is open and at this attempt; of several final results in one batch the first is taken.
_JUDGE = sa.text(f"""
    UPDATE pg_temp.l2l_results AS staged SET verdict = judged.verdict
    FROM (
        SELECT r.position, CASE
            WHEN e.campaign_id IS NULL THEN 'unknown_key'
            WHEN e.nonce <> r.nonce THEN 'wrong_nonce'
            WHEN e.status <> 'pending' THEN 'duplicates'
            WHEN r.final AND row_number() OVER same = 1 THEN 'accepted'
            WHEN NOT r.final AND r.attempt >= e.attempt AND row_number() OVER attempts = 1 THEN 'retries'
            ELSE 'duplicates' END AS verdict
        FROM pg_temp.l2l_results AS r
        LEFT JOIN l2l.evaluations AS e ON {_SAME_KEY}
        WINDOW same AS (
            PARTITION BY r.individual, r.task_index, r.repeat, r.nonce, r.final ORDER BY r.position
        ), attempts AS (
            PARTITION BY r.individual, r.task_index, r.repeat, r.nonce, r.final, r.attempt ORDER BY r.position
        )
    ) AS judged
    WHERE judged.position = staged.position
""")

_ACCEPT = sa.text(f"""
    UPDATE l2l.evaluations AS e
    SET status = r.status, attempt = r.attempt, fitness = r.fitness, metrics = r.metrics, curve = r.curve,
        started_at = to_timestamp(r.started), ended_at = to_timestamp(r.ended), cpu_seconds = r.cpu,
        host = r.host, worker = r.worker,
        error_kind = r.error_kind, error_message = r.error_message, error_tail = r.error_tail
    FROM pg_temp.l2l_results AS r
    WHERE {_SAME_KEY} AND r.verdict = 'accepted'
""")

_RETRY = sa.text(f"""
    UPDATE l2l.evaluations AS e
    SET attempt = r.attempt + 1, host = r.host, worker = r.worker,
        error_kind = r.error_kind, error_message = r.error_message, error_tail = r.error_tail
    FROM (
        SELECT DISTINCT ON (individual, task_index, repeat) * FROM pg_temp.l2l_results
        WHERE verdict = 'retries' ORDER BY individual, task_index, repeat, attempt DESC
    ) AS r
    WHERE {_SAME_KEY} AND e.status = 'pending'
""")

# The same line read twice is no second result.
_COUNT_DUPLICATES = sa.text(f"""
    UPDATE l2l.evaluations AS e SET duplicates = e.duplicates + r.n
    FROM (
        SELECT r.campaign_id, r.individual, r.task_index, r.repeat, count(*) AS n
        FROM pg_temp.l2l_results AS r JOIN l2l.evaluations AS e ON {_SAME_KEY}
        WHERE r.verdict = 'duplicates' AND r.final
            AND (r.worker, r.attempt) IS DISTINCT FROM (e.worker, e.attempt)
        GROUP BY r.campaign_id, r.individual, r.task_index, r.repeat
    ) AS r
    WHERE {_SAME_KEY}
""")

_ADD_UP = sa.text("""
    UPDATE l2l.campaigns AS c
    SET evaluations_ok = c.evaluations_ok + r.ok, evaluations_failed = c.evaluations_failed + r.failed,
        evaluations_infeasible = c.evaluations_infeasible + r.infeasible
    FROM (
        SELECT count(*) FILTER (WHERE status = 'ok') AS ok,
            count(*) FILTER (WHERE status = 'failed') AS failed,
            count(*) FILTER (WHERE status = 'infeasible') AS infeasible
        FROM pg_temp.l2l_results WHERE verdict = 'accepted'
    ) AS r
    WHERE c.id = :campaign
""")

_REPORT = sa.text("SELECT verdict, count(*) FROM pg_temp.l2l_results GROUP BY verdict")
