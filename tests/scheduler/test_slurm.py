"""The real Slurm: refusals with their text, long arrays, restarts, and how workers end."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scheduler.conftest import AsAccount, Bench, slurm_bench
from tests.support.slurm import SlurmLab, wait_until

SLEEP = "exec sleep 300"


@pytest.fixture(scope="module", autouse=True)
def timing_out(slurm_lab: SlurmLab) -> Iterator[str]:
    """A worker whose time is over; Slurm looks only every 30 s, so the other tests run meanwhile."""
    slurm_lab.up()  # killed jobs and controllers of earlier tests may have left a node out of service
    bench, name = slurm_bench(slurm_lab), f"l2l-test-{uuid.uuid4().hex[:8]}"
    submission = bench.submit(name, 1, bench.prepare(name, SLEEP))
    wait_until(lambda: [w.state for w in bench.workers(name)] == ["RUNNING"], what="a running worker")
    slurm_lab.scontrol("update", f"jobid={submission.job}_0", "EndTime=now+1")
    yield name
    bench.clean()
    shutil.rmtree(slurm_lab.work / "campaigns" / name)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"partition": "nowhere"}, "Invalid partition name"),
        ({"account": "nobody"}, "Invalid account or account/partition"),
        ({"qos": "royal"}, "Invalid qos"),
        ({"memory": "900G"}, "Memory|configuration is not available"),
        ({"gpus": 99}, "configuration is not available"),
        ({"max_array_size": 20000, "n": 20000}, "Invalid job array specification"),
        ({"extra": {"--constraint": "unicorn"}}, "Invalid feature"),
        ({"extra": {"--no-such-option": "1"}}, "unrecognized option"),
        ({"memory": "much"}, "Invalid --mem|invalid"),
        ({"extra": {"--reservation": "none"}}, "reservation is invalid"),
        ({"extra": {"--dependency": "afterok:x"}}, "dependency"),
        ({"extra": {"--gres": "unobtainium:1"}}, "generic resource"),
    ],
)
def test_mistakes_are_rejected_in_slurms_own_words(
    slurm_lab: SlurmLab, slurm: Bench, job_name: str, config: dict[str, Any], text: str
) -> None:
    """Rejected, not uncertain: a person has to act, and reads why. The check beforehand says it too."""
    options = {"kind": "slurm", "memory": "50M", **config}
    n = options.pop("n", 1)
    wrong = AsAccount(slurm_lab, options)
    result = wrong.submit(job_name, n, slurm.prepare(job_name, SLEEP, wrong))
    assert (result.verdict, result.job, result.temporary) == ("REJECTED", None, False), result
    assert re.search(text, result.message), result
    if n == 1:
        # While a node does not answer, as on a busy machine, Slurm cannot tell wrong requests from late ones.
        wait_until(lambda: any(re.search(text, problem) for problem in wrong.check()), what=text)
    # Slurm may keep a record of a job that it refused: an ended one, which never ran.
    assert all(worker.ended for worker in wrong.workers([job_name]).workers[job_name])


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"partition": "devel", "time": 3600}, "time: 3600 s asked, partition devel allows 300 s"),
        ({"nodes": 99}, "nodes: 99 asked, partition batch allows 4"),
        ({"partition": "nowhere"}, "partition nowhere does not exist; there are batch, devel, gpu, scav"),
    ],
)
def test_what_slurm_would_leave_waiting_for_ever_is_found_before(
    slurm_lab: SlurmLab, config: dict[str, Any], problem: str
) -> None:
    assert problem in AsAccount(slurm_lab, {"kind": "slurm", **config}).check()


def test_a_worker_that_waits_for_ever_is_called_stuck(
    slurm_lab: SlurmLab, slurm: Bench, job_name: str
) -> None:
    never = AsAccount(slurm_lab, {"kind": "slurm", "partition": "devel", "time": 3600})
    assert never.submit(job_name, 1, slurm.prepare(job_name, SLEEP, never)).verdict == "SUBMITTED"
    wait_until(lambda: slurm.workers(job_name)[0].stuck, what="the reason of waiting")
    (worker,) = slurm.workers(job_name)
    assert worker.state == "PENDING"
    assert worker.reason in ("PartitionTimeLimit", "PartitionConfig")


def test_a_long_array_with_holes_is_seen_in_full(slurm_lab: SlurmLab, slurm: Bench, job_name: str) -> None:
    """squeue cuts such lists off after 64 characters unless told otherwise, whatever the account has set."""
    later = AsAccount(slurm_lab, {"kind": "slurm", "extra": {"--begin": "now+1hour"}})
    submission = later.submit(job_name, 200, slurm.prepare(job_name, SLEEP, later))
    assert [w.index for w in slurm.workers(job_name)] == list(range(200))
    odd = ",".join(str(index) for index in range(1, 200, 2))
    assert slurm_lab.as_user(f"scancel {submission.job}_[{odd}]").returncode == 0
    live = [w for w in slurm.workers(job_name) if w.live]
    assert [w.index for w in live] == list(range(0, 200, 2))
    assert {(w.state, w.stuck) for w in live} == {("PENDING", False)}


def test_a_restart_is_counted_and_the_first_attempt_is_over(
    slurm_lab: SlurmLab, slurm: Bench, job_name: str
) -> None:
    """Where a site insists on requeueing: the id stays, the restart count tells the attempts apart."""
    again = AsAccount(slurm_lab, {"kind": "slurm", "memory": "50M", "extra": {"--requeue": None}})
    folder = slurm.prepare(job_name, f"echo ${{SLURM_RESTART_COUNT:-0}} >>ran; {SLEEP}", again)
    job = again.submit(job_name, 1, folder).job
    assert job is not None
    wait_until(lambda: (folder / "ran").exists(), what="the first attempt")
    slurm_lab.scontrol("requeue", f"{job}_0")
    wait_until(lambda: [w.restart for w in slurm.workers(job_name)] == [1], what="the restart count")
    wait_until(lambda: bool(slurm.scheduler.ended(job_name, [job]).workers[job_name]), what="the record")
    (first,) = slurm.scheduler.ended(job_name, [job]).workers[job_name]
    assert (first.restart, first.state) == (0, "PREEMPTED")


def test_too_much_memory_is_told_from_other_failures(
    slurm_lab: SlurmLab, slurm: Bench, job_name: str
) -> None:
    if not (slurm_lab.root / "etc" / "cgroup.conf").exists():
        pytest.skip("this machine has no cgroup v1 memory: Slurm calls it FAILED here")
    hungry = "exec /usr/bin/python3 -c 'x = bytearray(300 * 1000 * 1000); x[::4096] = bytes(len(x[::4096]))'"
    slurm.submit(job_name, 1, slurm.prepare(job_name, hungry))
    assert [w.state for w in slurm.wait_ended(job_name, 1)] == ["OUT_OF_MEMORY"]


@pytest.fixture
def faulty(slurm_fault_lab: SlurmLab) -> Iterator[Bench]:
    """A bench on the lab that may be broken."""
    bench = slurm_bench(slurm_fault_lab)
    yield bench
    bench.clean()


def test_a_failed_node_and_a_preemption_are_not_the_workers_fault(
    slurm_fault_lab: SlurmLab, faulty: Bench, job_name: str
) -> None:
    lost, pushed = job_name + "-lost", job_name + "-pushed"
    faulty.submit(lost, 1, faulty.prepare(lost, SLEEP))
    wait_until(lambda: [w.state for w in faulty.workers(lost)] == ["RUNNING"], what="a running worker")
    slurm_fault_lab.scontrol("update", "nodename=node1", "state=down", "reason=test")
    assert [w.state for w in faulty.wait_ended(lost, 1)] == ["NODE_FAIL"]
    slurm_fault_lab.up()  # which brings the node back, if it has not come by itself

    weak = slurm_bench(slurm_fault_lab, {"partition": "scav"})
    strong = slurm_bench(slurm_fault_lab, {"extra": {"--exclusive": None}})
    weak.submit(pushed, 1, weak.prepare(pushed, SLEEP))
    wait_until(lambda: [w.state for w in weak.workers(pushed)] == ["RUNNING"], what="a running worker")
    strong.submit(job_name, 1, strong.prepare(job_name, SLEEP))
    assert [w.state for w in weak.wait_ended(pushed, 1)] == ["PREEMPTED"]
    strong.clean()


def test_the_end_of_the_time_is_a_timeout(slurm: Bench, timing_out: str) -> None:
    assert [w.state for w in slurm.wait_ended(timing_out, 1)] == ["TIMEOUT"]
