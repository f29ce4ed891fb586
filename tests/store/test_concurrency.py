"""Callers at the same time, and callers that die: the same rows result, never half of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from l2l_tasks.errors import StoreError
from l2l_tasks.store import bulk, campaigns, evaluations, events, generations, offsets, outbox, workers
from l2l_tasks.store.evaluations import IngestReport
from l2l_tasks.store.schema import metadata
from l2l_tasks.store.workers import WorkerRow
from tests.store import build


def at_once(engine: Engine, n: int, call: Callable[[Connection], object]) -> list[object]:
    """Run `call` in `n` threads, each in a transaction of its own; every one starts before any ends."""
    barrier = threading.Barrier(n)

    def run(_: int) -> object:
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT 1"))
            barrier.wait(60)
            return call(connection)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(run, range(n)))


def test_of_two_that_ask_one_wins(engine: Engine) -> None:
    with engine.begin() as connection:
        made = build.campaign(connection)
    answers = at_once(engine, 4, lambda connection: build.ask(connection, made.id, 0, range(50)))
    assert sorted(map(bool, answers)) == [False, False, False, True]
    with engine.begin() as connection:
        assert len(evaluations.outstanding(connection, made.id)) == 50
        assert campaigns.get(connection, made.id).evaluations_total == 50


def test_of_two_that_tell_one_wins(engine: Engine) -> None:
    with engine.begin() as connection:
        made = build.campaign(connection)
        build.ask(connection, made.id, 0, range(50))
    answers = at_once(engine, 4, lambda connection: build.tell(connection, made.id, 0, range(50)))
    assert sorted(map(bool, answers)) == [False, False, False, True]
    with engine.begin() as connection:
        assert campaigns.get(connection, made.id).generations_told == 1


def test_results_taken_by_several_at_once_count_once(engine: Engine) -> None:
    with engine.begin() as connection:
        made = build.campaign(connection)
        build.ask(connection, made.id, 0, range(200))
    lines = [build.result(n) for n in range(200)]
    reports = at_once(engine, 4, lambda connection: evaluations.ingest(connection, made.id, lines[::-1]))
    assert sorted(reports, key=str)[0] == IngestReport(accepted=0, duplicates=200)
    assert sum(report == IngestReport(accepted=200) for report in reports) == 1
    with engine.begin() as connection:
        assert campaigns.get(connection, made.id).evaluations_ok == 200


def test_workers_reported_by_several_at_once_cost_once(engine: Engine) -> None:
    with engine.begin() as connection:
        made = build.campaign(connection)
    rows = [WorkerRow(f"1_{n}_0", "1", n, 0, "COMPLETED", cpus=1, started=0.0, ended=10.0) for n in range(20)]
    at_once(engine, 4, lambda connection: workers.upsert(connection, made.id, rows))
    with engine.begin() as connection:
        assert workers.core_seconds(connection, made.id) == pytest.approx(200)


def test_events_do_not_wait_for_the_campaigns_lock(engine: Engine) -> None:
    """`l2l stop` must be able to leave its word while a step holds the campaign; readers too."""
    with engine.begin() as connection:
        made = build.campaign(connection)
    with engine.begin() as holder:
        campaigns.lock(holder, made.id)
        with engine.begin() as other:
            other.execute(sa.text("SET LOCAL lock_timeout = '1s'"))
            events.add(other, made.id, "note", {}, who="me")
            assert campaigns.listing(other)[0].id == made.id


def everything(connection: Connection) -> dict[str, list[Any]]:
    """All rows of all tables."""
    return {
        table.name: sorted(map(str, connection.execute(sa.select(table)))) for table in metadata.sorted_tables
    }


def step(connection: Connection, campaign_id: str) -> None:
    """What collect and update do between them, in one transaction."""
    results = [*(build.result(n) for n in range(3)), build.failure(3)]
    evaluations.ingest(connection, campaign_id, results)
    offsets.set(connection, campaign_id, {"1_0_0.ndjson": 100})
    workers.upsert(connection, campaign_id, [WorkerRow("1_0_0", "1", 0, 0, "RUNNING")], all_live=True)
    build.tell(connection, campaign_id, 0, range(3))
    outbox.add(connection, campaign_id, 0, {"metrics": {}})
    build.ask(connection, campaign_id, 1, [4, 5])
    generations.mark_collected(connection, campaign_id, 0)
    campaigns.set_status(connection, campaign_id, "finished", "budget", who="update")


class Killer:
    """Ends the server process of a connection before its n-th statement or COPY."""

    def __init__(self, engine: Engine, pid: int, at: int) -> None:
        self.engine, self.pid, self.at, self.seen = engine, pid, at, 0

    def before(self, *_: object) -> None:
        self.seen += 1
        if self.seen == self.at:
            with self.engine.connect() as other:
                other.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": self.pid})


def test_a_step_that_dies_anywhere_leaves_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is lost before each statement of a step in turn; then the step is done whole."""
    with engine.begin() as connection:
        made = build.campaign(connection)
        build.ask(connection, made.id, 0, range(4))
    with engine.begin() as connection:
        before = everything(connection)
    copy = bulk.copy
    deaths = 0
    for at in range(1, 1000):
        victim = engine.connect()
        killer = Killer(engine, victim.scalar(sa.text("SELECT pg_backend_pid()")) or 0, at)

        def counted(*arguments: Any, killer: Killer = killer) -> None:
            killer.before()
            copy(*arguments)

        monkeypatch.setattr(bulk, "copy", counted)
        event.listen(victim, "before_cursor_execute", killer.before)
        try:
            step(victim, made.id)
            assert killer.seen < at
            victim.commit()
            break
        except StoreError:
            deaths += 1
        finally:
            victim.invalidate()
            victim.close()
        with engine.begin() as connection:
            assert everything(connection) == before, f"killed before statement {at}"
    assert deaths == at - 1 > 30
    with engine.begin() as connection:
        assert campaigns.get(connection, made.id).status == "finished"
        assert [one.key for one in evaluations.outstanding(connection, made.id)] == [
            "3.0.0",
            "4.0.0",
            "5.0.0",
        ]
