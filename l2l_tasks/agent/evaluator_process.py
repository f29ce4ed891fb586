"""The worker's handle on one evaluator process: whatever the optimizee does, an Outcome comes out.

Nothing here blocks for long: the worker's event loop calls `pump` when a pipe has something to say and
`check` now and then. The evaluator leads a session of its own, so that it is ended together with all it has
started.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence

from . import files, results
from .evaluator import HEADER
from .outcome import Outcome, describe_exit, describe_size, failed, judge

TAIL_BYTES = 65536
_CHUNK = 65536
_DRAIN = 1 << 20
_MESSAGE_BYTES = 262144
"""Most bytes of a message of the evaluator itself: texts of 4000 + 16000 characters, up to 12 bytes each."""
_REAP_SECONDS = 10.0


class EvaluatorProcess:
    """One evaluator. Used up (`ended`) after the first failure, so that no attempt inherits a damaged
    process.

    Attributes:
        outcome: set when the attempt has come to its end; taken away by the next `begin`.
        cpu, elapsed: core-seconds and seconds of the attempt, loading not included, once `outcome` is set.
        mark: what it and all that it starts are known by.  held: bytes of memory when last looked at.
        ended: the process is gone; make another one.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        selector: selectors.BaseSelector,
        *,
        mark: str,
        objectives: int,
        limits: Mapping[str, int],
        start_timeout: float,
    ) -> None:
        """Start `argv` + [request descriptor, reply descriptor]. OSError when that is impossible."""
        self.outcome: Optional[Outcome] = None
        self.cpu = self.elapsed = 0.0
        self.ended = False
        self.mark, self.held = mark, 0
        self._objectives, self._limits = objectives, limits
        self._selector = selector
        self._id = 0
        self._ready = self._busy = False
        self._timeout: Optional[float] = None
        self._deadline: Optional[float] = time.monotonic() + start_timeout
        self._start_timeout = start_timeout
        self._cpu_before = 0.0
        self._outgoing = b""
        self._incoming = bytearray()
        self._head: Optional[Dict[str, Any]] = None
        self._tail = bytearray()
        self._start(argv, env)

    def _start(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        request_read, self._requests = os.pipe()
        self._replies, reply_write = os.pipe()
        self._since = 0.0
        try:
            self._process = subprocess.Popen(
                [*argv, str(request_read), str(reply_write)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(request_read, reply_write),
                env=dict(env),
                start_new_session=True,
            )
        except OSError:
            os.close(self._requests)
            os.close(self._replies)
            raise
        finally:
            os.close(request_read)
            os.close(reply_write)
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        for descriptor in (self._replies, self._output, self._requests):
            os.set_blocking(descriptor, False)
        self._selector.register(self._replies, selectors.EVENT_READ, self)
        self._selector.register(self._output, selectors.EVENT_READ, self)

    # --- an attempt -----------------------------------------------------------------------------------------

    def begin(self, request: Mapping[str, Any], timeout: Optional[float]) -> None:
        """Start an attempt that may run for `timeout` seconds (loading the optimizee does not count)."""
        self._id += 1
        self.outcome, self.elapsed = None, 0.0
        self._request, self._timeout, self._busy = dict(request), timeout, True
        if self._ready:
            self._tail.clear()
            self._send()

    def _send(self) -> None:
        self._since = time.monotonic()
        self._deadline = None if self._timeout is None else self._since + self._timeout
        if self._timeout is not None:
            self._request["deadline"] = time.time() + self._timeout
        data = files.to_json({"id": self._id, "request": self._request})
        self._outgoing = HEADER.pack(len(data)) + data
        self._write()

    def _write(self) -> None:
        """Write what the pipe takes; the rest when it has room again."""
        before = bool(self._outgoing)
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[os.write(self._requests, self._outgoing) :]
        except BlockingIOError:
            with contextlib.suppress(KeyError):  # registered already
                self._selector.get_key(self._requests)
                return
            self._selector.register(self._requests, selectors.EVENT_WRITE, self)
            return
        except BrokenPipeError:
            self._outgoing = b""  # it is dead or closed its end: `check` finds out
        if before:
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._requests)

    @property
    def is_used(self) -> bool:
        """Whether it had another attempt before this one, the effects of which may not be over."""
        return self._id > 1

    # --- the event loop's side ------------------------------------------------------------------------------

    def pump(self, descriptor: int) -> None:
        """Handle one event of a descriptor of this evaluator."""
        if self.ended:
            return
        if descriptor == self._requests:
            self._write()
        elif descriptor == self._output:
            self._read_output()
        elif not self._read_replies():
            self._selector.unregister(self._replies)  # end of file: `check` looks for the death

    def check(self) -> None:
        """Notice death and time-outs; sets `outcome` of a running attempt then."""
        if self.ended:
            return
        if self._is_dead():
            self._settle_death()
        elif self._deadline is not None and time.monotonic() > self._deadline:
            if self._ready:
                message = "the evaluation took longer than its %g s" % (self._timeout or 0.0)
                self.fail("timeout", message)
            else:
                self.fail("import", "the optimizee was not loaded within %g s" % self._start_timeout)

    def fail(self, kind: str, message: str, tail: Optional[str] = None, cpu: Optional[float] = None) -> None:
        """End the attempt as failed, and the process with it."""
        attempt = self._busy
        self._read_rest()
        text = self._text() if tail is None else tail
        self.kill()
        if attempt:
            self.cpu = max(0.0, (self._cpu_total if cpu is None else cpu) - self._cpu_before)
            self._end_attempt(failed(kind, message, text))

    def next_deadline(self) -> Optional[float]:
        """Monotonic time at which `check` has to be called at the latest; None: no need."""
        return None if self.ended else self._deadline

    def kill(self) -> None:
        """End the process with all it has started, and give up an attempt without an outcome."""
        if self.ended:
            return
        self.ended = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # Before the reaping, because until then nobody else can get this group id.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._reap()
        for descriptor in (self._replies, self._output, self._requests):
            with contextlib.suppress(KeyError):
                self._selector.unregister(descriptor)
        os.close(self._replies)
        os.close(self._requests)
        assert self._process.stdout is not None
        self._process.stdout.close()

    # --- inside ---------------------------------------------------------------------------------------------

    def _read_output(self) -> bool:
        """Keep the end of what the optimizee prints; False when there is no more (now, or ever)."""
        try:
            data = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._output)
            return False
        self._tail += data
        del self._tail[:-TAIL_BYTES]
        return True

    def _read_replies(self) -> bool:
        """Read what came and handle complete messages; False at the end of the file."""
        try:
            data = os.read(self._replies, _CHUNK)
        except BlockingIOError:
            return True
        self._incoming += data
        while not self.ended and len(self._incoming) >= HEADER.size:
            size = HEADER.unpack_from(self._incoming)[0]
            most = _MESSAGE_BYTES if self._head is None else self._limits["line_bytes"]
            if size > most:
                self.fail("too_large", "the reply has %d bytes, at most %d are allowed" % (size, most))
            elif len(self._incoming) < HEADER.size + size:
                break
            else:
                payload = bytes(self._incoming[HEADER.size : HEADER.size + size])
                del self._incoming[: HEADER.size + size]
                self._handle(payload)
        return bool(data)

    def _handle(self, payload: bytes) -> None:
        if self._head is not None:
            self._end_attempt(judge(payload, self._objectives, self._limits["depth"], self._text()))
            self._head = None
            return
        message = _message(payload)
        if message is None or (message["type"] != "ready" and message["id"] not in (None, self._id)):
            self.fail(
                "crash", "the evaluator sent something out of turn (did the optimizee write to its pipe?)"
            )
        elif message["type"] == "ready" and not self._ready:
            self._ready, self._deadline = True, None
            self._cpu_before = message["cpu"]
            if self._busy:
                self._send()
        elif message["type"] == "reply" and self._busy and self._ready:
            self.cpu = message["cpu"] - self._cpu_before
            self._cpu_before = message["cpu"]
            self._head = message
        elif message["type"] == "failed" and self._busy:
            self._read_rest()
            tail = "%s\n%s" % (self._text(), message["tail"])
            self.fail(message["kind"], message["message"], tail, message["cpu"])
        else:
            self.fail(
                "crash", "the evaluator sent something out of turn (did the optimizee write to its pipe?)"
            )

    def _end_attempt(self, outcome: Outcome) -> None:
        if self._ready:
            self.elapsed = time.monotonic() - self._since
        self._busy, self._deadline = False, None
        self.outcome = outcome
        if outcome.status == "failed":
            self.kill()

    def _settle_death(self) -> None:
        """It is dead: perhaps it replied before; else say how it ended."""
        for _ in range(_DRAIN // _CHUNK):
            if self.ended or not self._busy or not self._replies_waiting():
                break
        if self.ended:
            return
        self._read_rest()
        text = self._text()
        self.kill()
        if not self._busy:
            return
        self.cpu = max(0.0, self._cpu_total - self._cpu_before)
        when = "in the middle of the evaluation" if self._ready else "while the optimizee was being loaded"
        message = "the evaluator was %s %s" % (describe_exit(self._code), when)
        if self._code == -signal.SIGKILL:
            message += ": probably out of memory"
            if self.held:
                message += ", of which it held %s when last looked at" % describe_size(self.held)
            self._end_attempt(failed("killed", message, text))
        else:
            self._end_attempt(failed("crash" if self._ready else "import", message, text))

    def _replies_waiting(self) -> bool:
        before = len(self._incoming)
        return self._read_replies() and len(self._incoming) != before

    def _read_rest(self) -> None:
        for _ in range(_DRAIN // _CHUNK):
            if not self._read_output():
                break

    def _text(self) -> str:
        return bytes(self._tail).decode("utf-8", "replace")[-results.TAIL_CHARS :]

    def _is_dead(self) -> bool:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with contextlib.suppress(InterruptedError):
            return os.waitid(os.P_PID, self._process.pid, flags) is not None
        return False

    def _reap(self) -> None:
        """Collect the dead process. One that hangs in the kernel is left behind: the job's end removes it."""
        self._code, self._cpu_total = -int(signal.SIGKILL), self._cpu_before
        limit = time.monotonic() + _REAP_SECONDS
        while time.monotonic() < limit:
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._cpu_total = usage.ru_utime + usage.ru_stime
                # waitstatus_to_exitcode came with Python 3.9.
                self._code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                break
            time.sleep(0.002)
        self._process.returncode = self._code


def _message(payload: bytes) -> Optional[Dict[str, Any]]:
    """A message of the evaluator; None when it is not one, whoever wrote it."""
    try:
        message = results.load_json(payload, 4)
    except results.Rejected:
        return None
    shapes: Dict[str, List[str]] = {"ready": [], "reply": ["id"], "failed": ["id", "kind", "message", "tail"]}
    if not isinstance(message, dict) or message.get("type") not in shapes:
        return None
    right = results.is_number(message.get("cpu")) and all(key in message for key in shapes[message["type"]])
    if right and message["type"] == "failed":
        texts = (message["kind"], message["message"], message["tail"])
        right = all(isinstance(text, str) for text in texts) and message["kind"] in results.ERROR_KINDS
    return message if right else None
