"""Real transports with one fault on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from l2l_tasks.site.transport.base import Completed, Transport


class Wrapped(Transport):
    """Passes commands on to a real transport."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner

    def run(self, argv: Sequence[str], stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        return self.inner.run(argv, stdin, timeout)

    def close(self) -> None:
        self.inner.close()


class Records(Wrapped):
    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.commands: list[tuple[str, ...]] = []

    def run(self, argv: Sequence[str], stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        self.commands.append(tuple(argv))
        return self.inner.run(argv, stdin, timeout)


class LosesReplies(Wrapped):
    """The command runs to its end; of its output only a part arrives, and no exit status."""

    def __init__(self, inner: Transport, keep: float) -> None:
        super().__init__(inner)
        self.keep = keep

    def run(self, argv: Sequence[str], stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        done = self.inner.run(argv, stdin, timeout)
        cut = done.stdout[: int(len(done.stdout) * self.keep)]
        return replace(done, exit_status=None, stdout=cut, lost="session lost")


class Slow(Wrapped):
    """A site that takes its time before every command."""

    def run(self, argv: Sequence[str], stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        return self.inner.run(["/bin/sh", "-c", 'sleep 20; exec "$@"', "x", *argv], stdin, timeout)
