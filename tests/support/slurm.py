"""The real one-node Slurm of infra/slurm: fixtures `slurm_lab`, shared, and `slurm_fault_lab`, to be broken.

The first stays up at the end, so that the next run starts in a second (`infra/slurm/down.sh` stops it); the
second is stopped. They need root; elsewhere the tests that use them are skipped.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "infra" / "slurm"


def wait_until(condition: Callable[[], bool], seconds: float = 60.0, what: str = "") -> None:
    """Look again and again until `condition()`; fail the test when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain: {what or condition}")
        time.sleep(0.1)


@dataclass(frozen=True)
class SlurmLab:
    """A running lab.

    Attributes:
        root: the folder that everything of the lab lives in.
        login: the account; `home`: its home; `work`: a folder of its own for the site's work.
        ssh_config, alias: for `ssh -F ssh_config alias`.
        python: interpreter for jobs (with NumPy and NEST), when the lab has one.
    """

    root: Path
    login: str
    knobs: Mapping[str, str]

    @property
    def home(self) -> Path:
        return self.root / "home" / self.login

    @property
    def work(self) -> Path:
        return self.home / "l2l"

    @property
    def ssh_config(self) -> Path:
        return self.root / "client" / "ssh_config"

    @property
    def alias(self) -> str:
        return "slurm-lab"

    @property
    def python(self) -> Path:
        return self.root / "python" / "bin" / "python"

    @property
    def connection(self) -> dict[str, Any]:
        """The SSH connection as Airflow writes it."""
        found: dict[str, Any] = json.loads((self.root / "connection.json").read_text())
        return found

    @property
    def environment(self) -> dict[str, str]:
        """What a session of the account has."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "USER": self.login,
            "LOGNAME": self.login,
            "SHELL": "/bin/bash",
            "SLURM_CONF": str(self.root / "etc" / "slurm.conf"),
        }

    def up(self) -> None:
        """Bring the lab up, or mend what a test broke."""
        self._script("up.sh")
        owner = pwd.getpwnam(self.login)
        self.work.mkdir(exist_ok=True)
        os.chown(self.work, owner.pw_uid, owner.pw_gid)

    def down(self) -> None:
        """Stop the lab; what it knows is kept."""
        self._script("down.sh")

    def _script(self, name: str) -> None:
        ran = subprocess.run(
            [str(SCRIPTS / name)],
            env={**os.environ, **self.knobs, "LAB": str(self.root), "LAB_LOGIN": self.login},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"infra/slurm/{name} failed:\n{ran.stdout}"

    def folder(self, name: str) -> Path:
        """A fresh campaign folder of the account: `work/campaigns/<name>` with `logs/`."""
        owner = pwd.getpwnam(self.login)
        path = self.work / "campaigns" / name
        (path / "logs").mkdir(parents=True)
        for made in (path.parent, path, path / "logs"):
            os.chown(made, owner.pw_uid, owner.pw_gid)
        return path

    def as_user(
        self, command: str | Sequence[str], timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell line (or an argv) as the account, in its home."""
        owner = pwd.getpwnam(self.login)
        return subprocess.run(
            ["bash", "-c", command] if isinstance(command, str) else list(command),
            user=owner.pw_uid,
            group=owner.pw_gid,
            extra_groups=[],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def scontrol(self, *arguments: str) -> str:
        """`scontrol` as the administrator; its output. Fails the test when it refuses."""
        ran = subprocess.run(
            ["scontrol", *arguments],
            env={**os.environ, "SLURM_CONF": self.environment["SLURM_CONF"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"scontrol {' '.join(arguments)}: {ran.stderr}"
        return ran.stdout

    @contextlib.contextmanager
    def identity(self) -> Iterator[None]:
        """Inside, this process is the account (root only in its saved uid, which children do not keep)."""
        owner = pwd.getpwnam(self.login)
        before, groups = dict(os.environ), os.getgroups()
        os.setgroups([])
        os.setresgid(owner.pw_gid, owner.pw_gid, 0)
        os.setresuid(owner.pw_uid, owner.pw_uid, 0)
        try:
            os.environ.clear()
            os.environ.update(self.environment)
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
            os.setgroups(groups)

    # --- faults -------------------------------------------------------------------------------------------

    def signal_daemon(self, daemon: str, number: signal.Signals) -> None:
        """Send a signal to `slurmctld`, `slurmdbd` (by the pid files) or `sshd`."""
        folder = self.root / "run" if daemon == "sshd" else self.root / "run" / "slurm"
        os.kill(int((folder / f"{daemon}.pid").read_text()), number)

    @contextlib.contextmanager
    def frozen(self, daemon: str = "slurmctld") -> Iterator[None]:
        """Inside, the daemon is alive but answers nothing."""
        self.signal_daemon(daemon, signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal_daemon(daemon, signal.SIGCONT)

    @contextlib.contextmanager
    def killed(self, daemon: str) -> Iterator[None]:
        """Inside, the daemon is gone (kill -9); afterwards the lab is up again."""
        self.signal_daemon(daemon, signal.SIGKILL)
        try:
            yield
        finally:
            self.up()

    @contextlib.contextmanager
    def setting(self, name: str, value: str) -> Iterator[None]:
        """Inside, an option of slurm.conf that is there already has another value."""
        conf = self.root / "etc" / "slurm.conf"
        original = conf.read_text()
        lines = [f"{name}={value}" if line.startswith(f"{name}=") else line for line in original.splitlines()]
        assert lines != original.splitlines(), f"slurm.conf has no other {name}"
        conf.write_text("\n".join(lines) + "\n")
        try:
            self.scontrol("reconfigure")
            yield
        finally:
            conf.write_text(original)
            self.scontrol("reconfigure")


def _lab(root: Path, login: str, knobs: Mapping[str, str]) -> SlurmLab:
    if os.geteuid() != 0:
        pytest.skip("the Slurm lab needs root")
    if shutil.which("apt-get") is None:
        pytest.skip("the Slurm lab needs Debian or Ubuntu")
    lab = SlurmLab(root, login, knobs)
    lab.up()
    return lab


@pytest.fixture(scope="session")
def slurm_lab() -> SlurmLab:
    """The lab, up, with a Python for jobs. Others may be using it: leave it as it was, break nothing."""
    root = Path(os.environ.get("LAB", "/var/lib/l2l-slurm"))
    return _lab(root, os.environ.get("LAB_LOGIN", "l2l"), {})


@pytest.fixture(scope="session")
def slurm_fault_lab(slurm_lab: SlurmLab) -> Iterator[SlurmLab]:
    """A smaller lab of one's own (a lock keeps other test runs away): one node, impatient, no Python."""
    root = slurm_lab.root.with_name(slurm_lab.root.name + "-faults")
    with open(root.with_name(root.name + ".tests"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        knobs = {"LAB_NODES": "1", "LAB_PYTHON": "0", "LAB_TIMEOUT": "4"}
        lab = _lab(root, slurm_lab.login + "-faults", knobs)
        yield lab
        lab.down()


@pytest.fixture
def job_name() -> str:
    """A scheduler job name that nobody else has."""
    return f"l2l-test-{uuid.uuid4().hex[:8]}"
