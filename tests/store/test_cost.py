"""A step of 10,000 individuals needs as many statements as one of 10, and nothing reads the history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from l2l_tasks.store import (
    bulk,
    campaigns,
    evaluations,
    generations,
    individuals,
    offsets,
    outbox,
    states,
    workers,
    workload,
)
from l2l_tasks.store.engine import open_engine
from l2l_tasks.store.workers import WorkerRow
from tests.store import build
from tests.support.postgres import Database


class Counter:
    """Counts what goes to PostgreSQL: statements of SQLAlchemy (one per parameter set) and COPYs."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def of(self, call: Callable[[], object]) -> int:
        self.statements.clear()
        call()
        return len(self.statements)


@pytest.fixture
def counter(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    made = Counter()
    copy = bulk.copy

    def count(
        _connection: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool
    ) -> None:
        made.statements.extend([statement] * (len(parameters) if many else 1))

    def counted_copy(connection: Connection, table: str, *rest: Any) -> None:
        made.statements.append(f"COPY {table}")
        copy(connection, table, *rest)

    monkeypatch.setattr(bulk, "copy", counted_copy)
    event.listen(engine, "before_cursor_execute", count)
    yield made
    event.remove(engine, "before_cursor_execute", count)


def test_statements_do_not_grow_with_the_population(engine: Engine, counter: Counter) -> None:
    def steps(size: int) -> Mapping[str, int]:
        with engine.begin() as connection:
            made = build.campaign(connection)
            build.ask(connection, made.id, 0, [0])
            evaluations.ingest(connection, made.id, [build.result(0)])  # the temporary tables exist now
        indexes = range(1, size + 1)
        lines = [build.failure(n) for n in indexes] + [build.result(n, attempt=1) for n in indexes]
        live = [WorkerRow(f"1_{n}_0", "1", n, 0, "RUNNING", cpus=2, started=0.0) for n in indexes]
        with engine.begin() as connection:
            calls: Mapping[str, Callable[[], object]] = {
                "ask": lambda: build.ask(connection, made.id, 1, indexes),
                "outstanding": lambda: evaluations.outstanding(connection, made.id),
                "ingest": lambda: evaluations.ingest(connection, made.id, lines),
                "offsets": lambda: offsets.set(connection, made.id, {f"f{n}": n for n in indexes}),
                "workers": lambda: workers.upsert(connection, made.id, live, all_live=True),
                "complete": lambda: evaluations.complete_untold(connection, made.id),
                "tell": lambda: build.tell(connection, made.id, 1, indexes),
                "listing": lambda: campaigns.listing(connection),
            }
            counts = {name: counter.of(call) for name, call in calls.items()}
            # The counts are worth something only if every row is there.
            told = individuals.told_in(connection, made.id, 1)
            assert [(one.index, one.fitness) for one in told] == [(n, [float(n)]) for n in indexes]
            assert campaigns.get(connection, made.id).evaluations_ok == size + 1
            return counts

    small = steps(10)
    assert steps(10_000) == small
    assert small["listing"] == 1
    assert sum(small.values()) < 45


def read(connection: Connection) -> dict[str, int]:
    """Table -> rows read in this transaction, as PostgreSQL counts them."""
    query = sa.text("""
        SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
        FROM pg_stat_xact_user_tables WHERE schemaname = 'l2l'
    """)
    return {row[0]: row[1] for row in connection.execute(query)}


HISTORY = """
    INSERT INTO l2l.generations (campaign_id, number, asked, told_at, told_sha256, summary)
        SELECT :c, n, 20, now(), 'x', '{}' FROM generate_series(0, 999) AS n;
    INSERT INTO l2l.individuals
        (campaign_id, index, generation, params, status, told_generation, told_position)
        SELECT :c, n, n / 20, '{}', 'failed', n / 20, n % 20 FROM generate_series(0, 19999) AS n;
    INSERT INTO l2l.evaluations
        (campaign_id, individual, task_index, repeat, generation, task, seed, nonce, status)
        SELECT :c, n, 0, 0, n / 20, '{}', 0, '', 'failed' FROM generate_series(0, 19999) AS n;
    INSERT INTO l2l.workers (campaign_id, worker, job, index, restart, state, ended_at)
        SELECT :c, n, '1', n, 0, 'COMPLETED', now() FROM generate_series(0, 1999) AS n;
    INSERT INTO l2l.outbox (campaign_id, generation, payload, sent_at)
        SELECT :c, n, '{}', now() FROM generate_series(0, 999) AS n;
    UPDATE l2l.campaigns SET next_generation = 1000 WHERE id = :c;
"""


def test_a_generation_reads_its_own_rows_only(engine: Engine, database: Database) -> None:
    """A whole generation after 1000 others reads a few times its own size from each table."""
    batch = range(20_000, 20_020)
    with engine.begin() as connection:
        made = build.campaign(connection)
        connection.execute(sa.text(HISTORY), {"c": made.id})
    owner = open_engine(database.owner_url)
    with owner.begin() as connection:
        connection.execute(sa.text("ANALYZE"))  # as autovacuum does
    owner.dispose()
    engine.dispose()  # a step is a session of its own; this one planned its key checks on empty tables
    with engine.begin() as connection:
        build.ask(connection, made.id, 1000, batch)
        evaluations.outstanding(connection, made.id)
        evaluations.ingest(connection, made.id, [build.failure(n) for n in batch])
        evaluations.ingest(connection, made.id, [build.result(n) for n in batch])
        evaluations.duration_median(connection, made.id)
        assert len(evaluations.complete_untold(connection, made.id)) == len(batch)
        workers.upsert(connection, made.id, [WorkerRow("w", "1", 0, 0, "RUNNING")], all_live=True)
        build.tell(connection, made.id, 1000, batch)
        assert len(individuals.told_in(connection, made.id, 1000)) == len(batch)
        outbox.add(connection, made.id, 1000, {})
        assert len(outbox.pending(connection, made.id, 10)) == 1
        generations.last(connection, made.id)
        states.load_latest(connection, made.id)
        campaigns.listing(connection)
        seen = read(connection)
    assert seen.keys() >= {"campaigns", "generations", "individuals", "evaluations", "workers", "outbox"}
    assert max(seen.values()) <= 12 * len(batch), seen


def test_a_first_large_generation_is_cheap_without_statistics(engine: Engine) -> None:
    """Nothing has analysed the tables yet: no plan may compare each row with each other."""
    size = 1000
    with engine.begin() as connection:
        made = build.campaign(connection)
        lines = [build.result(n) for n in range(size)]
        live = [WorkerRow(f"1_{n}_0", "1", n, 0, "RUNNING") for n in range(size)]
        build.ask(connection, made.id, 0, range(size))
        evaluations.outstanding(connection, made.id)
        evaluations.ingest(connection, made.id, [build.failure(n) for n in range(size)])
        evaluations.ingest(connection, made.id, lines)
        evaluations.ingest(connection, made.id, [replace(line, worker="2_0_0") for line in lines])
        assert len(evaluations.complete_untold(connection, made.id)) == size
        for _ in range(2):
            workers.upsert(connection, made.id, live, all_live=True)
        workload.counts(connection, made.id)
        workload.totals(connection, made.id, 0, range(size))
        build.tell(connection, made.id, 0, range(size))
        seen = read(connection)
    assert max(seen.values()) <= 25 * size, seen
