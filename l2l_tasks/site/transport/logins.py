"""How often a machine may log in to a site: budget, back-off and circuit, shared by all its processes.

Supercomputing centres take many accesses in a short time for an intrusion and lock the originating
host at their firewall (JSC's access pages say so), so every login, also one that fails, is taken from a
budget per hour; failures are followed by growing pauses; and what only a person can mend (key, host
key) stops all logins until `reset`. The state is one small JSON file under a lock file.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from l2l_tasks.errors import SitePermanentError, SiteTransientError
from l2l_tasks.site.transport.private import write_private

HOUR = 3600.0
LOCK_POLL_SECONDS = 0.05


@dataclass
class LoginState:
    """What is remembered between processes.

    Attributes:
        logins: times (epoch seconds) of the logins of the last hour, failed ones included.
        total: logins ever.
        failures: transient failures in a row.
        retry_at: epoch seconds before which no login is tried.
        last_error: of the last failure; empty after a success.
        circuit: why logins are stopped until a person acts; empty when they are not.
    """

    logins: list[float] = field(default_factory=list)
    total: int = 0
    failures: int = 0
    retry_at: float = 0.0
    last_error: str = ""
    circuit: str = ""


class LoginGate:
    """Decides whether a login may be tried now. All but `read` and `lock` are called with the lock held.

    Args:
        folder: private folder of this site's state.
        site: for messages.
        per_hour: logins in any 3600 s.
        first_pause, longest_pause: seconds; pauses double from the first to the longest, with jitter of a
            factor between 0.5 and 1.5 (many machines must not come back in step).
    """

    def __init__(
        self,
        folder: Path,
        site: str,
        per_hour: int,
        *,
        first_pause: float = 1.0,
        longest_pause: float = 300.0,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.5),
    ) -> None:
        self.folder, self.site, self.per_hour = folder, site, per_hour
        self.first_pause, self.longest_pause = first_pause, longest_pause
        self.clock, self.jitter = clock, jitter

    @contextmanager
    def lock(self, deadline: float) -> Iterator[None]:
        """Hold the lock of the site's logins.

        Args:
            deadline: by time.monotonic().

        Raises:
            SiteTransientError: another process still logs in at the deadline.
        """
        fd = os.open(self.folder / "login.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise SiteTransientError(
                            f"site {self.site}: another process of this machine still logs in; ask again"
                        ) from None
                    time.sleep(LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(fd)  # gives the lock back

    def read(self) -> LoginState:
        """The state as it is (the file is replaced whole, so no lock is needed)."""
        try:
            state = LoginState(**json.loads((self.folder / "logins.json").read_text()))
        except FileNotFoundError:
            return LoginState()
        except (ValueError, TypeError) as error:
            raise SitePermanentError(
                f"site {self.site}: {self.folder / 'logins.json'} is damaged ({error}); delete it"
            ) from error
        now = self.clock()
        state.logins = [t for t in state.logins if now - HOUR < t <= now]
        if state.retry_at > now + 2 * self.longest_pause:
            state.retry_at = 0.0  # the clock was set back: that must not stop logins for ever
        return state

    def admit(self) -> None:
        """Take one login from the budget.

        Raises:
            SitePermanentError: logins are stopped until a person acts.
            SiteTransientError: not now; the message says when.
        """
        state, now = self.read(), self.clock()
        if state.circuit:
            raise SitePermanentError(
                f"site {self.site}: logins are stopped: {state.circuit}. When that is mended, "
                f"`l2l doctor --site {self.site} --reset` allows them again"
            )
        if now < state.retry_at:
            raise SiteTransientError(
                f"site {self.site}: {state.last_error}; retry at {_clock_time(state.retry_at)} "
                f"(in {state.retry_at - now:.0f} s, failure {state.failures} in a row)"
            )
        if len(state.logins) >= self.per_hour:
            free = min(state.logins) + HOUR
            raise SiteTransientError(
                f"site {self.site}: the budget of {self.per_hour} logins per hour is used up; retry at "
                f"{_clock_time(free)} (in {free - now:.0f} s). `logins_per_hour` of the site profile sets it"
            )
        state.logins.append(now)
        state.total += 1
        self._write(state)

    def succeeded(self) -> None:
        """The login admitted last worked."""
        state = self.read()
        state.failures, state.retry_at, state.last_error, state.circuit = 0, 0.0, "", ""
        self._write(state)

    def failed(self, error: str) -> float:
        """The login admitted last failed for a passing reason; seconds of the pause that follows."""
        state = self.read()
        pause = min(self.longest_pause, self.first_pause * 2.0 ** min(state.failures, 30)) * self.jitter()
        state.failures += 1
        state.retry_at, state.last_error = self.clock() + pause, error
        self._write(state)
        return pause

    def refused(self, error: str) -> None:
        """The login admitted last failed for a reason that a person has to mend: stop logins."""
        state = self.read()
        state.circuit = state.last_error = error
        self._write(state)

    def reset(self) -> None:
        """A person has acted: allow logins again. The budget is not given back: the site counted them."""
        state = self.read()
        state.failures, state.retry_at, state.last_error, state.circuit = 0, 0.0, "", ""
        self._write(state)

    def _write(self, state: LoginState) -> None:
        write_private(self.folder / "logins.json", json.dumps(asdict(state)))


def _clock_time(epoch: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(epoch))
