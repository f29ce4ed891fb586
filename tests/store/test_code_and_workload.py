"""Code of optimizees by hash, and the numbers of a generation."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from l2l_tasks.errors import StoreError
from l2l_tasks.store import code, evaluations, generations, workload
from l2l_tasks.store.workload import Counts
from tests.store import build


def test_code_comes_back_byte_for_byte(connection: Connection) -> None:
    files = {"a/b.py": b"print('\xc3\xbc')\r\n\0", "data.bin": bytes(range(256)), "empty": b""}
    code.put(connection, "f" * 64, files)
    code.put(connection, "f" * 64, {"other": b""})
    assert code.get(connection, "f" * 64) == files
    with pytest.raises(StoreError, match="missing"):
        code.get(connection, "0" * 64)


def test_a_campaign_needs_its_code(engine: Engine) -> None:
    """What a campaign runs is in the database, or the campaign is not made."""
    with engine.begin() as connection:
        build.campaign(connection)
    with pytest.raises(StoreError, match="fk_campaigns_code_hash"), engine.begin() as connection:
        connection.execute(sa.text("UPDATE l2l.campaigns SET code_hash = 'gone'"))


def test_counts_follow_a_generation(connection: Connection) -> None:
    made = build.campaign(connection)
    assert workload.counts(connection, made.id) == Counts(0, 0)
    build.ask(connection, made.id, 0, range(4), tasks=2)
    assert workload.counts(connection, made.id) == Counts(untold=4, open=4)
    evaluations.ingest(connection, made.id, [build.result(0), build.result(0, 1), build.result(1)])
    counts = workload.counts(connection, made.id)
    assert (counts, counts.complete) == (Counts(untold=4, open=3), 1)
    build.tell(connection, made.id, 0, [0])
    assert workload.counts(connection, made.id) == Counts(untold=3, open=3)


def test_totals_are_of_the_individuals_named(connection: Connection) -> None:
    made = build.campaign(connection)
    build.ask(connection, made.id, 0, range(5))
    before = workload.totals(connection, made.id, 0, [])
    assert set(before.values()) == {0.0}
    lines = [
        build.result(0, cpu=2.0),
        build.result(0, worker="2_0_0"),
        build.failure(1),
        build.result(1, attempt=1, cpu=3.0),
        build.failure(2, final=True, error_kind="timeout", cpu=0.0),
        build.result(3, status="infeasible", fitness=None, cpu=0.5),
        build.result(4, cpu=100.0),
    ]
    evaluations.ingest(connection, made.id, lines)
    found = workload.totals(connection, made.id, 0, range(4))
    assert found == {
        "ok": 2.0,
        "failed": 1.0,
        "infeasible": 1.0,
        "failed_timeout": 1.0,
        "cpu_seconds": 5.5,
        "wall_seconds": 40.0,
        "retries": 1.0,
        "duplicates": 1.0,
    }
    generations.mark_submitted(connection, made.id, 0)
    assert workload.totals(connection, made.id, 0, range(4))["queue_wait"] == 0.0  # the tests live in 1970
