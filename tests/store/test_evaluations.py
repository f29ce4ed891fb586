"""Results of the site: the first final one counts, whatever else arrives."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from l2l_tasks.errors import UserError
from l2l_tasks.store import campaigns, evaluations, events
from l2l_tasks.store.evaluations import IngestedResult, IngestReport
from tests.store import build


def row(connection: Connection, campaign_id: str, individual: int, task: int = 0) -> Any:
    """The evaluation's row."""
    query = "SELECT * FROM l2l.evaluations WHERE campaign_id = :c AND individual = :i AND task_index = :t"
    return connection.execute(sa.text(query), {"c": campaign_id, "i": individual, "t": task}).one()


@pytest.fixture
def asked(connection: Connection) -> str:
    """A campaign with individuals 0, 1, 2, each at the tasks 0 and 1."""
    made = build.campaign(connection)
    build.ask(connection, made.id, 0, range(3), tasks=2)
    return made.id


def test_outstanding_is_what_was_asked(connection: Connection, asked: str) -> None:
    found = evaluations.outstanding(connection, asked)
    assert [one.key for one in found] == ["0.0.0", "0.1.0", "1.0.0", "1.1.0", "2.0.0", "2.1.0"]
    last = found[-1]
    assert (last.params, last.task, last.seed, last.nonce) == (
        {"x": 2.0},
        {"target": 1},
        102,
        build.nonce(2, 1),
    )
    assert (last.attempt, last.generation) == (0, 0)


def test_a_result_is_stored_as_it_came(connection: Connection, asked: str) -> None:
    report = evaluations.ingest(connection, asked, [build.result(1, 1, fitness=[1e-300, -2.5])])
    assert report == IngestReport(accepted=1)
    found = row(connection, asked, 1, 1)
    assert (found.status, found.fitness, found.metrics, found.curve) == (
        "ok",
        [1e-300, -2.5],
        {"rate": 5.5},
        [3, 2],
    )
    assert (found.started_at.timestamp(), found.ended_at.timestamp(), found.cpu_seconds) == (1000, 1010, 9.5)
    assert (found.host, found.worker, found.error_kind) == ("node1", "1_0_0", None)
    assert "1.1.0" not in [one.key for one in evaluations.outstanding(connection, asked)]


def test_the_first_final_result_counts(connection: Connection, asked: str) -> None:
    """Also within one batch; another worker's later answer is only counted."""
    first, second = build.result(0), build.result(0, worker="2_0_0", fitness=[77.0])
    assert evaluations.ingest(connection, asked, [first, second]) == IngestReport(accepted=1, duplicates=1)
    assert evaluations.ingest(connection, asked, [second]) == IngestReport(duplicates=1)
    found = row(connection, asked, 0)
    assert (found.fitness, found.worker, found.duplicates) == ([0.0], "1_0_0", 2)
    assert campaigns.get(connection, asked).evaluations_ok == 1


def test_lines_read_again_change_nothing(connection: Connection, asked: str) -> None:
    """An offset that was lost makes a file be read twice."""
    lines = [build.failure(0), build.result(0, attempt=1), build.failure(1)]
    evaluations.ingest(connection, asked, lines)
    before = connection.execute(sa.text("SELECT * FROM l2l.evaluations ORDER BY 2, 3")).all()
    assert evaluations.ingest(connection, asked, lines) == IngestReport(duplicates=3)
    assert connection.execute(sa.text("SELECT * FROM l2l.evaluations ORDER BY 2, 3")).all() == before


def test_results_that_nobody_asked_for_are_counted(connection: Connection, asked: str) -> None:
    lines = [build.result(9), build.result(0, repeat=5), build.result(0, nonce="x" * 16), build.result(0)]
    report = evaluations.ingest(connection, asked, lines)
    assert report == IngestReport(accepted=1, unknown_key=2, wrong_nonce=1)


def test_another_campaigns_results_do_not_count(connection: Connection, asked: str) -> None:
    other = build.campaign(connection)
    assert evaluations.ingest(connection, other.id, [build.result(0)]) == IngestReport(unknown_key=1)
    assert row(connection, asked, 0).status == "pending"


def test_a_failed_attempt_is_followed_by_another(connection: Connection, asked: str) -> None:
    assert evaluations.ingest(connection, asked, [build.failure(0)]) == IngestReport(retries=1)
    found = row(connection, asked, 0)
    assert (found.status, found.attempt, found.error_kind, found.error_message) == (
        *("pending", 1, "exception"),
        "ValueError: no",
    )
    assert evaluations.outstanding(connection, asked)[0].attempt == 1
    assert evaluations.ingest(connection, asked, [build.result(0, attempt=1)]) == IngestReport(accepted=1)
    found = row(connection, asked, 0)
    assert (found.status, found.attempt, found.error_kind) == ("ok", 1, None)


def test_attempts_and_the_final_failure_in_one_batch(connection: Connection, asked: str) -> None:
    lines = [build.failure(0), build.failure(0, attempt=1), build.failure(0, attempt=2, final=True)]
    assert evaluations.ingest(connection, asked, lines) == IngestReport(accepted=1, retries=2)
    found = row(connection, asked, 0)
    assert (found.status, found.attempt, found.fitness, found.error_tail) == (
        "failed",
        2,
        None,
        "Traceback ...",
    )
    after = campaigns.get(connection, asked)
    assert (after.evaluations_ok, after.evaluations_failed) == (0, 1)


def test_infeasible_is_a_final_answer(connection: Connection, asked: str) -> None:
    line = build.result(0, status="infeasible", fitness=None, error_message="too large")
    assert evaluations.ingest(connection, asked, [line]).accepted == 1
    assert campaigns.get(connection, asked).evaluations_infeasible == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"fitness": [math.nan]},
        {"fitness": [math.inf]},
        {"fitness": []},
        {"fitness": None},
        {"final": False},
        {"status": "great"},
        {"status": "failed"},
        {"status": "infeasible", "fitness": None, "final": False},
        {"attempt": 2**31},
        {"attempt": -1},
        {"individual": 10**30},
        {"ended": 1e300},
        {"started": math.nan},
        {"ended": 999.0},
        {"cpu": math.inf},
        {"metrics": {"x": math.nan}},
    ],
    ids=str,
)
def test_a_line_that_cannot_be_stored_stops_nothing(
    connection: Connection, asked: str, changes: dict[str, Any]
) -> None:
    """A site must not be able to block its campaign with one bad line."""
    lines = [replace(build.result(0), **changes), build.result(1)]
    assert evaluations.ingest(connection, asked, lines) == IngestReport(accepted=1, invalid=1)
    assert evaluations.ingest(connection, asked, lines[:1]) == IngestReport(invalid=1)
    assert row(connection, asked, 0).status == "pending"


def test_text_that_postgresql_cannot_hold_is_stored_with_signs(connection: Connection, asked: str) -> None:
    tail = "tab\tline\nback\\slash \\N \\. nul\0 half\ud800"
    line = build.failure(0, final=True, error_tail=tail, host="\\N", metrics={"\0": "\ud800"})
    assert evaluations.ingest(connection, asked, [line]).accepted == 1
    found = row(connection, asked, 0)
    assert found.error_tail == "tab\tline\nback\\slash \\N \\. nul\ufffd half\ufffd"
    assert (found.host, found.metrics) == ("\\N", {"\ufffd": "\ufffd"})


def test_nothing_to_take_needs_no_database(connection: Connection) -> None:
    assert evaluations.ingest(connection, "none-00000000", []) == IngestReport()
    with pytest.raises(UserError):
        evaluations.ingest(connection, "none-00000000", [build.result(0)])


def test_only_complete_untold_individuals_can_be_told(connection: Connection, asked: str) -> None:
    lines = [build.result(2, 1), build.result(2, 0), build.result(0, 0), build.result(1, 0)]
    lines.append(build.failure(1, 1, final=True))
    evaluations.ingest(connection, asked, lines)
    first, second = evaluations.complete_untold(connection, asked)
    assert (first.index, first.params) == (1, {"x": 1.0})
    assert first.evaluations == [(0, 0, "ok", [1.0], ()), (1, 0, "failed", None, ())]
    assert (second.index, second.evaluations) == (2, [(0, 0, "ok", [2.0], ()), (1, 0, "ok", [2.0], ())])
    build.tell(connection, asked, 0, [1])
    assert [one.index for one in evaluations.complete_untold(connection, asked)] == [2]


def test_the_median_of_durations_is_of_the_newest(connection: Connection) -> None:
    """200 long ones in the past, 200 short ones of late: the short ones count; failures do not."""
    made = build.campaign(connection)
    assert evaluations.duration_median(connection, made.id) is None
    size = evaluations.WINDOW
    build.ask(connection, made.id, 0, range(2 * size + 1))
    old = [build.result(n, started=0.0, ended=1000.0) for n in range(size)]
    new = [build.result(size + n, started=5000.0, ended=5002.0 + n % 3) for n in range(size)]
    failed = build.failure(2 * size, final=True, started=1.0, ended=9000.0)
    evaluations.ingest(connection, made.id, [*new, failed, *old])
    assert evaluations.duration_median(connection, made.id) == pytest.approx(3.0)


def test_rejected_lines_leave_an_event(connection: Connection, asked: str) -> None:
    evaluations.reject(connection, asked, "1_0_0.ndjson", "checksum", 3)
    (event,) = events.recent(connection, asked, 1)
    assert event.kind == "results_rejected"
    assert event.detail == {"file": "1_0_0.ndjson", "reason": "checksum", "lines": 3}


_LINES = st.lists(
    st.builds(
        lambda individual, attempt, outcome, worker: (
            build.result(individual, attempt=attempt, worker=worker, fitness=[float(attempt)])
            if outcome == "ok"
            else build.failure(individual, attempt=attempt, worker=worker, final=outcome == "final")
        ),
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from(["ok", "final", "retry"]),
        st.sampled_from(["1_0_0", "2_0_0"]),
    ),
    max_size=12,
)


def expected(lines: list[IngestedResult]) -> dict[int, tuple[str, int, list[float] | None]]:
    """The store's rule, said in Python: status, attempt, fitness of the individuals 0, 1, 2."""
    rows: dict[int, tuple[str, int, list[float] | None]] = dict.fromkeys(range(3), ("pending", 0, None))
    for line in lines:
        status, attempt, _ = rows.get(line.individual, ("unknown", 0, None))
        if status != "pending":
            continue
        if line.final:
            fitness = None if line.fitness is None else list(line.fitness)
            rows[line.individual] = (line.status, line.attempt, fitness)
        elif line.attempt >= attempt:
            rows[line.individual] = ("pending", line.attempt + 1, None)
    return rows


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_LINES, st.integers(0, 12))
def test_any_order_and_any_split_into_batches_obeys_the_rule(
    connection: Connection, lines: list[IngestedResult], cut: int
) -> None:
    """The rows are those of taking one line after another, and the reports add up."""
    with connection.begin_nested() as attempt:
        made = build.campaign(connection)
        build.ask(connection, made.id, 0, range(3))
        reports = [evaluations.ingest(connection, made.id, part) for part in (lines[:cut], lines[cut:])]
        found = {n: row(connection, made.id, n) for n in range(3)}
        assert {n: (r.status, r.attempt, r.fitness) for n, r in found.items()} == expected(lines)
        assert sum(sum(vars(report).values()) for report in reports) == len(lines)
        done = campaigns.get(connection, made.id)
        assert done.evaluations_ok == sum(r.status == "ok" for r in found.values())
        assert done.evaluations_failed == sum(r.status == "failed" for r in found.values())
        attempt.rollback()
