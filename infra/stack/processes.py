"""Process sessions on Linux: who belongs to one, and ending all of it.

A component of the stack runs in a session of its own. Airflow's task processes make process groups of their
own but stay in the session, so the session is what has to be ended; workers of the local site leave it on
purpose.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from infra.stack.layout import write_private

PROC = Path("/proc")


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the state (field 3 of proc(5)) on; None: no process, or a zombie."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return None if fields[0] == "Z" else fields


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks after boot; None: no such process, or a zombie."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def parent(pid: int) -> int | None:
    """The parent of a process; None: no such process, or a zombie."""
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def members(session: int) -> list[int]:
    """Processes (no zombies) of the session."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None and int(fields[3]) == session:
                found.append(int(entry.name))
    return found


def end_session(session: int, patience: float = 10.0) -> list[int]:
    """SIGKILL every process of the session; returns those that are still there after `patience` seconds."""
    deadline = time.monotonic() + patience
    while (left := members(session)) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.05)
    return left


def record(path: Path, session: int) -> None:
    """Remember the session, so that a later guard can end what a killed guard has left."""
    write_private(path, json.dumps({"session": session, "started": start_time(session), "boot": _boot()}))


def recorded(path: Path) -> int | None:
    """The session remembered in `path`; None when there is none."""
    known = _known(path)
    return None if known is None else int(known["session"])


def end_recorded(path: Path, gentle: signal.Signals, patience: float = 15.0) -> bool:
    """End the session remembered in `path`, if it still runs: `gentle` to its leader, later SIGKILL to all.

    The kernel does not reuse a session's number while a member lives. The number may belong to a stranger
    once all are gone: that is told by the boot and by the start time of the leader.

    Returns:
        whether there was anything to end.
    """
    known = _known(path)
    if known is None:
        return False
    session = int(known["session"])
    leader = start_time(session)
    if known["boot"] != _boot() or leader not in (None, known["started"]) or not members(session):
        path.unlink(missing_ok=True)
        return False
    if leader is not None:
        os.kill(session, gentle)
        deadline = time.monotonic() + patience
        while start_time(session) is not None and time.monotonic() < deadline:
            time.sleep(0.1)
    end_session(session)
    path.unlink(missing_ok=True)
    return True


def _known(path: Path) -> dict[str, Any] | None:
    """What `record` wrote into `path`; None when there is nothing, or nothing of ours."""
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError):
        return None


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
