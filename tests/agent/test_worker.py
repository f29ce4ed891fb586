"""A worker's life: when it takes work, when it leaves, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from l2l_tasks.agent import identity
from l2l_tasks.agent.files import read_json
from l2l_tasks.agent.results import StartedLine
from tests.agent.lab import Site, bundle, evaluation, singles, stop, until

SLEEP = {"do": "sleep", "s": 60}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def workers() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Workers put into this list are ended, whatever the test does."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for worker in started:
        stop(worker)


def running(site: Site, number: int = 1) -> bool:
    """Whether so many attempts have begun."""
    return sum(isinstance(line, StartedLine) for line in site.lines()) >= number


def attempts_in_todo(site: Site) -> dict[str, int]:
    """Attempts of the evaluations that wait, by key."""
    found = [read_json(path)["evaluations"] for path in site.pool.todo.iterdir()]
    return {e["key"]: e["attempt"] for evaluations in found for e in evaluations}


@pytest.mark.parametrize(
    ("number", "reason"),
    [(signal.SIGTERM, "terminated"), (signal.SIGUSR1, "walltime"), (signal.SIGINT, "interrupted")],
)
def test_a_signal_hands_back(
    site: Site, workers: list[subprocess.Popen[bytes]], number: signal.Signals, reason: str
) -> None:
    """What is finished stays finished; the rest of the bundle goes back with its attempts untouched."""
    site.open()
    site.put([bundle(0, [evaluation(0, {"x": 1}), evaluation(1, SLEEP), evaluation(2, SLEEP)])])
    workers.append(site.start_worker())
    until(lambda: running(site, 2))
    workers[0].send_signal(number)
    assert workers[0].wait(20) == 0
    assert site.ends() == [reason]
    assert set(site.final()) == {"0.0.0"}
    assert attempts_in_todo(site) == {"1.0.0": 0, "2.0.0": 0}
    assert site.pool.workers() == []


def test_stop_file(site: Site, workers: list[subprocess.Popen[bytes]]) -> None:
    """STOP ends a busy worker and keeps a new one from taking anything."""
    site.open()
    site.put(singles([SLEEP]))
    workers.append(site.start_worker())
    until(lambda: running(site))
    (site.folder / "STOP").touch()
    assert workers[0].wait(20) == 0
    workers.append(site.start_worker("P2"))
    assert workers[1].wait(20) == 0
    assert site.ends() == ["stopped", "stopped"]
    assert (site.counts(), site.results()) == ((1, 0), [])


def test_an_idle_worker_lingers(site: Site, workers: list[subprocess.Popen[bytes]]) -> None:
    """A pilot takes work that comes while it lingers, in the same evaluator; then it leaves by itself."""
    site.open(linger=2.0)
    site.put([bundle(0, [evaluation(0, {"do": "identity"})])])
    workers.append(site.start_worker())
    until(lambda: len(site.final()) == 1)
    site.put([bundle(1, [evaluation(1, {"do": "identity"})])])
    until(lambda: len(site.final()) == 2)
    assert workers[0].wait(30) == 0
    assert site.ends() == ["idle"]
    assert len({line.metrics["pid"] for line in site.results()}) == 1


def test_the_end_of_the_allocation_is_not_an_evaluations_fault(site: Site) -> None:
    """One that began late in the worker's life goes back with its attempts untouched."""
    site.open(walltime=3.0, margin=1.0)
    site.put([bundle(0, [evaluation(0, {"do": "sleep", "s": 0.7}), evaluation(1, SLEEP)], timeout=60.0)])
    assert site.start_worker().wait(20) == 0
    assert site.ends() == ["walltime"]
    assert set(site.final()) == {"0.0.0"}
    assert attempts_in_todo(site) == {"1.0.0": 0}


def test_nothing_is_begun_that_will_not_fit(site: Site) -> None:
    """Once durations are known, the last part of the allocation is not wasted on a hopeless start."""
    site.open(walltime=3.5, margin=0.5)
    site.put(singles([{"do": "sleep", "s": 1.4}] * 4, timeout=60.0))
    worker = site.start_worker()
    assert worker.wait(20) == 0
    started = sum(isinstance(line, StartedLine) for line in site.lines())
    assert started == len(site.final()) < 4
    assert site.ends() == ["walltime"]
    assert site.counts() == (4 - started, 0)


def test_an_evaluation_that_needs_more_than_an_allocation_fails(site: Site) -> None:
    """Otherwise it would be handed back and begun again for ever."""
    site.open(walltime=4.0, margin=0.5, attempts=1)
    (line,) = site.work_off(singles([SLEEP], timeout=100.0))
    assert line.error is not None
    assert (line.error["kind"], line.final) == ("timeout", True)
    assert "more time" in line.error["message"]
    assert site.counts() == (0, 0)


def test_the_end_of_the_job_as_slurm_tells_it(site: Site) -> None:
    """SLURM_JOB_END_TIME counts when it comes before the campaign's walltime."""
    site.open(margin=0.5)
    site.put(singles([{"x": 1}, SLEEP], timeout=100.0))
    worker = site.start_worker(SLURM_JOB_END_TIME=str(int(time.time()) + 3))
    assert worker.wait(20) == 0
    assert site.ends() == ["walltime"]


def test_slots_run_at_the_same_time(site: Site, workers: list[subprocess.Popen[bytes]]) -> None:
    """Three evaluators of one worker, each with an evaluation of one bundle."""
    site.open(slots=3)
    site.put([bundle(0, [evaluation(n, {"do": "sleep", "s": 0.8}) for n in range(6)])])
    workers.append(site.start_worker())
    assert workers[0].wait(30) == 0
    final = site.final()
    spans = [(line.started, line.ended) for line in final.values()]
    most = max(sum(a <= t < b for a, b in spans) for t, _ in spans)
    assert (len(final), most) == (6, 3)
    assert site.counts() == (0, 0)
    assert [p.name for p in site.pool.done.iterdir()] == ["g00000-00000"]


def test_two_workers_share_the_pool(site: Site, workers: list[subprocess.Popen[bytes]]) -> None:
    """Every evaluation is begun exactly once; both do some of them."""
    site.open(slots=2)
    site.put(singles([{"do": "sleep", "s": 0.02}] * 60))
    workers += [site.start_worker("P1", index) for index in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert len(site.final()) == 60
    assert set(Counter(line.key for line in site.lines() if isinstance(line, StartedLine)).values()) == {1}
    assert len({line.worker for line in site.results()}) == 2


def test_an_id_that_is_taken_gets_a_letter(site: Site) -> None:
    """A scheduler that lost its memory gives the same id again: results are never mixed."""
    site.open()
    for _ in range(3):
        assert site.start_worker("77").wait(20) == 0
    names = sorted(path.name for path in (site.folder / "results").glob("*.ndjson"))
    assert names == ["77_0_0-b.ndjson", "77_0_0-c.ndjson", "77_0_0.ndjson"]


def test_a_worker_declared_dead_leaves(site: Site, workers: list[subprocess.Popen[bytes]]) -> None:
    """It notices that its folder is gone, ends its evaluation and gives nothing back twice."""
    site.open()
    site.put(singles([SLEEP]))
    workers.append(site.start_worker())
    until(lambda: running(site))
    os.rename(site.pool.running / "P1_0_0" / "g00000-00000", site.pool.todo / "g00000-00000")
    (site.pool.running / "P1_0_0").rmdir()
    assert workers[0].wait(20) == 0
    assert site.ends() == ["declared dead"]
    assert site.counts() == (1, 0)


def test_a_damaged_bundle_is_put_aside(site: Site) -> None:
    """It neither stops the worker nor comes back."""
    site.open()
    site.put(singles([{"x": 1}, {"x": 2}]))
    (site.pool.todo / "g00000-00000").write_bytes(b'{"bundle": "g000')
    assert site.start_worker().wait(20) == 0
    assert set(site.final()) == {"1.0.0"}
    assert [path.name for path in site.pool.bad.iterdir()] == ["g00000-00000"]


def test_results_that_cannot_be_written_blame_nobody(site: Site) -> None:
    """A full disk (here: a limit on the size of files): the rest goes back, the worker reports an error."""
    site.open()
    site.put(singles([{"x": 1}] * 8))
    command = f'ulimit -f 1; exec "{site.python}" "{site.program}" worker "{site.folder}"'
    worker = subprocess.Popen(["bash", "-c", command], env={**os.environ, "L2L_JOB": "P1"})
    assert worker.wait(30) == 1
    done = set(site.final())
    assert 0 < len(done) < 8
    assert attempts_in_todo(site) == {f"{n}.0.0": 0 for n in range(8) if f"{n}.0.0" not in done}
    assert site.pool.workers() == []


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 2),
        ({"SLURM_CPUS_ON_NODE": "4"}, 4),
        ({"SLURM_CPUS_ON_NODE": "4", "SLURM_JOB_NUM_NODES": "3"}, 12),
    ],
)
def test_core_seconds_count_what_the_scheduler_charges(environment: dict[str, str], expected: int) -> None:
    """Not the cores of the whole node, on which nothing may be bound."""
    assert identity.cores(environment, slots=2) == expected
