"""What a site is and can do, found out before a campaign starts there."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from . import files, scheduler

PYTHON_SECONDS = 90.0
"""Most that a Python may take, the set-up lines before it included."""
_OUTPUT_BYTES = 4000
_NOT_STARTED = (126, 127)  # exit statuses of a shell for a program that cannot be run, or is not there
_VERSION = "import sys; print('%d.%d.%d' % sys.version_info[:3]); sys.exit(sys.version_info < (3, 8))"


def probe(work: Path, request: Mapping[str, Any]) -> Dict[str, Any]:
    """Python, host, disk, locks and scheduler of this site.

    Args:
        request: {"python": of the workers, "write": whether to try the disk, "scheduler": config,
            "environments": {name: {"python", "setup": shell lines, "env", "check": Python statements}}}, all
            optional. The checks run at the same time, on this host, as a worker's Python is started.

    Returns:
        {"python_version" (ours), "host", "user", "disk_free_bytes", "writable", "locks_ok", "scheduler":
        limits, "environments": {name: {"status": exit status of the check, None when it took too long,
        "output": the end of what it printed}}, "problems": [what would keep a campaign from running here]}.
    """
    problems: List[str] = []
    writable, locks = _disk(work, problems) if request.get("write", True) else (None, None)
    config = request.get("scheduler") or {}
    limits = _scheduler(work, request.get("scheduler"), problems)
    login = config.get("kind") == "slurm"
    if request.get("python"):
        problems += _python(str(request["python"]), config.get("setup") or [], login)
    return {
        "python_version": "%d.%d.%d" % sys.version_info[:3],
        "host": socket.gethostname(),
        "user": _user(),
        "disk_free_bytes": shutil.disk_usage(str(work)).free,
        "writable": writable,
        "locks_ok": locks,
        "scheduler": limits,
        "environments": _environments(request.get("environments") or {}, login),
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


def _python(python: str, setup: Sequence[str], login: bool) -> List[str]:
    status, said = _run_python({"python": python, "setup": setup, "check": _VERSION}, login)
    if status is None or status in _NOT_STARTED:
        return ["the workers' Python %s does not start: %s" % (python, said[-500:])]
    if status:
        return ["the workers' Python %s is older than 3.8 or does not work: %s" % (python, said[-500:])]
    return []


def _environments(wanted: Mapping[str, Mapping[str, Any]], login: bool) -> Dict[str, Dict[str, Any]]:
    with ThreadPoolExecutor(max(1, len(wanted))) as pool:
        tried = {name: pool.submit(_run_python, one, login) for name, one in wanted.items()}
        ended = {name: one.result() for name, one in tried.items()}
    return {name: {"status": status, "output": said} for name, (status, said) in ended.items()}


def _run_python(one: Mapping[str, Any], login: bool) -> Tuple[Optional[int], str]:
    """Exit status (None: not in time) and output of Python statements, run as a worker's Python would be.

    Args:
        one: {"python", "setup": shell lines before it, "env": its variables, "check": statements}.
        login: start from the environment of a login, as Slurm does for jobs that are given none.
    """
    variables = ["%s=%s" % item for item in one.get("env", {}).items()]
    argv = ["env", *variables, os.path.expanduser(str(one["python"])), "-c", str(one["check"])]
    lines = [*one.get("setup", []), "exec " + " ".join(shlex.quote(part) for part in argv)]
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "output"), "w+b") as output:
        try:
            process = subprocess.Popen(
                ["bash", "-lc" if login else "-c", "\n".join(lines)],
                stdin=subprocess.DEVNULL,
                stdout=output,  # no pipe, which what the set-up leaves running would keep open
                stderr=subprocess.STDOUT,
                cwd=folder,  # simulators may write where they start
                start_new_session=True,
            )
        except OSError as error:
            return _NOT_STARTED[0], "bash: %s" % error
        try:
            status = process.wait(PYTHON_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None, "it took longer than %g s" % PYTHON_SECONDS
        output.seek(max(0, os.path.getsize(output.name) - _OUTPUT_BYTES))
        return status, output.read().decode(errors="replace").strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
