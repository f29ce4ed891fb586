"""The shell script that every worker is started through, without the scheduler's own header lines."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, List, Mapping, Sequence

from .base import SchedulerError, worker_argv

CANNOT_ENTER_FOLDER = 97
"""Exit status of a worker whose campaign folder is not there (Slurm alone would run it elsewhere)."""


def setup_lines(config: Mapping[str, Any]) -> List[str]:
    """The shell lines of `config["setup"]` (modules to load and the like). Raises SchedulerError."""
    lines = config.get("setup") or []
    if not isinstance(lines, (list, tuple)) or not all(isinstance(line, str) for line in lines):
        raise SchedulerError("scheduler option setup: expected a list of shell lines, got %r" % (lines,))
    return list(lines)


def script(header: Sequence[str], setup: Sequence[str], campaign: Mapping[str, Any], folder: Path) -> str:
    """`#!/bin/bash`, `header`, `setup`, then the worker in place of the shell, so that signals reach it.

    `set -u` comes after the set-up: the profile scripts and module commands of many sites do not survive it.
    """
    argv = worker_argv(campaign, folder)
    return "\n".join(
        [
            "#!/bin/bash",
            *header,
            # Slurm's --export=NONE would otherwise reach every srun inside the job as well.
            "unset SLURM_EXPORT_ENV",
            *setup,
            "set -u",
            "cd %s || exit %d" % (shlex.quote(str(folder)), CANNOT_ENTER_FOLDER),
            "exec " + " ".join(shlex.quote(part) for part in argv),
            "",
        ]
    )
