"""Runs one command of the scheduler. The only place that starts its programs."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence


@dataclass(frozen=True)
class Ran:
    """What a command left. `status` is None when it gave no answer in time (or could not be started)."""

    status: Optional[int]
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def complaint(self) -> str:
        """Its error text on one line."""
        return " ".join((self.err or self.out).split()) or "no output, exit status %s" % self.status


def run(argv: Sequence[str], env: Mapping[str, str], timeout: float, stdin: str = "") -> Ran:
    """Run `argv`, waiting at most `timeout` seconds. Never raises: no answer is `status=None`."""
    try:
        done = subprocess.run(
            list(argv),
            input=stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Ran(None, "", "%s gave no answer within %g s" % (argv[0], timeout))
    except OSError as error:
        return Ran(None, "", "%s could not be started: %s" % (argv[0], error))
    return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
