"""The site is this machine: commands are child processes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from l2l_tasks.errors import SitePermanentError
from l2l_tasks.site.transport.base import MAX_OUTPUT, Completed, Transport
from l2l_tasks.site.transport.process import run_process

# What the controller's environment may hold of passwords and connections.
CONTROLLER_ONLY = ("L2L_", "AIRFLOW_", "_AIRFLOW_", "MLFLOW_", "_MLFLOW_", "PG")


def site_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command at the site: the controller's without its secrets.

    Workers and so optimizees inherit it; over SSH they would not see any of these either.
    """
    return {name: value for name, value in environment.items() if not name.startswith(CONTROLLER_ONLY)}


class LocalTransport(Transport):
    """Runs commands here, under the account of the controller."""

    def __init__(self, max_output: int = MAX_OUTPUT) -> None:
        self.max_output = max_output

    def run(self, argv: Sequence[str], stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        try:
            return run_process(argv, stdin, timeout, self.max_output, site_environment(os.environ))
        except OSError as error:
            raise SitePermanentError(f"cannot run {argv[0]} on this machine: {error}") from error

    def close(self) -> None:
        """Nothing is held."""
