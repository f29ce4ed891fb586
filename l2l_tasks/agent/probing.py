"""What a site is and can do, found out before a campaign starts there."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from . import files, scheduler

_PYTHON_SECONDS = 60
_VERSION = "import sys; print('%d.%d.%d' % sys.version_info[:3]); sys.exit(sys.version_info < (3, 8))"


def probe(work: Path, request: Mapping[str, Any]) -> Dict[str, Any]:
    """Python, host, disk, locks and scheduler of this site.

    Args:
        request: {"python": of the workers, "write": whether to try the disk, "scheduler": config}, all
        optional.

    Returns:
        {"python_version" (ours), "host", "user", "disk_free_bytes", "writable", "locks_ok", "scheduler":
        limits, "problems": [what would keep a campaign from running here]}.
    """
    problems: List[str] = []
    writable, locks = _disk(work, problems) if request.get("write", True) else (None, None)
    limits = _scheduler(work, request.get("scheduler"), problems)
    if request.get("python"):
        problems += _python(str(request["python"]))
    return {
        "python_version": "%d.%d.%d" % sys.version_info[:3],
        "host": socket.gethostname(),
        "user": _user(),
        "disk_free_bytes": shutil.disk_usage(str(work)).free,
        "writable": writable,
        "locks_ok": locks,
        "scheduler": limits,
        "problems": problems,
    }


def _disk(work: Path, problems: List[str]) -> Any:
    trial = work / (".probe.%s.%d" % (socket.gethostname(), os.getpid()))
    locks = False
    try:
        files.write_atomic(trial, b"x" * 4096)
        try:
            with files.locked(trial, patience=1.0):
                locks = True
        except (files.LocksUnavailable, files.Busy) as error:
            problems.append("%s; use another file system as work folder" % error)
        trial.unlink()
    except OSError as error:
        problems.append("the work folder cannot be written: %s" % error)
        return False, locks
    return True, locks


def _scheduler(
    work: Path, config: Optional[Mapping[str, Any]], problems: List[str]
) -> Optional[Dict[str, Any]]:
    if config is None:
        return None
    try:
        asked = scheduler.make(config, work)
        problems += asked.check()
        return asked.limits()
    except scheduler.SchedulerUnavailable:
        raise
    except scheduler.SchedulerError as error:
        problems.append("scheduler options: %s" % error)
        return None


def _python(python: str) -> List[str]:
    try:
        ran = subprocess.run(
            [os.path.expanduser(python), "-c", _VERSION],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PYTHON_SECONDS,
            universal_newlines=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return ["the workers' Python %s does not start: %s" % (python, error)]
    if ran.returncode:
        return [
            "the workers' Python %s is older than 3.8 or does not work: %s"
            % (python, ran.stdout.strip()[-500:])
        ]
    return []


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
