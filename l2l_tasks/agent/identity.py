"""Who a worker is: from the scheduler's environment, made unique by taking a folder of the pool."""

from __future__ import annotations

import os
import re
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Optional

from .pool import Pool

_ID = re.compile(r"([A-Za-z0-9.+]+)_([0-9]+)_([0-9]+)(-[a-z])?")


@dataclass(frozen=True)
class Identity:
    """`worker` is `{job}_{index}_{restart}`, with a letter behind it if that was taken."""

    worker: str
    job: str
    index: int
    restart: int


def of_environment(environment: Mapping[str, str]) -> Identity:
    """The identity that the scheduler gave this process; by process id when started by hand."""
    job = (
        environment.get("SLURM_ARRAY_JOB_ID") or environment.get("SLURM_JOB_ID") or environment.get("L2L_JOB")
    )
    index = environment.get("SLURM_ARRAY_TASK_ID") or environment.get("L2L_INDEX") or "0"
    restart = environment.get("SLURM_RESTART_COUNT") or "0"
    job = job or "P%d" % os.getpid()
    return Identity("%s_%d_%d" % (job, int(index), int(restart)), job, int(index), int(restart))


def cores(environment: Mapping[str, str], slots: int) -> int:
    """Cores that the scheduler charges for this worker; without a batch system one for each slot.

    Not the cores that the process may run on: where nothing is bound, that is the whole node.
    """
    on_node, nodes = environment.get("SLURM_CPUS_ON_NODE"), environment.get("SLURM_JOB_NUM_NODES") or "1"
    return int(on_node) * int(nodes) if on_node else slots


def of_worker(worker: str) -> Optional[Identity]:
    """The identity that a worker's id stands for; None when it is no id of ours."""
    match = _ID.fullmatch(worker)
    if match is None:
        return None
    return Identity(worker, match.group(1), int(match.group(2)), int(match.group(3)))


def take(wanted: Identity, pool: Pool, results: Path) -> Identity:
    """Register the worker in the pool under its id, or the next free one.

    An id is also taken when its results are still there: a scheduler that lost its memory gives an id twice.
    """
    for suffix in [""] + ["-" + letter for letter in string.ascii_lowercase[1:]]:
        worker = wanted.worker + suffix
        name = worker + ".ndjson"
        if not pool.register(worker):
            continue
        if not (results / name).exists() and not (results / "archive" / name).exists():
            return Identity(worker, wanted.job, wanted.index, wanted.restart)
        pool.unregister(worker)
    raise RuntimeError("all ids of worker %s are taken" % wanted.worker)
