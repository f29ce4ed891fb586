"""What every scheduler must do, for real: local processes and Slurm pass the same tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from l2l_tasks.agent.scheduler import Scheduler, SchedulerError, make
from tests.scheduler.conftest import AsAccount, Bench
from tests.support.slurm import wait_until

WHO = 'me="${L2L_JOB:-${SLURM_ARRAY_JOB_ID:-}} ${L2L_INDEX:-${SLURM_ARRAY_TASK_ID:-}}"'
SLEEP = "echo $$ >>pids; exec sleep 300"


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def another(bench: Bench, **options: Any) -> Scheduler:
    """A scheduler of the same kind with other options."""
    if isinstance(bench.scheduler, AsAccount):
        return AsAccount(bench.scheduler.lab, {"kind": "slurm", "memory": "50M", **options})
    return make({"kind": "local", **options}, bench.new_folder("unused").parents[1])


def test_every_worker_runs_once_and_knows_its_id(bench: Bench, job_name: str) -> None:
    folder = bench.prepare(job_name, f'{WHO}; echo "$me $1 $2 $PWD" >>ran')
    submission = bench.submit(job_name, 3, folder)
    assert submission.count == 3
    ended = bench.wait_ended(job_name, 3)
    assert [(w.job, w.index, w.restart, w.state) for w in ended] == [
        (submission.job, index, 0, "COMPLETED") for index in range(3)
    ]
    assert sorted((folder / "ran").read_text().splitlines()) == [
        f"{submission.job} {index} worker {folder} {folder}" for index in range(3)
    ]


def test_running_workers_are_seen_and_cancelled(bench: Bench, job_name: str) -> None:
    folder = bench.prepare(job_name, SLEEP)
    bench.submit(job_name, 2, folder)
    wait_until(
        lambda: [w.state for w in bench.workers(job_name)] == ["RUNNING"] * 2, what="two running workers"
    )
    wait_until(lambda: (folder / "pids").exists() and len((folder / "pids").read_text().split()) == 2)
    assert bench.scheduler.cancel(job_name)
    assert [w.state for w in bench.wait_ended(job_name, 2)] == ["CANCELLED"] * 2
    pids = [int(pid) for pid in (folder / "pids").read_text().split()]
    wait_until(lambda: all(gone(pid) for pid in pids), what="the processes to end")
    assert bench.scheduler.cancel(job_name), "cancelling again must do no harm"


def test_names_without_jobs_are_known_to_have_none(bench: Bench, job_name: str) -> None:
    """An empty answer is an answer, for each name asked; so is the cancelling of nothing."""
    answer = bench.scheduler.workers([job_name, job_name + "-x"])
    assert answer.known
    assert answer.workers == {job_name: [], job_name + "-x": []}
    assert bench.scheduler.cancel(job_name)
    assert bench.scheduler.workers([]).known


def test_campaigns_are_kept_apart_in_one_answer(bench: Bench, job_name: str) -> None:
    """Also when one name is the beginning of the other."""
    other = job_name + "-x"
    for name, n in ((job_name, 1), (other, 2)):
        bench.submit(name, n, bench.prepare(name, SLEEP))
    answer = bench.scheduler.workers([job_name, other])
    assert {name: len(found) for name, found in answer.workers.items()} == {job_name: 1, other: 2}
    bench.scheduler.cancel(job_name)
    bench.wait_ended(job_name, 1)
    assert all(worker.live for worker in bench.workers(other))


@pytest.mark.parametrize("end", ["exit 3", "kill -9 $$"])
def test_a_failed_worker_is_failed_in_both_memories(bench: Bench, job_name: str, end: str) -> None:
    submission = bench.submit(job_name, 1, bench.prepare(job_name, end))
    assert submission.job is not None
    assert [w.state for w in bench.wait_ended(job_name, 1)] == ["FAILED"]
    ids = [submission.job]
    wait_until(lambda: bool(bench.scheduler.ended(job_name, ids).workers.get(job_name)), what="the record")
    answer = bench.scheduler.ended(job_name, ids)
    assert [(w.job, w.index, w.restart, w.state) for w in answer.workers[job_name]] == [
        (ids[0], 0, 0, "FAILED")
    ]
    assert bench.scheduler.ended(job_name, ["987654"]).workers == {job_name: []}
    assert bench.scheduler.ended(job_name + "-x", ids).workers == {job_name + "-x": []}


def test_the_limit_on_workers_is_kept_and_said(bench: Bench, job_name: str) -> None:
    """At most three: five asked start fewer; when it is full, the refusal is temporary and nothing starts."""
    few = another(bench, qos="tiny", **({} if isinstance(bench.scheduler, AsAccount) else {"max_workers": 3}))
    folder = bench.prepare(job_name, SLEEP, few)
    started = 0
    for _ in range(3):
        submission = few.submit(job_name, 5, folder)
        if submission.verdict != "SUBMITTED":
            break
        assert 1 <= submission.count <= 3
        started += submission.count
    assert started == 3
    full = few.submit(job_name, 5, folder)
    assert (full.verdict, full.temporary, full.job) == ("REJECTED", True, None)
    assert full.message
    assert len(few.workers([job_name]).workers[job_name]) == 3
    assert few.limits()["max_submit"] == 3


def test_signals_reach_the_worker_itself(bench: Bench, job_name: str) -> None:
    """The shell gives way to the worker, so that it can hand back its work before the time is over."""
    program = "trap 'echo warned >>ran; exit 0' TERM USR1; echo ready >>ran; while :; do sleep 0.1; done"
    folder = bench.prepare(job_name, program)
    bench.submit(job_name, 1, folder)
    wait_until(lambda: (folder / "ran").exists(), what="the worker to start")
    if isinstance(bench.scheduler, AsAccount):
        sent = bench.scheduler.lab.as_user(f"scancel --batch --signal=USR1 --name={job_name}")
        assert sent.returncode == 0
    else:
        bench.scheduler.cancel(job_name)
    bench.wait_ended(job_name, 1)
    assert (folder / "ran").read_text().split() == ["ready", "warned"]


def test_a_missing_folder_stops_the_worker(bench: Bench, job_name: str) -> None:
    """Slurm by itself would run it in a temporary folder and call it a success."""
    folder = bench.prepare(job_name, "touch ran")
    bench.write_script(bench.scheduler, folder, target=folder / "not-there")
    bench.submit(job_name, 1, folder)
    assert [w.state for w in bench.wait_ended(job_name, 1)] == ["FAILED"]
    logs = [path.read_text() for path in (folder / "logs").iterdir()]
    assert len(logs) == 1
    assert "not-there" in logs[0]


def test_set_up_lines_come_before_the_worker(bench: Bench, job_name: str) -> None:
    """They run in the same shell, and unset variables in them do no harm, as in the profiles of sites."""
    ready = another(bench, setup=["export GREETING=hello$NOT_SET", "# a remark"])
    folder = bench.prepare(job_name, 'echo "$GREETING" >ran', ready)
    bench.submit(job_name, 1, folder)
    bench.wait_ended(job_name, 1)
    assert (folder / "ran").read_text() == "hello\n"


def test_a_sound_configuration_has_no_problems_and_limits(bench: Bench) -> None:
    assert bench.scheduler.check() == []
    limits = bench.scheduler.limits()
    assert limits["max_array_size"] >= 1
    assert limits["kind"] in ("local", "slurm")


@pytest.mark.parametrize("kind", ["local", "slurm"])
@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"partitoin": "x"}, "partitoin"),
        ({"setup": "module load x"}, "setup"),
        ({"max_workers": 0, "max_array_size": 0}, "max_"),
    ],
)
def test_wrong_options_are_refused_by_name(
    kind: str, options: dict[str, Any], word: str, tmp_path: Path
) -> None:
    with pytest.raises(SchedulerError, match=word):
        make({"kind": kind, **options}, tmp_path)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchedulerError, match="pbs"):
        make({"kind": "pbs"}, tmp_path)


def test_folders_with_odd_names_work(bench: Bench, job_name: str) -> None:
    """Blanks and per cent signs in the path of the work folder."""
    plain = bench.prepare(job_name, "touch ran")
    odd = plain.with_name(job_name + " 100%A")
    shutil.move(plain, odd)
    bench.write_script(bench.scheduler, odd)
    bench.submit(job_name, 1, odd)
    assert [w.state for w in bench.wait_ended(job_name, 1)] == ["COMPLETED"]
    assert (odd / "ran").exists()
    assert len(os.listdir(odd / "logs")) == 1
    shutil.rmtree(odd)
