"""The private folder in which the processes of this machine share the state of one connection."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l2l_tasks import settings
from l2l_tasks.errors import SitePermanentError

# A socket's path has at most 107 bytes, and ssh appends 17 while it makes the socket.
LONGEST_SOCKET_PATH = 88


def state_folder(endpoint: Mapping[str, Any]) -> Path:
    """The private folder of the shared state of `endpoint` (JSON); short enough for a socket `s` in it.

    Raises:
        SitePermanentError: the folder exists and others can write to it.
    """
    root = settings.home().expanduser().absolute()
    identity = json.dumps([str(root), dict(endpoint)], sort_keys=True)
    name = hashlib.sha256(identity.encode()).hexdigest()[:12]
    folder = root / "ssh" / name
    if len(str(folder / "s")) > LONGEST_SOCKET_PATH:
        folder = Path(f"/tmp/l2l-{os.getuid()}") / name
    return private_folder(folder)


def private_folder(folder: Path) -> Path:
    """Make `folder` (and its parent) for this user only.

    Raises:
        SitePermanentError: it belongs to somebody else or is open to others.
    """
    for path in (folder.parent, folder):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise SitePermanentError(
                f"{path} must be a folder of this user with mode 0700: it holds the sockets of open SSH "
                "connections. Remove it, or set L2L_HOME to a folder of your own"
            )
    return folder


def write_private(path: Path, text: str) -> None:
    """Write a private file, whole or not at all, unless it says so already."""
    try:
        if path.read_text() == text:
            return
    except FileNotFoundError:
        pass
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    os.replace(temporary, path)
