"""Lost replies and lost memories of the real Slurm: nothing may be taken for what it is not."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial

import pytest

from l2l_tasks.agent.scheduler import SchedulerUnavailable, Submission
from tests.scheduler.conftest import AsAccount, Bench, slurm_bench
from tests.support.slurm import SlurmLab, wait_until

SLEEP = "exec sleep 300"


@pytest.fixture
def bench(slurm_fault_lab: SlurmLab) -> Iterator[Bench]:
    """A bench on the lab that may be broken, and is mended afterwards."""
    found = slurm_bench(slurm_fault_lab)
    yield found
    slurm_fault_lab.up()
    found.clean()


def unavailable(ask: Callable[[], object]) -> bool:
    """Whether a question ends in SchedulerUnavailable."""
    try:
        ask()
    except SchedulerUnavailable:
        return True
    return False


def everything_at_once(
    bench: Bench, job_name: str, fault: AbstractContextManager[None]
) -> tuple[Submission, list[bool]]:
    """During a fault: one submission, and for each question whether it came out as unknown."""
    folder = bench.prepare(job_name, SLEEP)
    assert isinstance(bench.scheduler, AsAccount)
    scheduler = bench.scheduler.inner
    questions: list[Callable[[], bool]] = [
        lambda: not scheduler.workers([job_name]).known,
        lambda: not scheduler.cancel("l2l-nothing"),
        lambda: unavailable(scheduler.limits),
        lambda: unavailable(scheduler.check),
    ]
    with fault, bench.scheduler.lab.identity(), ThreadPoolExecutor(5) as pool:
        submission = pool.submit(scheduler.submit, job_name, 2, folder)
        answers = [pool.submit(question) for question in questions]
        return submission.result(), [answer.result() for answer in answers]


def test_a_frozen_controller_is_no_answer_and_its_job_is_found_by_name(
    slurm_fault_lab: SlurmLab, bench: Bench, job_name: str
) -> None:
    """sbatch reports a failure, and yet the job exists: submitting again would double it."""
    submission, unknown = everything_at_once(bench, job_name, slurm_fault_lab.frozen())
    assert (submission.verdict, submission.job) == ("UNCERTAIN", None)
    assert submission.message
    assert unknown == [True] * 4
    wait_until(lambda: len(bench.workers(job_name)) == 2, what="the job to be found by its name")


def test_a_dead_controller_is_no_answer(slurm_fault_lab: SlurmLab, bench: Bench, job_name: str) -> None:
    submission, unknown = everything_at_once(bench, job_name, slurm_fault_lab.killed("slurmctld"))
    assert (submission.verdict, submission.job) == ("UNCERTAIN", None)
    assert unknown == [True] * 4
    assert bench.workers(job_name) == [], "nobody took it: known now"


def last_saved(lab: SlurmLab) -> int:
    """When the controller last wrote its jobs to disk; 0 = never."""
    file = lab.root / "state" / "job_state"
    return file.stat().st_mtime_ns if file.exists() else 0


def saved_since(lab: SlurmLab, before: int) -> bool:
    return last_saved(lab) > before


def test_a_job_that_slurm_forgot_is_not_mistaken_for_the_next_with_its_id(
    slurm_fault_lab: SlurmLab, bench: Bench, job_name: str
) -> None:
    """A controller killed right after sbatch has lost the job and gives its id to the next one."""
    folder = bench.prepare(job_name, SLEEP)
    for _ in range(5):
        # The controller saves its jobs at once when it has not for 5 s, and after that not for 5 s.
        before = last_saved(slurm_fault_lab)
        bench.submit(job_name + "-before", 1, folder)
        wait_until(partial(saved_since, slurm_fault_lab, before), what="the controller to save its jobs")
        lost = bench.submit(job_name, 1, folder)
        slurm_fault_lab.signal_daemon("slurmctld", signal.SIGKILL)
        slurm_fault_lab.up()
        if not any(worker.job == lost.job for worker in bench.workers(job_name)):
            break
        bench.scheduler.cancel(job_name)  # saved in time all the same: try again
    bench.scheduler.cancel(job_name + "-before")
    assert lost.job is not None
    assert lost.job not in [w.job for w in bench.workers(job_name)], (
        "the controller was expected to forget it"
    )
    others = [f"{job_name}-{number}" for number in range(3)]  # it may have forgotten more than the last one
    ids = [bench.submit(name, 1, bench.prepare(name, "exit 0")).job for name in others]
    assert lost.job in ids
    other, job = others[ids.index(lost.job)], lost.job
    bench.wait_ended(other, 1)
    wait_until(lambda: bool(bench.scheduler.ended(other, [job]).workers[other]), what="the record")
    assert job not in [w.job for w in bench.workers(job_name)]
    assert "COMPLETED" not in [w.state for w in bench.scheduler.ended(job_name, [job]).workers[job_name]]


def test_a_purged_job_is_absent_but_its_end_is_still_known(
    slurm_fault_lab: SlurmLab, bench: Bench, job_name: str
) -> None:
    with slurm_fault_lab.setting("MinJobAge", "2"):
        submission = bench.submit(job_name, 2, bench.prepare(job_name, "exit 4"))
        assert submission.job is not None
        bench.wait_ended(job_name, 2)
        wait_until(lambda: bench.workers(job_name) == [], what="the job to be purged")
        ended = bench.scheduler.ended(job_name, [submission.job])
        assert [(w.index, w.state, w.raw) for w in ended.workers[job_name]] == [
            (0, "FAILED", "FAILED 4:0"),
            (1, "FAILED", "FAILED 4:0"),
        ]


def test_without_accounting_the_end_is_unknown_and_work_goes_on(
    slurm_fault_lab: SlurmLab, bench: Bench, job_name: str
) -> None:
    with slurm_fault_lab.killed("slurmdbd"):
        assert not bench.scheduler.ended(job_name, ["1"]).known
        bench.submit(job_name, 1, bench.prepare(job_name, "exit 0"))
        assert [w.state for w in bench.wait_ended(job_name, 1)] == ["COMPLETED"]
