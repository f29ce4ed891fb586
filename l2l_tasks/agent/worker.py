"""The worker: one array task that drains the pool of its campaign until there is no more work or no more
time.

One thread, one event loop, `slots` evaluators. It leaves the pool in order whenever it can: when told to
(STOP file, SIGTERM, SIGUSR1), when its time is up, when it has been idle for `linger` seconds. What it has
claimed and not finished goes back to todo/ then. When it cannot (SIGKILL, a fault of its own), reconciliation
finds its folder.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Deque, Dict, Mapping, Optional, Sequence, Tuple

from . import artifacts, checkpoints, files, identity, oversight, results
from .evaluator_process import EvaluatorProcess
from .outcome import Outcome, failed, finite
from .pool import Bundle, Pool, remove_tree
from .results import ResultLine, StartedLine, WorkerLine

IMPORT_TIMEOUT = 900.0
"""Seconds that an optimizee may take to load, unless campaign.json says "import_timeout"."""
WHOLE_LIFE = 0.9
"""An attempt that had this part of a worker's life and did not finish will not fit into any worker."""
_OF_MEMORY = ("memory", "killed")
_FIRST_PAUSE, _LONGEST_PAUSE, _TICK = 0.02, 1.0, 1.0


@dataclass
class Claimed:
    """A bundle that we hold, and its evaluations that have no final line yet, by key."""

    bundle: Bundle
    left: Dict[str, Dict[str, Any]]


@dataclass
class Slot:
    """A place for one evaluator and the attempt that it runs."""

    number: int
    evaluator: Optional[EvaluatorProcess] = None
    claimed: Optional[Claimed] = None
    evaluation: Dict[str, Any] = field(default_factory=dict)
    begun: float = 0.0
    scratch: Path = Path()

    @property
    def busy(self) -> bool:
        return self.claimed is not None


class Worker:
    """A worker of the campaign in `folder`; `program` is the command line that runs the agent's commands."""

    def __init__(self, folder: Path, program: Sequence[str]) -> None:
        self.folder, self._program = folder, list(program)
        self.campaign = files.read_json(folder / "campaign.json")
        self.pool = Pool(folder)
        self.me = identity.take(identity.of_environment(os.environ), self.pool, folder / "results")
        self._writer = files.LineWriter(folder / "results" / (self.me.worker + ".ndjson"))
        log = folder / "logs" / (self.me.worker + ".log")  # held for life; exceptions speak every language
        self._log_file = open(log, "a", encoding="utf-8", errors="replace")  # noqa: SIM115
        memory = oversight.allocated(os.environ, self.campaign["scheduler"])
        self._oversight = oversight.Oversight("%s/%s" % (folder, self.me.worker), memory)
        self._host = socket.gethostname()[:255]
        self._selector = selectors.DefaultSelector()
        self.slots = [Slot(n) for n in range(int(self.campaign["slots"]))]
        self._held: Dict[str, Claimed] = {}
        self._queue: Deque[Tuple[Claimed, Dict[str, Any]]] = deque()
        self._born = self._idle_since = time.monotonic()
        self._ends = self._born + self._lifetime()
        self._longest = 0.0
        self._draining: Optional[str] = None
        self._signal: Optional[str] = None
        self._next_look = self._next_tick = 0.0
        self._pause = _FIRST_PAUSE

    def _lifetime(self) -> float:
        """Seconds until we hand back, from the campaign's walltime or what Slurm says is left of it."""
        walltime = self.campaign.get("walltime")
        end = os.environ.get("SLURM_JOB_END_TIME", "")
        lives = [float(walltime)] if walltime else []
        if end.isdigit():
            lives.append(int(end) - time.time())
        return max(0.0, min(lives) - float(self.campaign.get("margin") or 0.0)) if lives else float("inf")

    # --- life -----------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until a reason to leave comes up; the exit status (0: left in good order)."""
        self._listen_to_signals()
        self._worker_line("start", None)
        try:
            reason = self._loop()
            self._leave(reason)
        except OSError as error:
            # Results cannot be written: nothing is to blame on the evaluations, so all of them go back.
            self._log("cannot go on: %s" % error)
            self._leave("failed: %s" % error)
            return 1
        except Exception:
            # A fault of ours: the folder stays, so that what we were doing is counted against it.
            self._log(traceback.format_exc())
            self._kill_all()
            return 70
        return 0

    def _loop(self) -> str:
        while True:
            reason = self._reason_to_leave()
            if reason is not None:
                return reason
            self._fill()
            if not any(slot.busy for slot in self.slots):
                if self._draining:
                    return self._draining
                if time.monotonic() - self._idle_since >= float(self.campaign["linger"]):
                    return "idle"
            for key, _ in self._selector.select(self._patience()):
                if key.data is not None:
                    key.data.pump(key.fd)
                else:
                    os.read(key.fd, 4096)
            self._oversight.look(slot.evaluator for slot in self.slots if slot.evaluator is not None)
            for slot in self.slots:
                if slot.evaluator is not None:
                    slot.evaluator.check()
                    if slot.busy and slot.evaluator.outcome is not None:
                        self._settle(slot, slot.evaluator, slot.evaluator.outcome)

    def _reason_to_leave(self) -> Optional[str]:
        now = time.monotonic()
        if self._signal is not None:
            return self._signal
        if now >= self._ends:
            return "walltime"
        if now >= self._next_tick:
            self._next_tick = now + _TICK
            if (self.folder / "STOP").exists():
                return "stopped"
            if not (self.pool.running / self.me.worker).is_dir():
                return "declared dead"
        return None

    def _patience(self) -> float:
        """Seconds until something has to be done although no descriptor is ready."""
        now = time.monotonic()
        times = [self._ends, self._next_tick]
        times += [
            t for s in self.slots if s.evaluator for t in [s.evaluator.next_deadline()] if t is not None
        ]
        busy = sum(slot.busy for slot in self.slots)
        if not self._draining and busy < len(self.slots):
            times.append(self._next_look)
        if not busy:
            times.append(self._idle_since + float(self.campaign["linger"]))
        return min(_TICK, max(0.0, min(times) - now) + 0.001)

    # --- work -----------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Give every idle slot something to do."""
        for slot in self.slots:
            if slot.busy or self._draining:
                continue
            if not self._queue and not self._claim():
                return
            claimed, evaluation = self._queue[0]
            if not self._fits(claimed.bundle.timeout):
                self._drain()
                return
            self._queue.popleft()
            self._begin(slot, claimed, evaluation)

    def _claim(self) -> bool:
        """Put another bundle into the queue; False when there is none, or when it is not yet time to look."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        bundle = self.pool.claim(self.me.worker)
        if bundle is None:
            self._next_look = now + self._pause
            self._pause = min(self._pause * 1.5, _LONGEST_PAUSE)
            return False
        self._look_again()
        claimed = Claimed(bundle, {e["key"]: dict(e) for e in bundle.evaluations})
        self._held[bundle.name] = claimed
        self._queue.extend((claimed, e) for e in claimed.left.values())
        return True

    def _look_again(self) -> None:
        self._pause, self._next_look = _FIRST_PAUSE, 0.0

    def _drain(self) -> None:
        """Begin nothing any more because the time is nearly up; others may have what we have not begun."""
        self._draining = "walltime"
        self._queue.clear()
        begun = {slot.claimed.bundle.name for slot in self.slots if slot.claimed is not None}
        for name in [name for name in self._held if name not in begun]:
            self._give_back(self._held.pop(name))

    def _fits(self, timeout: Optional[float]) -> bool:
        """Whether another evaluation would end in time: surely, or if it takes no longer than all so far."""
        remaining = self._ends - time.monotonic()
        return (timeout is not None and timeout <= remaining) or self._longest <= remaining

    def _begin(self, slot: Slot, claimed: Claimed, evaluation: Dict[str, Any]) -> None:
        slot.claimed, slot.evaluation, slot.begun = claimed, evaluation, time.monotonic()
        key, attempt = evaluation["key"], evaluation["attempt"]
        slot.scratch = self.folder / "scratch" / self.me.worker / ("%s-%d" % (key, attempt))
        slot.scratch.mkdir(parents=True, exist_ok=True)
        line = StartedLine(key, attempt, claimed.bundle.name, time.time())
        self._writer.append(results.build_line(line), durable=False)
        if slot.evaluator is None or slot.evaluator.ended:
            slot.evaluator = self._new_evaluator()
        request = {name: evaluation[name] for name in ("params", "task", "seed")}
        request.update(scratch=str(slot.scratch), deadline=None)
        request["artifacts"] = str(artifacts.prepare(slot.scratch))
        request.update(checkpoints.prepare(self.folder, key, evaluation.get("parent")))
        slot.evaluator.begin(request, claimed.bundle.timeout)

    def _new_evaluator(self) -> EvaluatorProcess:
        mark = self._oversight.mark()
        return EvaluatorProcess(
            [*self._program, "evaluate", str(self.folder)],
            {**os.environ, **self.campaign["env"], oversight.MARK: mark},
            self._selector,
            mark=mark,
            objectives=int(self.campaign["objectives"]),
            limits=self.campaign["limits"],
            start_timeout=float(self.campaign.get("import_timeout") or IMPORT_TIMEOUT),
        )

    def _settle(self, slot: Slot, evaluator: EvaluatorProcess, outcome: Outcome) -> None:
        """Write the line of a finished attempt; then the next attempt, or the slot is free."""
        claimed, evaluation = slot.claimed, slot.evaluation
        assert claimed is not None
        line, data = self._result(claimed, evaluation, evaluator, outcome)
        remove_tree(slot.scratch)  # before the line is written: it may have filled the disk
        artifacts.finish(self.folder, line.key, slot.scratch, keep=line.status == "ok")
        # Memory may have been taken by attempts before it: it is to blame if it fails on its own as well.
        counts = not (evaluator.is_used and line.error and line.error["kind"] in _OF_MEMORY)
        if counts:
            self._writer.append(data)
        if line.error is not None:
            self._log("%s attempt %d: %s" % (line.key, line.attempt, line.error))
        slot.claimed, self._idle_since = None, time.monotonic()
        self._longest = max(self._longest, evaluator.elapsed)
        self._look_again()
        if counts and line.final:
            checkpoints.finish(self.folder, line.key)
            del claimed.left[line.key]
            if not claimed.left:
                self._finish(claimed)
            return
        if counts:
            evaluation["attempt"] += 1
        if not self._draining and not self._fits(claimed.bundle.timeout):
            self._drain()
        if not self._draining:
            self._begin(slot, claimed, evaluation)

    def _finish(self, claimed: Claimed) -> None:
        del self._held[claimed.bundle.name]
        if not self.pool.finish(self.me.worker, claimed.bundle.name):
            self._log("bundle %s was taken from us" % claimed.bundle.name)

    def _result(
        self, claimed: Claimed, evaluation: Mapping[str, Any], evaluator: EvaluatorProcess, outcome: Outcome
    ) -> Tuple[ResultLine, bytes]:
        """The line of an attempt, or one that says that it is too long."""

        def made_of(outcome: Outcome) -> ResultLine:
            last = evaluation["attempt"] + 1 >= int(self.campaign["attempts"])
            return ResultLine(
                key=evaluation["key"],
                nonce=evaluation["nonce"],
                attempt=evaluation["attempt"],
                worker=self.me.worker,
                bundle=claimed.bundle.name,
                status=outcome.status,
                final=outcome.status != "failed" or last,
                fitness=outcome.fitness,
                metrics=outcome.metrics,
                curve=outcome.curve,
                started=ended - evaluator.elapsed,
                ended=ended,
                cpu=finite(evaluator.cpu),
                host=self._host,
                error=outcome.error,
            )

        ended = time.time()
        line = made_of(outcome)
        data, most = results.build_line(line), int(self.campaign["limits"]["line_bytes"])
        if len(data) > most:
            message = "the result line has %d bytes, at most %d are allowed" % (len(data), most)
            line = made_of(failed("too_large", message))
            data = results.build_line(line)
        return line, data

    # --- leaving --------------------------------------------------------------------------------------------

    def _leave(self, reason: str) -> None:
        """End the evaluators, hand back what is unfinished, sign off."""
        now = time.monotonic()
        self._draining = reason
        for slot in self.slots if reason == "walltime" else []:
            if slot.evaluator is not None and slot.busy and self._had_whole_life(slot, now):
                text = "the allocation ended, and nearly all of it (%.0f s) went into this: ask for more time"
                slot.evaluator.fail("timeout", text % (now - self._born))
                if slot.evaluator.outcome is not None:
                    self._settle(slot, slot.evaluator, slot.evaluator.outcome)
        self._kill_all()
        for claimed in self._held.values():
            self._give_back(claimed)
        with contextlib.suppress(OSError):  # a full disk; the line is for the records only
            self._worker_line("end", reason)
        remove_tree(self.folder / "scratch" / self.me.worker)
        self.pool.unregister(self.me.worker)
        self._log("left: %s" % reason)

    def _had_whole_life(self, slot: Slot, now: float) -> bool:
        """Without counting such an attempt as failed it would be repeated for ever."""
        life = now - self._born
        return now - slot.begun >= WHOLE_LIFE * life >= 0.5 * (self._ends - self._born)

    def _give_back(self, claimed: Claimed) -> None:
        old = claimed.bundle
        bundle = Bundle(old.name, old.generation, old.timeout, list(claimed.left.values()))
        if not self.pool.give_back(self.me.worker, bundle):
            self._log("bundle %s was taken from us" % old.name)

    def _kill_all(self) -> None:
        for slot in self.slots:
            if slot.evaluator is not None:
                slot.evaluator.kill()
        self._oversight.clear()

    # --- the rest -------------------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        """Signals set a flag and wake the event loop; SIGCHLD only wakes it."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self._wake = (ours, theirs)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._selector.register(ours.fileno(), selectors.EVENT_READ, None)
        reasons = {signal.SIGUSR1: "walltime", signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}

        def note(number: int, _frame: object) -> None:
            self._signal = self._signal or reasons.get(signal.Signals(number))

        for number in [*reasons, signal.SIGCHLD]:
            signal.signal(number, note)

    def _worker_line(self, event: str, reason: Optional[str]) -> None:
        reason = None if reason is None else results.clean_text(reason, results.MESSAGE_CHARS)
        cpus = identity.cores(os.environ, len(self.slots))
        me = self.me
        line = WorkerLine(
            event, me.worker, me.job, me.index, me.restart, self._host, cpus, time.time(), reason
        )
        self._writer.append(results.build_line(line))

    def _log(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._log_file.write("%s %s\n" % (time.strftime("%Y-%m-%d %H:%M:%S"), text))
            self._log_file.flush()
