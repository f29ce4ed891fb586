"""Workers as detached processes of this machine: the scheduler of a laptop and of single servers.

Options: `max_workers` (default: number of CPUs), `setup` (shell lines before the worker). The resource
options of Slurm are accepted, so that one campaign file serves both; `memory` is what a worker's evaluators
may hold (oversight.py), the others mean nothing here.

Register: `work/local-scheduler/<job name>/<job>_<index>.json` says which process it is; `.exit` holds its
exit status, written by a small shell (the keeper) that stays above the worker; `.cancelled` marks one that
was cancelled.
Nothing but this folder is remembered, so any process may ask, also after a restart of everything.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from . import base, processes
from .base import Answer, Scheduler, Submission, WorkerState
from .options import check_keys, positive
from .script import script, setup_lines

CANCEL_GRACE = 5.0
"""Seconds between the polite signal and SIGKILL."""
KEEP_SECONDS = 7 * 86400.0
"""How long an ended worker stays in the register."""
TOKEN = "L2L_LOCAL_WORKER"
"""Environment variable that everything started by a worker inherits, so that it can be found."""

# The keeper waits for the word "go", which comes when it is in the register: if the submitting process dies
# before that, the pipe closes and nothing has run. It survives the signals that it passes on by being in
# the same process group, because it alone can tell how the worker ended.
_KEEPER = """
read -r go || exit 0
trap : TERM INT HUP USR1 USR2
bash "$1" </dev/null
code=$?
printf '%s\\n' "$code" >"$2.tmp" && mv -f "$2.tmp" "$2"
"""


class LocalScheduler(Scheduler):
    """Local processes under the contract of Scheduler."""

    def __init__(self, config: Mapping[str, Any], work: Path) -> None:
        check_keys(config, "local", {"max_workers"})
        self.max_workers = positive(config, "max_workers") or os.cpu_count() or 1
        self.setup = setup_lines(config)
        self.register = work / "local-scheduler"

    def job_script(self, campaign: Mapping[str, Any], folder: Path) -> str:
        return script([], self.setup, campaign, folder)

    def submit(self, job_name: str, n: int, folder: Path) -> Submission:
        with self._locked():
            self._prune()
            free = self.max_workers - sum(w.live for name in self._names() for w in self._states(name))
            count = max(0, min(n, free))
            if count == 0:
                busy = "all %d local workers of this machine are in use" % self.max_workers
                return Submission(base.REJECTED, message=busy, temporary=True)
            job = "L%d" % self._next_number()
            for index in range(count):
                self._start(job_name, job, index, folder)
        return Submission(base.SUBMITTED, job=job, count=count)

    def workers(self, job_names: Sequence[str]) -> Answer:
        return Answer(True, {name: self._states(name) for name in job_names})

    def ended(self, job_name: str, ids: Sequence[str]) -> Answer:
        wanted = set(ids)
        return Answer(True, {job_name: [w for w in self._states(job_name) if w.ended and w.job in wanted]})

    def cancel(self, job_name: str) -> bool:
        entries = [entry for entry in self._entries(job_name) if self._state(entry).live]
        for entry in entries:
            entry.with_suffix(".cancelled").touch()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(_read(entry)["pid"], signal.SIGTERM)
        deadline = time.monotonic() + CANCEL_GRACE
        while time.monotonic() < deadline and any(self._state(entry).live for entry in entries):
            time.sleep(0.05)
        for entry in entries:
            self._kill(entry)
        return True

    def limits(self) -> Dict[str, Any]:
        limits: Dict[str, Any] = {"kind": "local", "version": None, "partitions": {}}
        return dict(limits, max_array_size=self.max_workers, max_submit=self.max_workers)

    def check(self) -> List[str]:
        return [] if shutil.which("bash") else ["bash is not installed, workers cannot be started"]

    # --- the register -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.register.mkdir(parents=True, exist_ok=True)
        with open(self.register / "lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _names(self) -> List[str]:
        return [folder.name for folder in self.register.iterdir() if folder.is_dir()]

    def _entries(self, job_name: str) -> List[Path]:
        return sorted((self.register / job_name).glob("L*_*.json"))

    def _states(self, job_name: str) -> List[WorkerState]:
        found = []
        for entry in self._entries(job_name):
            with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
                found.append(self._state(entry))
        return found

    def _state(self, entry: Path) -> WorkerState:
        record = _read(entry)
        code = _exit_status(entry)
        if code is None and processes.alive(record["pid"], record["mark"]):
            return _worker(record, base.RUNNING, "running")
        if code is None:
            code = _exit_status(entry)  # it may have ended between the two looks
        if entry.with_suffix(".cancelled").exists():
            return _worker(record, base.CANCELLED, "cancelled")
        if code is None:
            return self._abandoned(entry, record)
        if code == 0:
            return _worker(record, base.COMPLETED, "exit 0")
        return _worker(record, base.FAILED, _exit_text(code))

    def _abandoned(self, entry: Path, record: Dict[str, Any]) -> WorkerState:
        """The keeper is gone without a word: the machine went down, or somebody killed it.

        What it left running is ended now, before anybody starts a replacement.
        """
        left = processes.with_environment(TOKEN, _token(entry))
        if left:
            processes.send(left, signal.SIGKILL)
            return _worker(record, base.RUNNING, "keeper lost, ending its processes")
        return _worker(record, base.NODE_FAIL, "keeper lost")

    def _kill(self, entry: Path) -> None:
        """SIGKILL to whatever is left of a worker (evaluators have process groups of their own)."""
        keeper = _read(entry)["pid"]
        own = [pid for pid in processes.with_environment(TOKEN, _token(entry)) if pid != keeper]
        processes.send(own, signal.SIGKILL)
        deadline = time.monotonic() + CANCEL_GRACE
        while self._state(entry).live and time.monotonic() < deadline:
            time.sleep(0.02)

    def _next_number(self) -> int:
        path = self.register / "counter"
        number = int(path.read_text()) + 1 if path.exists() else 0
        _replace(path, str(number))
        return number

    def _start(self, job_name: str, job: str, index: int, folder: Path) -> None:
        entry = self.register / job_name / ("%s_%d.json" % (job, index))
        entry.parent.mkdir(exist_ok=True)
        environment = dict(os.environ, L2L_JOB=job, L2L_INDEX=str(index))
        environment[TOKEN] = _token(entry)
        arguments = [str(folder / "job.sh"), str(entry.with_suffix(".exit"))]
        with open(folder / "logs" / ("local-%s_%d.out" % (job, index)), "ab") as log:
            keeper = subprocess.Popen(
                ["bash", "-c", _KEEPER, "l2l-keeper", *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=str(folder),
                env=environment,
                start_new_session=True,
            )
        mark = processes.birth_mark(keeper.pid)
        _replace(entry, json.dumps({"job": job, "index": index, "pid": keeper.pid, "mark": mark}))
        assert keeper.stdin is not None
        keeper.stdin.write(b"go\n")
        keeper.stdin.close()
        # It outlives us on purpose; without this, Python would warn about a child that still runs.
        keeper.returncode = 0

    def _prune(self) -> None:
        limit = time.time() - KEEP_SECONDS
        for name in self._names():
            for entry in self._entries(name):
                if entry.stat().st_mtime < limit and self._state(entry).ended:
                    for suffix in (".json", ".exit", ".cancelled"):
                        with contextlib.suppress(FileNotFoundError):
                            entry.with_suffix(suffix).unlink()
            with contextlib.suppress(OSError):  # not empty: still in use
                (self.register / name).rmdir()


def _token(entry: Path) -> str:
    return str(entry.absolute())


def _read(entry: Path) -> Dict[str, Any]:
    record: Dict[str, Any] = json.loads(entry.read_text())
    return record


def _exit_status(entry: Path) -> Optional[int]:
    try:
        return int(entry.with_suffix(".exit").read_text())
    except FileNotFoundError:
        return None


def _exit_text(code: int) -> str:
    """`exit 3`, or the name of the signal when the shell reports 128 + signal."""
    with contextlib.suppress(ValueError):
        return "killed by %s" % signal.Signals(code - 128).name
    return "exit %d" % code


def _worker(record: Mapping[str, Any], state: str, raw: str) -> WorkerState:
    return WorkerState(str(record["job"]), int(record["index"]), 0, state, raw)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(str(temporary), str(path))
