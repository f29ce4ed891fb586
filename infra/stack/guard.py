"""Runs one component for the supervisor: `python -m infra.stack.guard NAME`.

supervisord watches one process, a component of the stack is many: Airflow's scheduler forks workers that
outlive it when it is killed. The guard puts the component into a session of its own, passes the stop signal
on, and when the component's main process has ended, for whatever reason, it ends what is left of the session
before supervisord starts it anew. What a killed guard has left is ended by the next one.

There is one guard for each component: it imports little, and it knows no secrets (launch.py does).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import IO

from infra.stack import processes
from infra.stack.components import COMPONENTS, Component
from infra.stack.layout import Layout

PR_SET_PDEATHSIG = 1
# What dies sooner (seconds) is restarted that much later, so that the supervisor never gives up.
SHORTEST_LIFE = 5.0


class Guard:
    """Start the component, wait for its end, leave nothing behind."""

    def __init__(self, layout: Layout, component: Component) -> None:
        self.layout = layout
        self.component = component
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = False

    def run(self) -> int:
        """Until the component has ended; returns an exit status for the supervisor."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGALRM, self._on_alarm)
        with open(self.layout.run / f"{self.component.name}.lock", "w") as lock:
            return self._run() if self._alone(lock) else 0

    def _alone(self, lock: IO[str]) -> bool:
        """Wait until the guard of an earlier supervisor has ended; False: stopped meanwhile."""
        while not self.stopping:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)
            else:
                return True
        return False

    def _run(self) -> int:
        session_file = self.layout.session(self.component.name)
        if processes.end_recorded(session_file, self.component.stop_signal):
            self._say("ended what an earlier start had left")
        started = time.monotonic()
        argv = [sys.executable, "-m", "infra.stack.launch", self.component.name]
        self.process = subprocess.Popen(
            argv, cwd=self.layout.run, stdin=subprocess.DEVNULL, start_new_session=True
        )
        processes.record(session_file, self.process.pid)
        if self.stopping:  # the signal came before there was a process to pass it on to
            self._stop()
        status = self.process.wait()
        if stuck := processes.end_session(self.process.pid):
            self._say(f"processes {stuck} cannot be killed (do they wait for a disk?)")
        session_file.unlink(missing_ok=True)
        self._say(f"ended with status {status}")
        while not self.stopping and time.monotonic() - started < SHORTEST_LIFE:
            time.sleep(0.1)
        return 0

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True
        self._stop()

    def _stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(self.component.stop_signal)
            signal.alarm(self.component.stop_seconds)

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        if self.process is not None:
            self._say(f"still there after {self.component.stop_seconds} s: killed")
            processes.end_session(self.process.pid)

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads any more when supervisord was killed
            print(f"{time.strftime('%F %T')} guard of {self.component.name}: {text}", flush=True)


def _end_with_parent() -> None:
    """Without supervisord the stack stops: two of a component must never run."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> int:
    """Guard the component named on the command line."""
    _end_with_parent()
    return Guard(Layout.of_settings(), COMPONENTS[sys.argv[1]]).run()


if __name__ == "__main__":
    sys.exit(main())
