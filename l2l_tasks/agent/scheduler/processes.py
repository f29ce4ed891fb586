"""Processes of this machine: which one is it, is it alive, and what did it start."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Dict, Iterable, List, Optional

_PROC = Path("/proc")
_SIZE = re.compile(r"^(\w+):\s+([0-9]+) kB$", re.MULTILINE)
_DEAD_STATES = "ZX"


def birth_mark(pid: int) -> Optional[str]:
    """A text that only this process will ever have under this pid; None when there is no such live process.

    Start time and boot on Linux, start time by `ps` elsewhere. A zombie counts as dead.
    """
    if (_PROC / "self" / "stat").exists():
        return _birth_mark_proc(pid)
    ps = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    ran = subprocess.run(ps, stdout=subprocess.PIPE, universal_newlines=True, check=False)
    shown = ran.stdout.split(None, 1)
    if len(shown) != 2 or shown[0][0] in _DEAD_STATES:
        return None
    return shown[1].strip()


def _birth_mark_proc(pid: int) -> Optional[str]:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # "pid (name) state ppid ... starttime": the name may itself hold blanks and brackets.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in _DEAD_STATES:
        return None
    boot = (_PROC / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
    return "%s/%s" % (boot, fields[19])


def alive(pid: int, mark: str) -> bool:
    """Whether the process that had this birth mark still runs."""
    return birth_mark(pid) == mark


def with_environment(name: str, value: str) -> List[int]:
    """Pids of our live processes started with `name=value` in the environment (Linux; elsewhere none)."""
    return by_environment(name).get(value, [])


def by_environment(name: str) -> Dict[str, List[int]]:
    """Pids of our live processes started with `name` in the environment, by its value (Linux; else none)."""
    beginning = os.fsencode(name) + b"="
    found: Dict[str, List[int]] = {}
    for entry in _PROC.glob("[0-9]*"):
        try:
            held = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # gone meanwhile, or somebody else's
            continue
        pid = int(entry.name)
        value = next((one[len(beginning) :] for one in held if one.startswith(beginning)), None)
        if value is not None and birth_mark(pid) is not None:
            found.setdefault(os.fsdecode(value), []).append(pid)
    return found


def resident(pid: int) -> int:
    """Bytes of memory that a process occupies, without what files hold as well; 0 when it is gone."""
    sizes = _sizes(pid, "status")
    return sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0)


def proportional(pid: int) -> int:
    """As `resident`, but its part only of what it shares with other processes; slow for a large process.

    An upper bound before Linux 5.3; 0 where nothing can be known.
    """
    sizes = _sizes(pid, "smaps_rollup")
    if "Pss_Anon" in sizes:
        return sizes["Pss_Anon"] + sizes.get("Pss_Shmem", 0)
    return min(sizes.get("Pss", 0), resident(pid))


def _sizes(pid: int, file: str) -> Dict[str, int]:
    """The sizes in bytes that a file of a process names."""
    try:
        text = (_PROC / str(pid) / file).read_text(errors="replace")
    except OSError:
        return {}
    return {name: int(number) * 1024 for name, number in _SIZE.findall(text)}


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process; those that are gone already are fine."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
