"""Reconciliation, the part that acts: what is there is compared with what should be there, and made so.

The order matters. Locks are taken before anything is looked at, so that no other command submits in between;
worker folders are listed before the scheduler is asked, so that a worker that starts meanwhile is not taken
for a dead one.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Set

from . import reconcile, scheduler
from .errors import AgentError
from .reconcile import Memory
from .scheduler import Answer, Scheduler, WorkerState
from .settle import settle
from .site_folder import Campaign

_OUTPUT_BYTES = 1000


@dataclass
class Round:
    """One campaign in one round of reconciliation.

    Attributes:
        workers: most workers at once.
        asked_to: a refused submission is to be tried again at once.
    """

    campaign: Campaign
    workers: int
    asked_to: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    folders: List[str] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    states: List[WorkerState] = field(default_factory=list)
    known: bool = False
    submitted: int = 0

    def status(self) -> Dict[str, Any]:
        """The campaign's pool status, with the pool as it is now."""
        counts = self.campaign.pool.counts()
        refusal = self.memory.refusal
        temporary = refusal is not None and bool(refusal["temporary"])
        folders = set(self.campaign.pool.workers())
        return {
            "known": self.known,
            "todo": counts.todo,
            "running": counts.running,
            "bundles": counts.bundles,
            "workers": [_shown(state, folders) for state in self.states if state.live],
            "submitted": self.submitted,
            "uncertain": reconcile.uncertain(self.memory),
            "rejected": refusal["message"] if refusal is not None and not temporary else None,
            "limited": refusal["message"] if refusal is not None and temporary else None,
            "stopped": self.campaign.stop_file.exists(),
            "missing": False,
        }


def make_scheduler(campaign: Campaign, config: Mapping[str, Any]) -> Scheduler:
    """The scheduler of a campaign. AgentError when its configuration is wrong."""
    try:
        return scheduler.make(config["scheduler"], campaign.work)
    except scheduler.SchedulerError as error:
        raise AgentError("user", "scheduler options: %s" % error) from error


def run(rounds: Sequence[Round]) -> None:
    """Reconcile these campaigns with one scheduler query for all of a kind."""
    with contextlib.ExitStack() as stack:
        for one in sorted(rounds, key=lambda r: r.campaign.name):  # one order for all commands: no deadlock
            stack.enter_context(one.campaign.lock())
        run_locked(rounds)


def run_locked(rounds: Sequence[Round]) -> None:
    """`run` for a caller that holds the locks of all these campaigns."""
    groups: Dict[str, List[Round]] = {}
    for one in rounds:
        one.config = one.campaign.config()
        one.memory = one.campaign.memory()
        one.folders = one.campaign.pool.workers()
        groups.setdefault(str(one.config["scheduler"].get("kind")), []).append(one)
    for group in groups.values():
        asked = make_scheduler(group[0].campaign, group[0].config)
        answer = asked.workers([one.config["job_name"] for one in group])
        for one in group:
            if answer.known:
                _reconcile(one, answer)


def _reconcile(one: Round, answer: Answer) -> None:
    now = time.time()
    one.known = True
    one.states = list(answer.workers.get(one.config["job_name"], []))
    with_scheduler = make_scheduler(one.campaign, one.config)
    _bury(one, with_scheduler, now)
    # The local scheduler answers for what it did not start as surely as for what it did.
    local = one.config["scheduler"].get("kind") == "local"
    reconcile.absorb(one.memory, one.states, now, 0.0 if local else reconcile.UNCERTAIN_GRACE)
    missing = 0 if one.campaign.stop_file.exists() else _missing(one)
    _look_at_stillborn(one, missing, now)
    if missing == 0:
        one.memory.refusal = None
    elif reconcile.may_submit(one.memory, now, one.asked_to):
        _submit(one, with_scheduler, missing, now)
    one.campaign.remember(one.memory)


def _bury(one: Round, with_scheduler: Scheduler, now: float) -> None:
    ended: List[WorkerState] = []
    unknown = reconcile.missing_from(one.folders, one.states)
    if unknown:
        said = with_scheduler.ended(one.config["job_name"], sorted(unknown))
        ended = said.workers.get(one.config["job_name"], []) if said.known else []
    dead, one.memory.absent = reconcile.find_dead(one.folders, one.states, ended, one.memory.absent, now)
    for worker, death in dead.items():
        settle(one.campaign.folder, one.campaign.pool, worker, death, one.config)


def _missing(one: Round) -> int:
    counts = one.campaign.pool.counts()
    return reconcile.missing_workers(
        most=one.workers,
        todo=counts.todo,
        todo_bundles=counts.todo_bundles,
        busy=len(counts.busy),
        slots=int(one.config["slots"]),
        live=sum(state.live for state in one.states),
        # Those that are missing from the answer may still work, and are among the busy.
        unclear=reconcile.uncertain(one.memory) + len(one.memory.absent),
    )


def _look_at_stillborn(one: Round, missing: int, now: float) -> None:
    """Workers that failed without a trace (a wrong Python, a set-up line that fails) are like a refusal."""
    failed = [state for state in one.states if state.state == scheduler.FAILED]
    stillborn = {_worker_id(state): state for state in failed if not _has_begun(one.campaign, state)}
    if one.asked_to:
        one.memory.forgiven = list(stillborn)
    folders = one.campaign.pool.workers()
    at_work = any(state.live and _worker_id(state) in folders for state in one.states)
    if missing and one.memory.refusal is None and reconcile.is_failing(list(stillborn), one.memory, at_work):
        last = stillborn[max(stillborn)]
        text = "workers fail before they begin: %s ended with %s, its output: %s"
        message = text % (_worker_id(last), last.raw, _output(one.campaign, last))
        one.memory.refusal = {"time": now, "message": message, "temporary": False}


def _has_begun(campaign: Campaign, state: WorkerState) -> bool:
    name = _worker_id(state) + ".ndjson"
    return any((folder / name).exists() for folder in (campaign.results, campaign.results / "archive"))


def _output(campaign: Campaign, state: WorkerState) -> str:
    """The end of what a worker's job printed (its file is named by the scheduler)."""
    for path in (campaign.folder / "logs").glob("*-%s_%d.out" % (state.job, state.index)):
        with contextlib.suppress(OSError):
            return path.read_bytes()[-_OUTPUT_BYTES:].decode("utf-8", "replace").strip() or "(nothing)"
    return "(no file)"


def _submit(one: Round, with_scheduler: Scheduler, missing: int, now: float) -> None:
    """Submit, with the intent on disk before: if we die before the answer, it stays uncertain."""
    intent = {"time": now, "n": missing}
    one.memory.open.append(intent)
    one.campaign.remember(one.memory)
    made = with_scheduler.submit(one.config["job_name"], missing, one.campaign.folder)
    if made.verdict == scheduler.UNCERTAIN:
        return
    one.memory.open.remove(intent)
    if made.verdict == scheduler.REJECTED:
        one.memory.refusal = {"time": now, "message": made.message, "temporary": made.temporary}
        return
    one.memory.refusal = None
    one.submitted = made.count
    if made.job is not None:
        one.memory.jobs.append(made.job)
        one.states += [
            WorkerState(made.job, index, 0, scheduler.PENDING, "submitted") for index in range(made.count)
        ]


def _worker_id(state: WorkerState) -> str:
    return "%s_%d_%d" % (state.job, state.index, state.restart)


def _shown(state: WorkerState, folders: Set[str]) -> Dict[str, Any]:
    worker = _worker_id(state)
    return {
        "job": state.job,
        "index": state.index,
        "restart": state.restart,
        "worker": worker if worker in folders else None,
        "state": state.state,
        "raw": state.raw,
        "reason": state.reason,
        "stuck": state.stuck,
    }
