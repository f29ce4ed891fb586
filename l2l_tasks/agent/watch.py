"""Watching pools until enough of a campaign is done: what lets the controller wait in one command."""

from __future__ import annotations

import time
from typing import Dict, List, Mapping, Sequence, Set

from . import reconciler
from .reconciler import Round

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
QUERY_PAUSE = 10.0
"""Seconds between scheduler queries of one wait; only when a worker has left while work waits."""


def watch(rounds: Sequence[Round], targets: Mapping[str, int], wait: float) -> None:
    """Return when a campaign has no more evaluations left than its target, or after `wait` seconds.

    A worker that leaves while bundles wait is replaced meanwhile.
    """
    over = time.monotonic() + wait
    queried = time.monotonic()
    folders: Dict[str, Set[str]] = {}
    pause = _FIRST_PAUSE
    gone: Set[str] = set()
    while not any(_reached(one, targets[one.campaign.name]) for one in rounds):
        for one in rounds:
            now = set(one.campaign.pool.workers())
            if folders.get(one.campaign.name, set()) - now:
                gone.add(one.campaign.name)
            folders[one.campaign.name] = now
        if gone and time.monotonic() - queried >= QUERY_PAUSE:
            again: List[Round] = [one for one in rounds if one.campaign.name in gone]
            reconciler.run([one for one in again if one.campaign.pool.counts().todo])
            gone.clear()
            queried = time.monotonic()
        left = over - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _reached(one: Round, target: int) -> bool:
    counts = one.campaign.pool.counts()
    return counts.todo + counts.running <= target
