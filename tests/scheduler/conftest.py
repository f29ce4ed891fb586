"""A bench for each scheduler: the same tests run against local processes and against the real Slurm."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from l2l_tasks.agent.scheduler import Answer, Scheduler, Submission, WorkerState, make
from tests.support.slurm import SlurmLab, wait_until


class AsAccount(Scheduler):
    """A scheduler whose commands run as the lab's account, as they do at a site."""

    def __init__(self, lab: SlurmLab, config: Mapping[str, Any]) -> None:
        self.lab = lab
        with lab.identity():
            self.inner = make(config, lab.work)

    def job_script(self, campaign: Mapping[str, Any], folder: Path) -> str:
        return self.inner.job_script(campaign, folder)

    def submit(self, job_name: str, n: int, folder: Path) -> Submission:
        with self.lab.identity():
            return self.inner.submit(job_name, n, folder)

    def workers(self, job_names: Sequence[str]) -> Answer:
        with self.lab.identity():
            return self.inner.workers(job_names)

    def ended(self, job_name: str, ids: Sequence[str]) -> Answer:
        with self.lab.identity():
            return self.inner.ended(job_name, ids)

    def cancel(self, job_name: str) -> bool:
        with self.lab.identity():
            return self.inner.cancel(job_name)

    def limits(self) -> dict[str, Any]:
        with self.lab.identity():
            return self.inner.limits()

    def check(self) -> list[str]:
        with self.lab.identity():
            return self.inner.check()


@dataclass
class Bench:
    """One scheduler and what tests need round it; `program` stands in for the agent."""

    scheduler: Scheduler
    new_folder: Callable[[str], Path]
    started: list[tuple[Scheduler, str]] = field(default_factory=list)

    def prepare(self, job_name: str, program: str, scheduler: Scheduler | None = None) -> Path:
        """A campaign folder whose workers run the bash lines `program` ($2 is the folder)."""
        chosen = scheduler or self.scheduler
        folder = self.new_folder(job_name)
        agent = folder / "program.sh"
        agent.write_text(program + "\n")
        self.write_script(chosen, folder)
        self.started.append((chosen, job_name))
        return folder

    def write_script(self, scheduler: Scheduler, folder: Path, target: Path | None = None) -> None:
        campaign = {"python": "/bin/bash", "agent": str(folder / "program.sh"), "margin": 30}
        (folder / "job.sh").write_text(scheduler.job_script(campaign, target or folder))

    def submit(self, job_name: str, n: int, folder: Path) -> Submission:
        result = self.scheduler.submit(job_name, n, folder)
        assert result.verdict == "SUBMITTED", result
        return result

    def workers(self, job_name: str) -> list[WorkerState]:
        answer = self.scheduler.workers([job_name])
        assert answer.known, answer.message
        return answer.workers[job_name]

    def wait_ended(self, job_name: str, n: int) -> list[WorkerState]:
        """Wait until `n` workers are there and all have ended."""

        def over() -> bool:
            found = self.workers(job_name)
            return len(found) == n and all(worker.ended for worker in found)

        wait_until(over, what=f"{n} workers of {job_name} to end")
        return self.workers(job_name)

    def clean(self) -> None:
        for scheduler, job_name in self.started:
            scheduler.cancel(job_name)


def slurm_bench(lab: SlurmLab, config: Mapping[str, Any] | None = None) -> Bench:
    """A bench on a lab; small workers, so that many fit."""
    settings = {"kind": "slurm", "memory": "50M", "time": 600, **(config or {})}
    return Bench(AsAccount(lab, settings), lab.folder)


@pytest.fixture
def slurm(slurm_lab: SlurmLab) -> Iterator[Bench]:
    """A bench on the shared lab."""
    bench = slurm_bench(slurm_lab)
    yield bench
    bench.clean()
    for _, job_name in bench.started:
        shutil.rmtree(slurm_lab.work / "campaigns" / job_name, ignore_errors=True)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Bench]:
    """A bench of local processes."""

    def new_folder(name: str) -> Path:
        folder = tmp_path / "campaigns" / name
        (folder / "logs").mkdir(parents=True)
        return folder

    bench = Bench(make({"kind": "local", "max_workers": 64}, tmp_path), new_folder)
    yield bench
    bench.clean()


@pytest.fixture(params=["local", "slurm"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Each scheduler in turn."""
    found: Bench = request.getfixturevalue(request.param)
    return found
