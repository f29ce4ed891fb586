"""The evaluator: a process that holds one optimizee and evaluates one request after the other.

It trusts nothing about the optimizee: what that prints goes into a pipe of its own, and replies go through a
file descriptor that no child of the optimizee inherits. Messages in both directions: 4 bytes of length
(big-endian), JSON.

    to us     {"id", "request": {"params", "task", "seed", "scratch", "deadline", "checkpoint", "inherited"}}
    from us   {"type": "ready", "cpu"} once the optimizee is loaded (else "failed", kind "import")
              {"type": "reply", "id", "cpu"} followed by a second message: what evaluate_json returned
              {"type": "failed", "id", "cpu", "kind", "message", "tail"}
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import resource
import signal
import struct
import sys
import traceback
from pathlib import Path
from typing import Any, ClassVar, Dict, Mapping, Optional

from . import files

HEADER = struct.Struct(">I")
_TAIL = 16000
_PR_SET_PDEATHSIG = 1


def main(folder: Path, requests: int, replies: int) -> int:
    """Serve the campaign in `folder` until the descriptor `requests` is closed."""
    link = _Link(requests, replies)
    _prepare()
    streams = _Streams()
    campaign = files.read_json(folder / "campaign.json")
    try:
        optimizee = _load(folder.parent.parent / "code" / str(campaign["code"]), campaign)
    except BaseException as error:
        link.send({"type": "failed", "id": None, "cpu": _cpu(), "kind": "import", **_explain(error)})
        return 0
    link.send({"type": "ready", "cpu": _cpu()})
    cap = int(campaign["limits"]["line_bytes"])
    while True:
        message = link.receive()
        if message is None:
            return 0
        _serve(link, optimizee, message, cap, folder)
        streams.restore()


def _serve(link: _Link, optimizee: Any, message: Mapping[str, Any], cap: int, home: Path) -> None:
    own = os.getpid()
    payload = b""
    try:
        try:
            # What it writes beside itself must neither stay nor meet the campaign's own files.
            os.chdir(message["request"]["scratch"])
            value = optimizee.evaluate_json(message["request"])
        except BaseException as error:  # SystemExit too: the optimizee must not end us in silence
            failure: Optional[Dict[str, Any]] = {"kind": "exception", **_explain(error)}
        else:
            payload, failure = _encode(value, cap)
    finally:
        if os.getpid() != own:  # the optimizee forked and its child came back here
            os._exit(0)
    with contextlib.suppress(OSError):
        os.chdir(home)  # the scratch folder is removed now, wherever the optimizee has gone to
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    head = {"id": message["id"], "cpu": _cpu()}
    if failure is not None:
        link.send({"type": "failed", **head, **failure})
    else:
        link.send({"type": "reply", **head}, payload)


def _encode(value: Any, cap: int) -> Any:
    """The reply as bytes, or why it cannot be sent."""
    try:
        payload = json.dumps(value, separators=(",", ":")).encode("ascii")
    except RecursionError:
        return b"", {"kind": "too_deep", "message": "the reply is nested too deep", "tail": ""}
    except Exception as error:
        text = "the reply cannot be written as JSON: %s" % _text(error)
        return b"", {"kind": "invalid", "message": text, "tail": ""}
    if len(payload) > cap:
        text = "the reply has %d bytes, at most %d are allowed" % (len(payload), cap)
        return b"", {"kind": "too_large", "message": text, "tail": ""}
    return payload, None


def _load(code: Path, campaign: Mapping[str, Any]) -> Any:
    if not code.is_dir():
        raise FileNotFoundError("the code of the campaign is not at the site: %s" % code)
    sys.path.insert(0, str(code))
    module, _, name = str(campaign["entry"]).partition(":")
    made = getattr(importlib.import_module(module), name)(**campaign["options"])
    if not callable(getattr(made, "evaluate_json", None)):
        raise TypeError("%s has no method evaluate_json" % campaign["entry"])
    return made


class _Streams:
    """Standard input, output and error as they are at first: an evaluation may close or redirect them."""

    _MODES: ClassVar[Dict[str, str]] = {"stdin": "r", "stdout": "w", "stderr": "w"}

    def __init__(self) -> None:
        self._kept = [os.dup(number) for number in range(len(self._MODES))]

    def restore(self) -> None:
        for number, (name, mode) in enumerate(self._MODES.items()):
            os.dup2(self._kept[number], number)
            first = getattr(sys, "__%s__" % name)
            if first.closed:
                first = open(number, mode, buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
                setattr(sys, "__%s__" % name, first)
            setattr(sys, name, first)


class _Link:
    def __init__(self, requests: int, replies: int) -> None:
        for descriptor in (requests, replies):
            os.set_inheritable(descriptor, False)
        self._requests, self._replies = requests, replies

    def receive(self) -> Optional[Mapping[str, Any]]:
        head = self._read(HEADER.size)
        if head is None:
            return None
        body = self._read(HEADER.unpack(head)[0])
        if body is None:
            return None
        message: Mapping[str, Any] = json.loads(body.decode("utf-8"))
        return message

    def send(self, message: Mapping[str, Any], payload: Optional[bytes] = None) -> None:
        data = json.dumps(message).encode("ascii")
        data = HEADER.pack(len(data)) + data
        if payload is not None:
            data += HEADER.pack(len(payload)) + payload
        while data:
            data = data[os.write(self._replies, data) :]

    def _read(self, size: int) -> Optional[bytes]:
        parts = []
        while size:
            part = os.read(self._requests, min(size, 1 << 20))
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _prepare() -> None:
    """Die with the worker, be the first victim when memory runs out, say where a crash happened."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as stream:
        stream.write("1000")
    parent = os.getppid()
    with contextlib.suppress(Exception):  # Linux only; elsewhere the closed pipe ends us after the evaluation
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def _cpu() -> float:
    """Core-seconds that this process and its finished children have used so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _explain(error: BaseException) -> Dict[str, str]:
    message = type(error).__name__
    text = _text(error)
    try:
        tail = "".join(traceback.format_exception(type(error), error, error.__traceback__))[-_TAIL:]
    except Exception:
        tail = ""
    return {"message": ("%s: %s" % (message, text) if text else message)[:4000], "tail": tail}


def _text(error: BaseException) -> str:
    """What the exception says; some cannot even say that."""
    try:
        return str(error)[:4000]
    except Exception:
        return "(its text cannot be made)"
