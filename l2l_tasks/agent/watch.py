"""Watching pools until enough of a campaign is done: what lets the controller wait in one command."""

from __future__ import annotations

import time
from typing import Dict, Mapping, Sequence, Set

from . import reconciler
from .reconciler import Round

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
QUERY_PAUSE = 10.0
"""Seconds between scheduler queries of one wait; only when a worker has left while work waits."""
_TRIES = 3
"""So many queries after a worker has left: the scheduler may show it for a while yet."""


def watch(rounds: Sequence[Round], targets: Mapping[str, int], wait: float) -> None:
    """Return when a campaign has no more evaluations left than its target, or after `wait` seconds.

    A worker that leaves while bundles wait is replaced meanwhile.
    """
    over, queried = time.monotonic() + wait, time.monotonic()
    before: Dict[str, Set[str]] = {}
    tries: Dict[str, int] = {}
    pause = _FIRST_PAUSE
    while not any(_reached(one, targets[one.campaign.name]) for one in rounds):
        for one in rounds:
            name, folders = one.campaign.name, set(one.campaign.pool.workers())
            if before.get(name, set()) - folders:
                tries[name] = _TRIES
            before[name] = folders
        if time.monotonic() - queried >= QUERY_PAUSE:
            _replace([one for one in rounds if tries.get(one.campaign.name)], tries)
            queried = time.monotonic()
        left = over - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _replace(rounds: Sequence[Round], tries: Dict[str, int]) -> None:
    waiting = [one for one in rounds if one.campaign.pool.counts().todo]
    if waiting:
        reconciler.run(waiting)
    for one in rounds:
        tries[one.campaign.name] -= 1
        if one not in waiting or one.submitted:
            tries[one.campaign.name] = 0


def _reached(one: Round, target: int) -> bool:
    counts = one.campaign.pool.counts()
    return counts.todo + counts.running <= target
