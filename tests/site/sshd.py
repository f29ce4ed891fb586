"""A real sshd on a loopback port, for the account that runs the tests, with everything in one folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l2l_tasks.connections import ConnectionInfo
from l2l_tasks.site.transport.ssh import SshTransport
from l2l_tasks.site.transport.ssh_config import Timing

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
ACCOUNT = pwd.getpwuid(os.getuid()).pw_name
FAST = Timing(connect=5, login=10, alive_interval=1, alive_count=2, persist=60, first_pause=30)

CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
AllowUsers {account}
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
PrintMotd no
LogLevel VERBOSE
SetEnv HOME={folder}/home
{more}
"""


def keygen(path: Path) -> Path:
    """A new ed25519 key without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class SshServer:
    """One sshd. `home` is the HOME of its sessions; `more` goes into its configuration."""

    folder: Path
    more: str = ""
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self.key, self.host_key = keygen(self.folder / "id"), keygen(self.folder / "host_key")
        self.allow()
        text = CONFIG.format(port=self.port, folder=self.folder, account=ACCOUNT, more=self.more)
        (self.folder / "sshd_config").write_text(text)
        self.start()

    def allow(self, options: str = "") -> None:
        """Install the key, with `options` (a from-clause) before it."""
        public = self.key.with_suffix(".pub").read_text()
        (self.folder / "authorized_keys").write_text(f"{options} {public}".lstrip())

    def start(self) -> None:
        """Start the server and wait until it accepts."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=log
            )
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.02)
        raise AssertionError("sshd does not accept connections")

    def stop(self) -> None:
        """End the listener and every connection."""
        self.break_connections()
        self.process.kill()
        self.process.wait()

    def break_connections(self) -> None:
        """Kill the servers of open connections."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def sessions(self) -> list[int]:
        """Process ids of the servers of open connections (all below the listener)."""
        return _descendants(self.process.pid, "sshd")

    def freeze(self) -> None:
        """Stop the open connections without closing them, as a dead network does."""
        for pid in self.sessions():
            os.kill(pid, signal.SIGSTOP)

    def logins(self) -> int:
        """How many logins it has accepted so far."""
        return (self.folder / "log").read_text().count("Accepted publickey")

    def connection(self, **extra: Any) -> ConnectionInfo:
        """The connection to this server; `extra` overrides."""
        public = self.host_key.with_suffix(".pub").read_text().rsplit(" ", 1)[0]
        values = {"key_file": str(self.key), "host_key": public, **extra}
        return ConnectionInfo("test", "127.0.0.1", self.port, ACCOUNT, extra=values)

    def transport(self, *, budget: int = 20, timing: Timing = FAST, **extra: Any) -> SshTransport:
        """A transport to this server."""
        return SshTransport(self.connection(**extra), site="test", logins_per_hour=budget, timing=timing)


def _descendants(parent: int, name: str) -> list[int]:
    """Processes below `parent` whose program is `name`, outermost first."""
    table: dict[int, list[tuple[int, str]]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                text = (path / "stat").read_text()
            except OSError:
                continue
            command, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
            table.setdefault(int(rest[1]), []).append((int(path.name), command))
    found, queue = [], [parent]
    while queue:
        for pid, command in table.get(queue.pop(0), []):
            queue.append(pid)
            if command.startswith(name):
                found.append(pid)
    return found
