"""Workers and their core-seconds, offsets of result files, the outbox."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from l2l_tasks.errors import StoreError
from l2l_tasks.store import offsets, outbox, workers
from l2l_tasks.store.workers import WorkerRow
from tests.store import build


def worker(index: int, state: str, **changes: Any) -> WorkerRow:
    return WorkerRow(f"1_{index}_0", "1", index, 0, state, **changes)


def rows(connection: Connection) -> list[tuple[str, str, str | None, datetime | None]]:
    query = sa.text("SELECT worker, state, host, ended_at FROM l2l.workers ORDER BY worker")
    return [(row.worker, row.state, row.host, row.ended_at) for row in connection.execute(query)]


def test_core_seconds_are_counted_once(connection: Connection) -> None:
    """However often a worker is reported, and with what gaps."""
    made = build.campaign(connection)
    assert workers.core_seconds(connection, made.id) == 0
    workers.upsert(connection, made.id, [worker(0, "PENDING"), worker(1, "PENDING")])
    assert workers.core_seconds(connection, made.id) == 0
    workers.upsert(connection, made.id, [worker(0, "RUNNING", cpus=4, started=0.0, host="n1")])
    running = workers.core_seconds(connection, made.id)
    now = connection.scalar(sa.text("SELECT extract(epoch FROM now())::double precision"))
    assert running == pytest.approx(4 * now)
    for _ in range(2):
        workers.upsert(connection, made.id, [worker(0, "COMPLETED", ended=50.0), worker(1, "CANCELLED")])
        assert workers.core_seconds(connection, made.id) == pytest.approx(200)
    first, second = rows(connection)
    assert first[:3] == ("1_0_0", "COMPLETED", "n1")
    assert second[1] == "CANCELLED"
    assert second[3] is not None


def test_what_has_ended_stays_ended(connection: Connection) -> None:
    """A stale answer of the scheduler must not revive a worker."""
    made = build.campaign(connection)
    workers.upsert(connection, made.id, [worker(0, "FAILED", cpus=1, started=10.0, ended=30.0)])
    workers.upsert(connection, made.id, [worker(0, "RUNNING", cpus=1, started=10.0)])
    (found,) = rows(connection)
    assert found[1] == "FAILED"
    assert found[3] is not None
    assert workers.core_seconds(connection, made.id) == pytest.approx(20)


def test_workers_that_a_full_answer_does_not_name_have_ended(connection: Connection) -> None:
    made, other = build.campaign(connection), build.campaign(connection)
    for one in (made, other):
        workers.upsert(connection, one.id, [worker(0, "RUNNING"), worker(1, "RUNNING")])
    workers.upsert(connection, made.id, [worker(1, "RUNNING")], all_live=True)
    live = sa.text("SELECT campaign_id, worker FROM l2l.workers WHERE ended_at IS NULL ORDER BY 1, 2")
    expected = sorted([(made.id, "1_1_0"), (other.id, "1_0_0"), (other.id, "1_1_0")])
    assert [tuple(row) for row in connection.execute(live)] == expected
    workers.upsert(connection, made.id, [], all_live=True)
    assert len(connection.execute(live).all()) == 2


def test_a_worker_named_twice_in_one_answer_is_taken_once(connection: Connection) -> None:
    made = build.campaign(connection)
    workers.upsert(connection, made.id, [worker(0, "PENDING"), worker(0, "RUNNING")])
    assert [row[1] for row in rows(connection)] == ["RUNNING"]


def test_offsets_only_grow_until_forgotten(connection: Connection) -> None:
    made, other = build.campaign(connection), build.campaign(connection)
    offsets.set(connection, made.id, {})
    offsets.set(connection, made.id, {"a": 10, "b": 2**40})
    offsets.set(connection, made.id, {"a": 5, "c": 0})
    offsets.set(connection, other.id, {"a": 1})
    assert offsets.get(connection, made.id) == {"a": 10, "b": 2**40, "c": 0}
    offsets.forget(connection, made.id, [])
    offsets.forget(connection, made.id, ["a", "c", "unknown"])
    assert offsets.get(connection, made.id) == {"b": 2**40}
    assert offsets.get(connection, other.id) == {"a": 1}


def test_a_message_is_added_once_and_sent_once(connection: Connection) -> None:
    made = build.campaign(connection)
    assert outbox.add(connection, made.id, 0, {"metrics": {"best": 1.5}})
    assert not outbox.add(connection, made.id, 0, {"metrics": {}})
    assert outbox.add(connection, made.id, 1, {})
    assert outbox.pending_count(connection, made.id) == 2
    first, second = outbox.pending(connection, made.id, 10)
    assert (first.campaign_id, first.generation, first.payload) == (made.id, 0, {"metrics": {"best": 1.5}})
    assert outbox.pending(connection, made.id, 1) == [first]
    outbox.mark_sent(connection, [])
    outbox.mark_sent(connection, [first.id])
    assert outbox.pending(connection, made.id, 10) == [second]
    assert outbox.pending_count(connection, made.id) == 1
    assert not outbox.add(connection, made.id, 0, {})


def test_a_payload_with_nan_is_refused(connection: Connection) -> None:
    made = build.campaign(connection)
    with pytest.raises(StoreError, match="cannot be stored as JSON"):
        outbox.add(connection, made.id, 0, {"best": float("nan")})
