"""Where the local stack keeps its files: one state folder, everything private but the folder itself."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from l2l_tasks import settings
from l2l_tasks.errors import L2LError

REPOSITORY = settings.REPOSITORY
# A Unix socket's path may be 107 bytes long; supervisord binds to the name with its process id appended.
SOCKET_PATH_LIMIT = 90


@dataclass(frozen=True)
class Layout:
    """The files of the stack whose state folder is `home` (absolute)."""

    home: Path

    @classmethod
    def of_settings(cls) -> Layout:
        """The layout of `$L2L_HOME`, else of `.l2l` in the repository."""
        return cls(settings.home().resolve())

    @property
    def env(self) -> Path:
        """Settings for programs outside the stack, as `KEY=VALUE` lines."""
        return self.home / "env"

    @property
    def credentials(self) -> Path:
        return self.home / "credentials.json"

    @property
    def ports(self) -> Path:
        return self.home / "ports.json"

    @property
    def connections(self) -> Path:
        """Airflow connections of this machine's sites, as environment variables (JSON)."""
        return self.home / "connections.json"

    @property
    def airflow(self) -> Path:
        return self.home / "airflow"

    @property
    def mlflow(self) -> Path:
        return self.home / "mlflow"

    @property
    def postgres(self) -> Path:
        return self.home / "postgres"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def supervisor_config(self) -> Path:
        return self.run / "supervisord.conf"

    @property
    def supervisor_pid(self) -> Path:
        return self.run / "supervisord.pid"

    @property
    def supervisor_log(self) -> Path:
        return self.logs / "supervisord.log"

    @property
    def supervisor_socket(self) -> Path:
        """In the state folder unless its path is too long for a socket."""
        near = self.run / "supervisor.sock"
        if len(os.fsencode(near)) <= SOCKET_PATH_LIMIT:
            return near
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"l2l-{os.getuid()}-{digest}" / "supervisor.sock"

    def session(self, component: str) -> Path:
        """Which process session the component runs in (see guard.py)."""
        return self.run / f"{component}.session"

    def digest(self, component: str) -> Path:
        """Which settings the component was started with."""
        return self.run / f"{component}.digest"

    def log(self, component: str) -> Path:
        return self.logs / f"{component}.log"

    def create(self) -> None:
        """Make the folders: others (PostgreSQL's account) may enter the state folder, but not the rest."""
        self.home.mkdir(parents=True, exist_ok=True)
        for folder in (self.airflow, self.mlflow, self.logs, self.run, self.supervisor_socket.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.stat().st_uid != os.getuid():
                raise L2LError(f"{folder} belongs to another account: remove it, or set another L2L_HOME")
            folder.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` by a rename, readable by this account only from the first byte on."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
