"""Schedulers: what starts the workers of a campaign at a site."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from .base import (
    CANCELLED,
    COMPLETED,
    ENDED_STATES,
    FAILED,
    NODE_FAIL,
    OUT_OF_MEMORY,
    PENDING,
    PREEMPTED,
    REJECTED,
    RUNNING,
    STATES,
    SUBMITTED,
    TIMEOUT,
    UNCERTAIN,
    UNKNOWN,
    Answer,
    Scheduler,
    SchedulerError,
    SchedulerUnavailable,
    Submission,
    WorkerState,
)

__all__ = [
    "CANCELLED",
    "COMPLETED",
    "ENDED_STATES",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PENDING",
    "PREEMPTED",
    "REJECTED",
    "RUNNING",
    "STATES",
    "SUBMITTED",
    "TIMEOUT",
    "UNCERTAIN",
    "UNKNOWN",
    "Answer",
    "Scheduler",
    "SchedulerError",
    "SchedulerUnavailable",
    "Submission",
    "WorkerState",
    "make",
]


def make(config: Mapping[str, Any], work: Path) -> Scheduler:
    """The scheduler that `config` (campaign.json's "scheduler") describes.

    Args:
        config: `{"kind": "slurm"|"local", ...}`; the other keys are described in slurm.py and local.py.
        work: the site's work folder (the one that holds `campaigns/`); the local scheduler keeps its
            register of processes there.

    Raises SchedulerError when the kind is not known or an option is wrong.
    """
    kind = config.get("kind")
    if kind == "slurm":
        from .slurm import SlurmScheduler

        return SlurmScheduler(config)
    if kind == "local":
        from .local import LocalScheduler

        return LocalScheduler(config, work)
    raise SchedulerError(f"unknown scheduler kind {kind!r}: use one of slurm, local")
