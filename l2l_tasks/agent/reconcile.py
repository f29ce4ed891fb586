"""Reconciliation, the part that decides: no files, no scheduler, no clock.

Given what the pool holds, what the scheduler answered and what was remembered from last time, it says which
workers are dead (and whether their evaluations are to blame) and how many workers to submit. A scheduler that
did not answer is handled by the caller: nothing here is called then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from . import identity
from .scheduler import FAILED, OUT_OF_MEMORY, PENDING, WorkerState

ABSENT_GRACE = 60.0
"""Seconds for which a worker must be missing from every answer until its silence counts as death."""
UNCERTAIN_GRACE = 300.0
"""Seconds for which an unanswered submission may still turn up."""
REFUSAL_PAUSE = 300.0
"""Seconds until a refused submission is tried again without being asked to."""
MOST_JOBS = 500
MOST_STILLBORN = 3
"""So many workers may fail before they begin; then something is wrong with how they are started."""
_OWN_FAULT = frozenset({FAILED, OUT_OF_MEMORY})


@dataclass(frozen=True)
class Death:
    """How a worker ended; `own_fault`: by something that its evaluations may have done."""

    how: str
    own_fault: bool


@dataclass
class Memory:
    """What reconciliation must remember between two commands (reconcile.json of the campaign).

    Attributes:
        open: submissions without a clear answer: {"time", "n"}.
        jobs: ids of submissions that are accounted for, the newest last.
        absent: when a worker was first missing from an answer.
        refusal: {"time", "message", "temporary"} of the last submission if it was refused.
        forgiven: workers that failed before they began, and that somebody has been told about.
    """

    open: List[Dict[str, Any]] = field(default_factory=list)
    jobs: List[str] = field(default_factory=list)
    absent: Dict[str, float] = field(default_factory=dict)
    refusal: Optional[Dict[str, Any]] = None
    forgiven: List[str] = field(default_factory=list)


def find_dead(
    folders: Sequence[str],
    states: Sequence[WorkerState],
    ended: Sequence[WorkerState],
    absent: Mapping[str, float],
    now: float,
) -> Tuple[Dict[str, Death], Dict[str, float]]:
    """Which of the workers with a folder are dead, and the new `absent`.

    Args:
        folders: worker ids, listed *before* the scheduler was asked.
        states: the scheduler's answer. ended: what accounting says about those that are missing there.
    """
    dead: Dict[str, Death] = {}
    missing: Dict[str, float] = {}
    for worker in folders:
        me = identity.of_worker(worker)
        state = None if me is None else _state_of(me, states)
        if me is not None and state is None:
            state = _state_of(me, [one for one in ended if one.ended])
        if state is None:
            missing[worker] = absent.get(worker, now)
            if now - missing[worker] >= ABSENT_GRACE:
                dead[worker] = Death("the scheduler knows it no more", False)
                del missing[worker]
        elif state.ended:
            dead[worker] = Death(state.raw, state.state in _OWN_FAULT)
        elif state.state == PENDING or (me is not None and state.restart > me.restart):
            # It had a folder before we asked, so it ran before; now it waits or runs for another time.
            dead[worker] = Death("requeued", False)
    return dead, missing


def _state_of(me: identity.Identity, states: Sequence[WorkerState]) -> Optional[WorkerState]:
    """What is said about this worker: about its very restart, else about a later, else an earlier one."""
    mine = [one for one in states if (one.job, one.index) == (me.job, me.index)]
    exact = [one for one in mine if one.restart == me.restart]
    later = [one for one in mine if one.restart > me.restart]
    return next(iter(exact or later or mine), None)


def missing_from(folders: Sequence[str], states: Sequence[WorkerState]) -> Set[str]:
    """Jobs of workers that have a folder and are not in the scheduler's answer (to ask accounting about)."""
    found = [identity.of_worker(worker) for worker in folders]
    return {me.job for me in found if me is not None and _state_of(me, states) is None}


def absorb(memory: Memory, states: Sequence[WorkerState], now: float, grace: float) -> None:
    """Note the jobs that the scheduler shows; an unknown one is an open submission that got through."""
    for job in sorted({one.job for one in states} - set(memory.jobs)):
        memory.jobs.append(job)
        if memory.open:
            memory.open.pop(0)
    del memory.jobs[:-MOST_JOBS]
    memory.open = [one for one in memory.open if now - one["time"] < grace]


def uncertain(memory: Memory) -> int:
    """Workers that may be on their way although the scheduler does not show them."""
    return sum(int(one["n"]) for one in memory.open)


def missing_workers(
    most: int, todo: int, todo_bundles: int, busy: int, slots: int, live: int, unclear: int
) -> int:
    """How many workers to submit.

    Args:
        most: the campaign's limit. todo, todo_bundles: evaluations and bundles that wait. busy: live workers
            that hold bundles. live: all that run or wait to run. unclear: those that may exist.
    """
    useful = min(todo_bundles, math.ceil(todo / max(1, slots)))
    return max(0, min(most, useful + busy) - live - unclear)


def may_submit(memory: Memory, now: float, asked_to: bool) -> bool:
    """Whether to try (again): no refusal, asked to, only refused for the moment, or a while ago."""
    refusal = memory.refusal
    if refusal is None or asked_to or refusal["temporary"]:
        return True
    return bool(now - refusal["time"] >= REFUSAL_PAUSE)


def is_failing(stillborn: Sequence[str], memory: Memory, any_at_work: bool) -> bool:
    """Whether workers fail before they begin and none is at work: submitting more would only repeat that."""
    return not any_at_work and len(set(stillborn) - set(memory.forgiven)) >= MOST_STILLBORN
