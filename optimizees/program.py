"""A program as part of an evaluation: its output is passed on, and nothing that it started outlives it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, List, Mapping, Sequence

TAIL_BYTES = 16384
GRACE = 2  # s between SIGTERM and SIGKILL when the evaluation is killed
_CHUNK = 65536
_MOST_CHUNKS = 16  # read after the end: more than a pipe holds
_LOOK = 0.2  # s between looks at a program that prints nothing

# The program leads a process group of its own, which a worker that kills this process at the deadline does
# not know. So a shell outside of that group waits for our death, the end of its standard input. SIGTERM
# comes first: srun, killed at once, would leave its step running. The shell holds the pipe of the program's
# output too, so that what is printed as a last word does not end the program (SIGPIPE) before its clean-up.
_GUARD = """
read -r group || exit 0
read -r over && exit 0
kill -s TERM -- "-$group" || exit 0
sleep "$1"
kill -s KILL -- "-$group"
"""


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    Attributes:
        status: its exit status, or the negative number of the signal that ended it.
        output: the end of what it printed.
    """

    status: int
    output: str

    def lines(self) -> List[str]:
        """The lines of the output that are not empty."""
        return [line.rstrip() for line in self.output.splitlines() if line.strip()]

    def described(self) -> str:
        """The end in words: `ended by SIGSEGV`, `ended with exit status 3`."""
        if self.status < 0:
            hint = ", probably out of memory" if self.status == -signal.SIGKILL else ""
            return f"ended by {_signal_name(-self.status)}{hint}"
        hint = f" (a shell's word for {_signal_name(self.status - 128)})" if 128 < self.status < 160 else ""
        return f"ended with exit status {self.status}{hint}"


def run(argv: Sequence[str], folder: Path, environ: Mapping[str, str]) -> Ended:
    """Run a program in `folder` to its end, then end all that is left of its process group.

    What it prints goes to this process's standard output at once. RuntimeError: it cannot be started.
    """
    with contextlib.ExitStack() as stack:
        read_end, write_end = os.pipe()
        output = stack.enter_context(open(read_end, "rb", buffering=0))
        written = stack.enter_context(open(write_end, "wb", buffering=0))
        guard = stack.enter_context(_start_guard(output))
        try:
            program = subprocess.Popen(
                list(argv),
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise RuntimeError(f"cannot start {argv[0]!r}: {error}") from error
        stack.enter_context(program)
        stack.callback(_end, program, guard)
        _tell(guard, f"{program.pid}\n")
        written.close()
        tail = _pass_on(program.pid, output.fileno())
    return Ended(program.returncode, tail.decode("utf-8", "replace"))


def _start_guard(output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "l2l-guard", str(GRACE)],
        bufsize=0,
        cwd="/",  # the scratch folder can be removed
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(output.fileno(),),
        start_new_session=True,
    )


def _tell(guard: subprocess.Popen[bytes], line: str) -> None:
    assert guard.stdin is not None
    guard.stdin.write(line.encode())


def _end(program: subprocess.Popen[bytes], guard: subprocess.Popen[bytes]) -> None:
    """End the program's group; before the reaping, because until then nobody else can get its id."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        _tell(guard, "over\n")


def _pass_on(program: int, pipe: int) -> bytes:
    """Print what the program prints until it has ended; the end of it.

    Its children may hold the pipe open, so the end of the output is not waited for.
    """
    tail, data = b"", b" "
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while data and not _has_ended(program):
            if selector.select(_LOOK):
                data = os.read(pipe, _CHUNK)
                tail = _printed(tail, data)
    os.waitid(os.P_PID, program, os.WEXITED | os.WNOWAIT)
    os.set_blocking(pipe, False)
    for _ in range(_MOST_CHUNKS):
        data = _read(pipe)
        if not data:
            break
        tail = _printed(tail, data)
    return tail


def _printed(tail: bytes, data: bytes) -> bytes:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return (tail + data)[-TAIL_BYTES:]


def _read(pipe: int) -> bytes:
    """What is there; empty at the end, and when there is nothing now."""
    try:
        return os.read(pipe, _CHUNK)
    except BlockingIOError:
        return b""


def _has_ended(pid: int) -> bool:
    """Whether a child has ended; it is not reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
