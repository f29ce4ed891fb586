"""Run one local program: stdin written, output capped, time limited, only that program killed."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CHUNK = 65536
# After the program's end its pipes may stay open in another process (ssh hands them to its master).
DRAIN_SECONDS = 2.0


@dataclass(frozen=True)
class Completed:
    """How a command ended.

    Attributes:
        exit_status: of the command; None when no status came (lost, killed, timed out, output over the
            cap): then whether and how the command ran is unknown, whatever output there is.
        stdout, stderr: what came, at most the cap each.
        lost: why there is no exit status; empty when there is one.
    """

    exit_status: int | None
    stdout: bytes
    stderr: bytes
    lost: str = ""


def run_process(
    argv: Sequence[str],
    stdin: bytes,
    timeout: float,
    max_output: int,
    env: Mapping[str, str] | None = None,
    drain: float = DRAIN_SECONDS,
) -> Completed:
    """Run `argv` with `stdin` as its input.

    The program gets a session of its own, so that a Ctrl-C for the controller is not one for the site.

    Args:
        timeout: seconds until the program (not its children) is killed.
        max_output: bytes of stdout that are kept; more of them end the run. stderr is cut silently.
        drain: seconds that outputs may stay open after the program's end before they count as ended.

    Raises:
        OSError: the program cannot be started.
    """
    deadline = time.monotonic() + timeout
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=env,
        bufsize=0,
    ) as process:
        pipes = _Pipes(process, stdin, max_output, drain)
        try:
            lost = pipes.pump(deadline)
        finally:
            if process.poll() is None and not pipes.drained:
                process.kill()
            pipes.close()
        if not lost:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                lost = f"no end within {timeout:.0f} s"
    code = process.returncode
    if not lost and code < 0:
        lost = f"killed by signal {-code}"
    return Completed(None if lost else code, bytes(pipes.stdout), bytes(pipes.stderr), lost)


class _Pipes:
    """The three pipes of a running program, none of which may block the other two."""

    def __init__(
        self, process: subprocess.Popen[bytes], stdin: bytes, max_output: int, drain: float
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.left = memoryview(stdin)
        self.max_output, self.drain = max_output, drain
        self.stdout, self.stderr = bytearray(), bytearray()
        self.input = process.stdin
        self.outputs = {process.stdout.fileno(): self.stdout, process.stderr.fileno(): self.stderr}
        self.selector = selectors.DefaultSelector()
        for pipe in (process.stdout, process.stderr):
            os.set_blocking(pipe.fileno(), False)
            self.selector.register(pipe.fileno(), selectors.EVENT_READ)
        os.set_blocking(self.input.fileno(), False)
        self.selector.register(self.input.fileno(), selectors.EVENT_WRITE)

    @property
    def drained(self) -> bool:
        """Whether both outputs were read to their end."""
        return not any(fd in self.selector.get_map() for fd in self.outputs)

    def pump(self, deadline: float) -> str:
        """Move bytes until both outputs end; why that did not happen, or an empty text."""
        start, ended_at = time.monotonic(), None
        while not self.drained:
            now = time.monotonic()
            if now >= deadline:
                return f"no end within {deadline - start:.0f} s"
            if ended_at is None and self.process.poll() is not None:
                ended_at = now
            if ended_at is not None and now - ended_at > self.drain:
                return ""
            for key, _ in self.selector.select(min(0.25, deadline - now)):
                if key.fd in self.outputs:
                    self._read(key.fd)
                else:
                    self._write()
            if len(self.stdout) > self.max_output:
                del self.stdout[self.max_output :]
                return f"more than {self.max_output} bytes of output"
        return ""

    def _read(self, fd: int) -> None:
        data = os.read(fd, CHUNK)
        if not data:
            self.selector.unregister(fd)
        elif self.outputs[fd] is self.stdout or len(self.stderr) < self.max_output:
            self.outputs[fd] += data

    def _write(self) -> None:
        try:
            written = os.write(self.input.fileno(), self.left[:CHUNK]) if self.left else 0
            self.left = self.left[written:]
        except BrokenPipeError:
            self.left = self.left[:0]
        if not self.left:
            self.selector.unregister(self.input.fileno())
            self.input.close()

    def close(self) -> None:
        """Close what is still open; the program may go on without being heard."""
        self.selector.close()
        for pipe in (self.input, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
