"""The site is this machine: commands are child processes."""

from __future__ import annotations

from collections.abc import Sequence

from l2l_tasks.errors import SitePermanentError
from l2l_tasks.site.transport.base import MAX_OUTPUT, Completed, Transport
from l2l_tasks.site.transport.process import run_process


class LocalTransport(Transport):
    """Runs commands here, under the account of the controller."""

    def __init__(self, max_output: int = MAX_OUTPUT) -> None:
        self.max_output = max_output

    def run(self, argv: Sequence[str], stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        try:
            return run_process(argv, stdin, timeout, self.max_output)
        except OSError as error:
            raise SitePermanentError(f"cannot run {argv[0]} on this machine: {error}") from error

    def close(self) -> None:
        """Nothing is held."""
