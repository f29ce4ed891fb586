"""OpenSSH, with one login for all processes of this machine.

The first command logs in and leaves a *master* behind (ControlMaster); every further command of every
process is a session within it. A session never logs in by itself: where a client would fall back to a
connection of its own, a ProxyCommand says `NOT_CONNECTED` instead, which also tells "did not start" from
"no answer". Logins pass the gate of logins.py.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from l2l_tasks.connections import ConnectionInfo
from l2l_tasks.errors import SitePermanentError, SiteTransientError
from l2l_tasks.site.transport import ssh_config
from l2l_tasks.site.transport.base import MAX_OUTPUT, Completed, LinkStatus, Transport, stderr_tail
from l2l_tasks.site.transport.logins import LoginGate
from l2l_tasks.site.transport.private import state_folder, write_private
from l2l_tasks.site.transport.process import DRAIN_SECONDS, run_process
from l2l_tasks.site.transport.ssh_config import Timing
from l2l_tasks.site.transport.ssh_errors import classify, misconfigured

NOT_CONNECTED = b"l2l-not-connected"
# The master took the request and died before it confirmed: the command may have started all the same.
MAYBE_STARTED = b"mux_client_request_session: read from master failed"
SSH_FAILED = 255
CHECK_SECONDS = 10.0
# sshd allows some 10 sessions per connection (MaxSessions); a refused one is tried again.
SESSION_RETRY_SECONDS = 0.25
# The master keeps the pipe of its messages open, so their end never comes.
LOGIN_DRAIN_SECONDS = 0.1


class SshTransport(Transport):
    """See the module. `site` is for messages; `logins_per_hour` is the budget of the site profile.

    A command's own exit status 255 counts as lost, as ssh uses it for every failure of its own.

    Raises:
        SitePermanentError: the connection is insecure or incomplete (nothing was sent).
    """

    def __init__(
        self,
        info: ConnectionInfo,
        *,
        site: str,
        logins_per_hour: int,
        timing: Timing | None = None,
        max_output: int = MAX_OUTPUT,
    ) -> None:
        self.site, self.max_output = site, max_output
        self.timing = timing or Timing()
        self.endpoint = ssh_config.endpoint(info)
        self.folder = state_folder(asdict(self.endpoint))
        self.config = self._write_config()
        self.socket = os.path.expanduser(self.endpoint.control_path or str(self.folder / "s"))
        self.gate = LoginGate(
            self.folder,
            site,
            logins_per_hour,
            first_pause=self.timing.first_pause,
            longest_pause=self.timing.longest_pause,
        )

    def run(self, argv: Sequence[str], stdin: bytes = b"", timeout: float = 60.0) -> Completed:
        deadline = time.monotonic() + timeout
        client = [*self._ssh(), *self._session_options(), self.endpoint.host, shlex.join(argv)]
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise SiteTransientError(
                    f"site {self.site}: no session within {timeout:g} s; the command was not started"
                )
            done = self._local(client, stdin, left)
            if done.exit_status != SSH_FAILED:
                return done
            if misconfigured(done.stderr):
                raise SitePermanentError(
                    f"site {self.site}: the ssh configuration is wrong [{stderr_tail(done)}]; it is in "
                    f"{self.config} and {self.endpoint.ssh_config or 'nothing else'}"
                )
            if NOT_CONNECTED not in done.stderr or MAYBE_STARTED in done.stderr:
                return Completed(None, done.stdout, done.stderr, f"session lost: {stderr_tail(done)}")
            self._connect(deadline)

    def close(self) -> None:
        """Nothing: the connection belongs to all processes. `disconnect` ends it."""

    def disconnect(self) -> None:
        """End the shared connection, for every process."""
        self._control("exit")

    def connected(self) -> bool:
        """Whether the shared connection is up (asks its master, not the site)."""
        return self._control("check").exit_status == 0

    def status(self) -> LinkStatus:
        """What a person wants to know about the connection; asks nothing of the site."""
        state = self.gate.read()
        return LinkStatus(
            connected=self.connected(),
            logins=len(state.logins),
            budget=self.gate.per_hour,
            total=state.total,
            retry_at=state.retry_at if state.retry_at > time.time() else 0.0,
            last_error=state.last_error,
            circuit=state.circuit,
            login_command=self.login_command(),
        )

    def reset(self) -> None:
        """A person has mended what stopped the logins: allow them again, now."""
        with self.gate.lock(time.monotonic() + self.timing.login):
            self.gate.reset()

    def login_command(self) -> str:
        """The command by which a person opens the shared connection by hand."""
        return shlex.join([*self._ssh(), "-o", "BatchMode=no", *self._master_options(), self.host])

    @property
    def host(self) -> str:
        """Host name or alias."""
        return self.endpoint.host

    def _connect(self, deadline: float) -> None:
        """See that a master is there: wait for a free session, or log in."""
        if self.endpoint.control_path:
            self._user_master()
            return
        with self.gate.lock(deadline):
            if not self._master_alive():
                Path(self.socket).unlink(missing_ok=True)  # ssh does not use a socket that exists
                self._login(deadline)
                return
        time.sleep(SESSION_RETRY_SECONDS)

    def _login(self, deadline: float) -> None:
        self.gate.admit()
        seconds = max(1.0, min(self.timing.login, deadline - time.monotonic()))
        # Without -v the messages of a jump host's ssh are lost when there is a ControlPersist.
        login = [*self._ssh(), "-v", *self._master_options(), self.host]
        done = self._local(login, b"", seconds, drain=LOGIN_DRAIN_SECONDS)
        if done.exit_status == 0:
            self.gate.succeeded()
            return
        if done.exit_status is None:
            reason, permanent = f"the login had {done.lost}", False
        else:
            failure = classify(done.stderr)
            reason, permanent = failure.reason, failure.permanent
        if permanent:
            self.gate.refused(reason)
            raise SitePermanentError(
                f"site {self.site}: {reason}. Logins are stopped; when it is mended, "
                f"`l2l doctor --site {self.site} --reset` allows them again"
            )
        pause = self.gate.failed(reason)
        raise SiteTransientError(f"site {self.site}: {reason}; retry in {pause:.0f} s")

    def _user_master(self) -> None:
        if not self._master_alive():
            Path(self.socket).unlink(missing_ok=True)  # a dead one: ssh would not use its path again
            raise SitePermanentError(
                f"site {self.site}: nobody has opened the connection {self.socket}. Log in once by hand: "
                f"{self.login_command()}"
            )
        time.sleep(SESSION_RETRY_SECONDS)

    def _master_alive(self) -> bool:
        done = self._control("check")
        if done.exit_status is None:
            raise SiteTransientError(
                f"site {self.site}: the process of the open connection does not respond ({self.socket}); "
                "if that lasts, end it (`ps` shows it as ssh: ... [mux]) and ask again"
            )
        return done.exit_status == 0

    def _control(self, what: str) -> Completed:
        return self._local([*self._ssh(), "-S", self.socket, "-O", what, self.host], b"", CHECK_SECONDS)

    def _local(
        self, argv: list[str], stdin: bytes, timeout: float, drain: float = DRAIN_SECONDS
    ) -> Completed:
        # English messages, and a plain shell for the ProxyCommand.
        env = {**os.environ, "LC_ALL": "C", "SHELL": "/bin/sh"}
        try:
            return run_process(argv, stdin, timeout, self.max_output, env, drain)
        except OSError as error:
            raise SitePermanentError(f"the OpenSSH client cannot be started: {error}; install it") from error

    def _ssh(self) -> list[str]:
        return ["ssh", "-F", str(self.config)]

    def _master_options(self) -> list[str]:
        return ["-M", "-N", "-f", "-S", self.socket, "-o", f"ControlPersist={self.timing.persist}"]

    def _session_options(self) -> list[str]:
        # Not `echo ... >&2` alone: that closes stdout first, upon which ssh kills it before it has spoken.
        refuse = f'ProxyCommand=/bin/sh -c "echo {NOT_CONNECTED.decode()} >&2; exit 1"'
        # ControlPersist=yes would silence the ProxyCommand.
        return ["-S", self.socket, "-o", "ControlMaster=no", "-o", "ControlPersist=no", "-o", refuse]

    def _write_config(self) -> Path:
        pinned, config = self.folder / "known_hosts", self.folder / "config"
        if self.endpoint.host_key:
            write_private(pinned, ssh_config.known_hosts_text(self.endpoint))
        write_private(config, ssh_config.config_text(self.endpoint, self.timing, pinned))
        return config
