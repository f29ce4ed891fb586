"""What evaluators take and leave: memory beyond their worker's allocation, and processes that outlive them.

An evaluator and all that it starts are known by a variable in their environment. Linux only; elsewhere
nothing is found, and the memory is left to the batch system.

Memory is looked at, not limited by the kernel (RLIMIT_AS, RLIMIT_DATA): programs that reserve far more than
they ever use (CUDA, Java, arrays that stay empty) would not run under such a limit. What grows too fast to be
seen here meets the limit of the job; then the kernel ends the evaluator, not the worker (evaluator.py).
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from typing import Any, Callable, Dict, Iterable, List, Mapping

from .evaluator_process import EvaluatorProcess
from .outcome import describe_size
from .scheduler import processes

MARK = "L2L_EVALUATOR"
GRACE = 3.0
"""Seconds that what an evaluator leaves behind may take to end in order (optimizees/program.py needs two)."""
EVERY = 1.0
"""Seconds between two looks."""
PART = 0.95
"""The part of the memory at which we step in: where the batch system does, it may end the worker."""
_SIZE = re.compile(r"([0-9]+)([KMGT]?)")


def allocated(environment: Mapping[str, str], scheduler: Mapping[str, Any]) -> int:
    """Bytes of memory that a worker has: what Slurm or campaign.json says, else the machine's."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    names = ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE")
    per_node, per_cpu, cpus = (int(environment.get(name) or 0) for name in names)
    asked = (per_node or per_cpu * cpus) * 2**20
    size = _SIZE.fullmatch(str(scheduler.get("memory")))
    if not asked and size is not None:
        asked = int(size.group(1)) * 1024 ** ("KMGT".index(size.group(2) or "M") + 1)
    return min(asked or machine, machine)


class Oversight:
    """Looks after the evaluators of one worker.

    Args:
        owner: a name that no other worker has, or had.
        memory: bytes that the worker and its evaluators may hold.
    """

    def __init__(self, owner: str, memory: int) -> None:
        self._owner, self._memory = owner, memory
        self._serial = itertools.count()
        self._left: Dict[str, float] = {}
        self._next = 0.0

    def mark(self) -> str:
        """The value of MARK for the next evaluator."""
        return "%s/%d" % (self._owner, next(self._serial))

    def look(self, evaluators: Iterable[EvaluatorProcess]) -> None:
        """End what others left behind a while ago; fail the one that holds most if all hold too much.

        May be called at any time: most calls do nothing.
        """
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        living = {one.mark: one for one in evaluators if not one.ended}
        ours = self._ours()
        self._end_leftovers({mark: pids for mark, pids in ours.items() if mark not in living})
        held = _held(living, ours, processes.resident)
        for mark, one in living.items():
            one.held = held[mark]
        if self._is_too_much(held):
            held = _held(living, ours, processes.proportional)
            if self._is_too_much(held):
                most = max(held, key=lambda mark: held[mark])
                living[most].fail("memory", self._explained(held[most], sum(held.values())))

    def clear(self) -> None:
        """End what evaluators that have ended left behind, which takes GRACE seconds at most."""
        limit = time.monotonic() + GRACE
        while self._ours() and time.monotonic() < limit:
            time.sleep(0.05)
        for pids in self._ours().values():
            processes.send(pids, signal.SIGKILL)

    def _ours(self) -> Dict[str, List[int]]:
        found = processes.by_environment(MARK)
        return {mark: pids for mark, pids in found.items() if mark.rpartition("/")[0] == self._owner}

    def _end_leftovers(self, left: Mapping[str, List[int]]) -> None:
        now = time.monotonic()
        self._left = {mark: self._left.get(mark, now) for mark in left}
        for mark, since in self._left.items():
            if now - since >= GRACE:
                processes.send(left[mark], signal.SIGKILL)

    def _is_too_much(self, held: Mapping[str, int]) -> bool:
        return sum(held.values()) + processes.resident(os.getpid()) > PART * self._memory

    def _explained(self, most: int, together: int) -> str:
        others = ", the most of all in its worker (together %s)" % describe_size(together)
        return (
            "the evaluation held %s of memory%s, and the worker has %s: ask for more (resources.memory)"
            % (
                describe_size(most),
                others if together > most else "",
                describe_size(self._memory),
            )
        )


def _held(
    marks: Iterable[str], pids: Mapping[str, List[int]], measure: Callable[[int], int]
) -> Dict[str, int]:
    return {mark: sum(map(measure, pids.get(mark, []))) for mark in marks}
