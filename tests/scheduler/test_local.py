"""What only local processes can go through: killed keepers, deaf programs, reused pids, lost submitters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from l2l_tasks.agent.scheduler import local as local_module
from l2l_tasks.agent.scheduler import make, processes
from tests.scheduler.conftest import Bench
from tests.scheduler.test_conformance import gone
from tests.support.slurm import wait_until


def record(bench: Bench, job_name: str) -> tuple[Path, dict[str, Any]]:
    """The only entry of the register under that name."""
    work = bench.new_folder("register-of-" + job_name).parents[1]
    (entry,) = (work / "local-scheduler" / job_name).glob("*.json")
    return entry, json.loads(entry.read_text())


def started_pids(folder: Path, n: int) -> list[int]:
    """The pids that the program has written, once there are `n`."""
    path = folder / "pids"
    wait_until(lambda: path.exists() and len(path.read_text().split()) == n, what=f"{n} pids in {path}")
    return [int(word) for word in path.read_text().split()]


def test_cancel_ends_deaf_programs_and_those_in_sessions_of_their_own(
    local: Bench, job_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluator has its own session: a signal to the worker's process group does not reach it."""
    monkeypatch.setattr(local_module, "CANCEL_GRACE", 0.5)
    program = "setsid sleep 300 & echo $! >>pids; trap '' TERM; echo $$ >>pids; while :; do sleep 0.1; done"
    folder = local.prepare(job_name, program)
    local.submit(job_name, 1, folder)
    pids = started_pids(folder, 2)
    assert local.scheduler.cancel(job_name)
    assert [w.state for w in local.workers(job_name)] == ["CANCELLED"]
    wait_until(lambda: all(gone(pid) for pid in pids), what="the processes to end")


def test_a_lost_keeper_is_a_failed_node_and_leaves_nothing_running(local: Bench, job_name: str) -> None:
    folder = local.prepare(job_name, "echo $$ >>pids; exec sleep 300")
    local.submit(job_name, 1, folder)
    (pid,) = started_pids(folder, 1)
    os.kill(record(local, job_name)[1]["pid"], signal.SIGKILL)
    assert [w.state for w in local.wait_ended(job_name, 1)] == ["NODE_FAIL"]
    assert gone(pid), "a replacement may start now: the old worker must be gone"


def test_somebody_else_under_the_same_pid_is_not_the_worker(local: Bench, job_name: str) -> None:
    local.submit(job_name, 1, local.prepare(job_name, "exec sleep 300"))
    entry, content = record(local, job_name)
    assert [w.state for w in local.workers(job_name)] == ["RUNNING"]
    local.scheduler.cancel(job_name)
    entry.with_suffix(".exit").unlink(missing_ok=True)
    entry.with_suffix(".cancelled").unlink()
    entry.write_text(json.dumps({**content, "pid": os.getpid()}))
    assert [w.state for w in local.workers(job_name)] == ["NODE_FAIL"]


def test_workers_outlive_the_process_that_submitted_them(local: Bench, job_name: str) -> None:
    """Another process, started later, sees them through the register alone."""
    folder = local.prepare(job_name, "echo $$ >>pids; exec sleep 300")
    work = folder.parents[1]
    code = (
        "import pathlib, sys\nfrom l2l_tasks.agent.scheduler import make\n"
        "work, name, folder = sys.argv[1:]\n"
        "print(make({'kind': 'local'}, pathlib.Path(work)).submit(name, 1, pathlib.Path(folder)).verdict)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(work), job_name, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "SUBMITTED"
    started_pids(folder, 1)
    assert [w.state for w in local.workers(job_name)] == ["RUNNING"]


def test_a_submitter_that_dies_before_registering_leaves_no_worker(local: Bench, job_name: str) -> None:
    """The keeper starts nothing before it is told that it is in the register."""
    folder = local.prepare(job_name, "touch ran")
    arguments = [str(folder / "job.sh"), str(folder / "exit")]
    keeper = subprocess.Popen(
        ["bash", "-c", local_module._KEEPER, "keeper", *arguments], stdin=subprocess.PIPE
    )
    assert keeper.stdin is not None
    keeper.stdin.close()
    assert keeper.wait(30) == 0
    assert not (folder / "ran").exists()
    assert not (folder / "exit").exists()


def test_job_numbers_are_never_given_twice(local: Bench, job_name: str) -> None:
    """Not even when everything before has ended and a new scheduler object asks."""
    folder = local.prepare(job_name, "exit 0")
    work = folder.parents[1]
    jobs = [make({"kind": "local", "max_workers": 9}, work).submit(job_name, 1, folder).job for _ in range(3)]
    assert len(set(jobs)) == 3
    local.wait_ended(job_name, 3)


def test_old_entries_are_forgotten_and_live_ones_are_not(local: Bench, job_name: str) -> None:
    old, alive = job_name + "-old", job_name + "-alive"
    local.submit(old, 1, local.prepare(old, "exit 0"))
    local.submit(alive, 1, local.prepare(alive, "exec sleep 300"))
    local.wait_ended(old, 1)
    long_ago = time.time() - 30 * 86400
    for name in (old, alive):
        os.utime(record(local, name)[0], (long_ago, long_ago))
    local.submit(job_name, 1, local.prepare(job_name, "exit 0"))
    assert local.workers(old) == []
    assert [w.state for w in local.workers(alive)] == ["RUNNING"]


def test_a_zombie_counts_as_dead() -> None:
    """In a container nobody may collect it, and it keeps its pid and start time for ever."""
    child = subprocess.Popen(["sleep", "300"])
    mark = processes.birth_mark(child.pid)
    assert mark is not None
    assert processes.alive(child.pid, mark)
    child.kill()
    wait_until(lambda: processes.birth_mark(child.pid) is None, what="the zombie to count as dead")
    child.wait()
