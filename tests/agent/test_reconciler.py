"""Reconciliation against a scheduler that is slow, silent, refuses, or sees its caller die."""

# ruff: noqa: ARG002 - a scheduler of a test need not use all it is told

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from l2l_tasks.agent import reconciler, scheduler, watch
from l2l_tasks.agent.reconciler import Round
from l2l_tasks.agent.scheduler import Answer, Scheduler, Submission, WorkerState
from l2l_tasks.agent.site_folder import Campaign
from tests.agent.lab import CAMPAIGN, Site, singles

NAME = f"l2l-{CAMPAIGN}"


class Killed(BaseException):
    """Our process ended while the scheduler was at work."""


class Scripted(Scheduler):
    """The contract of Scheduler with answers that a test sets."""

    def __init__(self) -> None:
        self.answer = Answer(True, {NAME: []})
        self.accounting = Answer(False)
        self.submission: Submission | None = Submission(scheduler.SUBMITTED, "7", 2)
        self.queries: list[list[str]] = []
        self.submitted: list[int] = []

    def job_script(self, campaign: Mapping[str, Any], folder: Path) -> str:
        return f"{campaign['campaign']} {folder}"

    def submit(self, job_name: str, n: int, folder: Path) -> Submission:
        self.submitted.append(n)
        if self.submission is None:
            raise Killed
        return self.submission

    def workers(self, job_names: Sequence[str]) -> Answer:
        self.queries.append(list(job_names))
        if not self.answer.known:
            return self.answer
        return Answer(True, {name: self.answer.workers.get(name, []) for name in job_names})

    def ended(self, job_name: str, ids: Sequence[str]) -> Answer:
        return self.accounting

    def cancel(self, job_name: str) -> bool:
        return True

    def limits(self) -> dict[str, Any]:
        return {}

    def check(self) -> list[str]:
        return []


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    made = Scripted()
    monkeypatch.setattr(reconciler, "make_scheduler", lambda *_: made)
    return made


@pytest.fixture
def site(tmp_path: Path, scripted: Scripted) -> Site:
    """A campaign with four evaluations in the pool."""
    made = Site(tmp_path)
    made.open(scheduler={"kind": "slurm"})
    made.put(singles([{"x": n} for n in range(4)]))
    scripted.queries.clear()
    return made


def once(site: Site, asked_to: bool = False) -> dict[str, Any]:
    """One round of reconciliation with two workers at most."""
    one = Round(Campaign(site.work, CAMPAIGN), 2, asked_to)
    reconciler.run([one])
    return one.status()


def states(*found: tuple[str, int, str]) -> Answer:
    return Answer(True, {NAME: [WorkerState(job, index, 0, state, state) for job, index, state in found]})


def test_a_death_in_the_middle_of_a_submission(site: Site, scripted: Scripted) -> None:
    """The intent is on disk before: nothing is submitted again until the job turns up."""
    scripted.submission = None
    with pytest.raises(Killed):
        once(site)
    assert scripted.submitted == [2]
    assert (once(site)["uncertain"], scripted.submitted) == (2, [2])
    scripted.answer = states(("7", 0, "PENDING"), ("7", 1, "PENDING"))
    status = once(site)
    assert (status["uncertain"], len(status["workers"]), scripted.submitted) == (0, 2, [2])


def test_an_uncertain_submission(site: Site, scripted: Scripted) -> None:
    """Submitted again only when the grace is over and nothing has turned up."""
    scripted.submission = Submission(scheduler.UNCERTAIN)
    once(site)
    assert (once(site)["uncertain"], scripted.submitted) == (2, [2])
    memory = json.loads((site.folder / "reconcile.json").read_text())
    memory["open"][0]["time"] -= 301
    (site.folder / "reconcile.json").write_text(json.dumps(memory))
    scripted.submission = Submission(scheduler.SUBMITTED, "8", 2)
    assert (once(site)["submitted"], scripted.submitted) == (2, [2, 2])


def test_no_answer_changes_nothing(site: Site, scripted: Scripted) -> None:
    """Not the pool, not the memory, no submission."""
    site.pool.register("7_0_0")
    before = sorted(str(p) for p in site.folder.rglob("*"))
    scripted.answer = Answer(False)
    for _ in range(3):
        status = once(site, asked_to=True)
        assert (status["known"], status["submitted"], scripted.submitted) == (False, 0, [])
    assert sorted(str(p) for p in site.folder.rglob("*")) == before


def test_a_refusal(site: Site, scripted: Scripted) -> None:
    """It is told, not repeated at every look, tried again when asked to, and forgotten when it works."""
    scripted.submission = Submission(scheduler.REJECTED, message="Invalid account")
    assert [once(site)["rejected"] for _ in range(3)] == ["Invalid account"] * 3
    assert scripted.submitted == [2]
    assert once(site, asked_to=True)["rejected"] == "Invalid account"
    assert scripted.submitted == [2, 2]
    scripted.submission = Submission(scheduler.REJECTED, message="QOSMaxSubmit", temporary=True)
    assert (once(site, asked_to=True)["rejected"], once(site)["limited"]) == (None, "QOSMaxSubmit")
    scripted.submission = Submission(scheduler.SUBMITTED, "7", 1)
    status = once(site)
    assert (status["rejected"], status["limited"], status["submitted"]) == (None, None, 1)


def test_accounting_settles_a_worker_that_is_missing(site: Site, scripted: Scripted) -> None:
    """Unknown to accounting: wait. Known to have ended: its bundle goes back, a new worker comes."""
    scripted.submission = Submission(scheduler.SUBMITTED, "8", 1)
    site.pool.register("7_0_0")
    assert site.pool.claim("7_0_0") is not None
    assert (once(site)["submitted"], site.counts()) == (1, (3, 1))
    scripted.answer = states(("8", 0, "RUNNING"))
    assert (once(site)["submitted"], site.counts()) == (0, (3, 1))
    scripted.accounting = states(("7", 0, "TIMEOUT"))
    assert (once(site)["submitted"], site.counts()) == (1, (4, 0))
    assert site.pool.workers() == []


def test_one_query_for_all_campaigns(site: Site, scripted: Scripted) -> None:
    """However many campaigns a site has."""
    names = [f"other-{n:08x}" for n in range(3)]
    for name in names:
        config = site.config(campaign=name, job_name=f"l2l-{name}", scheduler={"kind": "slurm"})
        site.call("open", campaign=name, config=config)
    asked = [{"campaign": name, "workers": 1, "target": 0} for name in [*names, CAMPAIGN]]
    site.call("poll", campaigns=asked, wait=0)
    assert [sorted(query) for query in scripted.queries] == [sorted(f"l2l-{n}" for n in [*names, CAMPAIGN])]


def test_a_wait_replaces_workers_that_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers with a short walltime: one wait sees the work through all of them."""
    monkeypatch.setattr(watch, "QUERY_PAUSE", 0.2)
    site = Site(tmp_path)
    site.open(walltime=2.0, margin=0.5)
    bundles = singles([{"do": "sleep", "s": 0.5}] * 5)
    site.call("submit", campaign=CAMPAIGN, bundles=bundles, workers=1, forget_before=0)
    asked = [{"campaign": CAMPAIGN, "workers": 1, "target": 0}]
    try:
        status = site.call("poll", campaigns=asked, wait=60.0)["campaigns"][CAMPAIGN]
    finally:
        site.call("stop", campaign=CAMPAIGN)
    assert (status["todo"], status["running"], len(site.final())) == (0, 0, 5)
    assert len({line.worker for line in site.results()}) > 1
