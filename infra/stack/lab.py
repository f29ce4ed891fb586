"""The Slurm of this machine (infra/slurm/up.sh), as a connection of Airflow."""

from __future__ import annotations

import json
import os
from pathlib import Path

CONNECTION = "AIRFLOW_CONN_L2L_SLURM_LAB"


def folder() -> Path:
    """Where infra/slurm puts everything."""
    return Path(os.environ.get("LAB", "/var/lib/l2l-slurm"))


def connections() -> dict[str, str]:
    """The lab's SSH connection as an environment variable of Airflow; empty when there is no lab (for us)."""
    try:
        connection = json.loads((folder() / "connection.json").read_text())
    except (FileNotFoundError, PermissionError):
        return {}
    return {CONNECTION: json.dumps(connection)}
