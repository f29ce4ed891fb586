"""One request in, one reply out, between marks that no login message can imitate."""

from __future__ import annotations

import errno
import json
import re
import time
import traceback
from typing import Any, BinaryIO, Dict, Mapping

from . import commands, files
from .errors import AgentError

_TOKEN = re.compile(r"[0-9a-f]{8,64}")
ROOM_PATIENCE = 10.0
"""Seconds to wait for room on a full disk: an evaluation that filled it may be about to end."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PERMANENT = _FULL | {errno.EROFS, errno.EACCES, errno.EPERM}


def call(stdin: BinaryIO, stdout: BinaryIO) -> int:
    """Answer the request on `stdin`: `\\n<<<L2L {token}\\n{reply}\\n{token} L2L>>>\\n` on `stdout`.

    The exit status is 0 whenever a reply was written, also when it is an error; 2 when there was no request.
    """
    try:
        request = json.loads(stdin.read().decode("utf-8"))
        token = request["token"] if _TOKEN.fullmatch(request["token"]) else None
    except (ValueError, TypeError, KeyError):
        token = None
    if token is None:
        return 2
    reply = files.to_json(answer(request))
    stdout.write(b"\n<<<L2L %s\n%s\n%s L2L>>>\n" % (token.encode(), reply, token.encode()))
    stdout.flush()
    return 0


def answer(request: Mapping[str, Any]) -> Dict[str, Any]:
    """The reply to a request, whatever happens."""
    try:
        return {"ok": True, **_run(request)}
    except AgentError as error:
        return _error(error.kind, str(error))
    except OSError as error:
        kind = "permanent" if error.errno in _PERMANENT else "transient"
        return _error(kind, "%s: the file system of the site says: %s" % (request.get("command"), error))
    except Exception:
        return _error(
            "internal", "%s: fault of the agent:\n%s" % (request.get("command"), traceback.format_exc())
        )


def _run(request: Mapping[str, Any]) -> Dict[str, Any]:
    """Run the command, again where the disk is full: commands may be repeated."""
    limit = time.monotonic() + ROOM_PATIENCE
    while True:
        try:
            return commands.run(request)
        except OSError as error:
            if error.errno not in _FULL or time.monotonic() > limit:
                raise
        time.sleep(0.2)


def _error(kind: str, message: str) -> Dict[str, Any]:
    return {"ok": False, "error": {"kind": kind, "message": message}}
