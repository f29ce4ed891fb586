"""The lines that workers write: built at the site, parsed strictly by the controller.

A line is one JSON object in ASCII: `{"sum":"<16 hex>",` followed by the body without its opening brace. The
sum is the beginning of the SHA-256 of everything after that comma, so that a damaged line is never mistaken
for a result. Everything from a site is untrusted: sizes, depth, types and values are checked before anything
is used.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Tuple, Union

VERSION = 1
DEFAULT_LIMITS: Mapping[str, int] = {"line_bytes": 262144, "depth": 8}
ERROR_KINDS = frozenset(
    [
        "exception",
        "crash",
        "killed",
        "memory",
        "timeout",
        "invalid",
        "too_large",
        "too_deep",
        "import",
        "worker_lost",
        "infeasible",
    ]
)
"""What an error may be; "infeasible" goes with the status of that name and carries the reason."""

MESSAGE_CHARS = 2000
TAIL_CHARS = 16384
NAME_CHARS = 200
MOST_FITNESS = 1024
MOST_METRICS = 1024
MOST_NUMBERS = 100000  # of a curve, or of one metric
_MOST_DIGITS = 25
_FARTHEST = 2**53

_HEAD = re.compile(rb'\{"sum":"([0-9a-f]{16})",')
_KEY = re.compile(r"(0|-?[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,9})\.(0|[1-9][0-9]{0,9})")
_NONCE = re.compile(r"[0-9a-f]{16}")
_WORKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,127}")
_BUNDLE = re.compile(r"g[0-9]{5,10}-t?[0-9]{5,10}(-r[0-9a-z]{1,16})?")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


Metric = Union[float, List[float]]


class Rejected(ValueError):
    """A line that is not to be believed; the text says why."""


@dataclass(frozen=True)
class ResultLine:
    """One finished attempt of one evaluation.

    Attributes:
        key: `individual.task.repeat`; the individual is negative in tests on held-out tasks.
        nonce: of the evaluation.  attempt: from 0.
        status: "ok", "infeasible" or "failed".  final: no further attempt will be made here.
        fitness: one finite number per objective when ok, else None.
        metrics: by name a finite number, or a list of them.
        started, ended: s since the epoch.  cpu: core-seconds used.
        error: None when ok, else {"kind": one of ERROR_KINDS, "message", "tail": the last output}.
    """

    key: str
    nonce: str
    attempt: int
    worker: str
    bundle: str
    status: str
    final: bool
    fitness: Optional[List[float]]
    metrics: Dict[str, Metric]
    curve: List[float]
    started: float
    ended: float
    cpu: float
    host: str
    error: Optional[Dict[str, str]]


@dataclass(frozen=True)
class WorkerLine:
    """A worker began ("start") or ended in good order ("end"); `time` in s since the epoch."""

    event: str
    worker: str
    job: str
    index: int
    restart: int
    host: str
    cpus: int
    time: float
    reason: Optional[str]


@dataclass(frozen=True)
class StartedLine:
    """An attempt began; without a result after it, it was running when its worker died."""

    key: str
    attempt: int
    bundle: str
    time: float


Line = Union[ResultLine, WorkerLine, StartedLine]
_TYPES: Dict[str, Callable[..., Line]] = {"result": ResultLine, "worker": WorkerLine, "started": StartedLine}


def clean_text(text: str, most: int, keep_end: bool = False) -> str:
    """`text` cut to `most` characters, without what databases refuse (NUL, lone surrogates)."""
    if len(text) > most:
        text = text[-most:] if keep_end else text[: most - 1] + "…"
    return _NOT_STORABLE.sub("\ufffd", text)


def make_error(kind: str, message: str, tail: str = "") -> Dict[str, str]:
    """The `error` of a result line, within the caps. `kind` must be one of ERROR_KINDS."""
    if kind not in ERROR_KINDS:
        raise ValueError("unknown error kind %r" % kind)
    message = clean_text(message, MESSAGE_CHARS) or kind
    return {"kind": kind, "message": message, "tail": clean_text(tail, TAIL_CHARS, keep_end=True)}


def build_line(line: Line) -> bytes:
    """The bytes of a line, without newline. Raises Rejected for what the parser would refuse (size aside)."""
    kind = next(name for name, made in _TYPES.items() if made is type(line))
    body: Dict[str, Any] = {"v": VERSION, "type": kind}
    body.update(vars(line))
    _check(body)
    rest = json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii")[1:]
    return b'{"sum":"%s",%s' % (_sum(rest), rest)


def parse_line(data: bytes, limits: Mapping[str, int] = DEFAULT_LIMITS) -> Line:
    """The line in `data` (without newline).

    Args:
        limits: {"line_bytes": most bytes, "depth": most nesting}.

    Raises Rejected for anything that `build_line` would not have written.
    """
    if len(data) > limits["line_bytes"]:
        raise Rejected("line of %d bytes, at most %d are allowed" % (len(data), limits["line_bytes"]))
    head = _HEAD.match(data)
    if head is None:
        raise Rejected("line does not begin with a checksum")
    rest = data[head.end() :]
    if head.group(1) != _sum(rest):
        raise Rejected("checksum does not match: the line is torn or was changed")
    body = load_json(b"{" + rest, limits["depth"])
    if not isinstance(body, dict):
        raise Rejected("not an object")
    _check(body)
    version, kind = body.pop("v"), body.pop("type")
    line = _TYPES[kind](**body)
    if version != VERSION or build_line(line) != data:
        raise Rejected("not written as it should be")
    return line


def split_lines(data: bytes) -> Tuple[List[bytes], int]:
    """The complete lines of `data`, without empty ones, and how many bytes they take."""
    used = data.rfind(b"\n") + 1
    return [line for line in data[:used].split(b"\n") if line], used


def depth_of(data: bytes) -> int:
    """How deep JSON text is nested, without parsing it."""
    deepest = depth = 0
    for bracket in re.findall(rb"[\[\]{}]", _STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def load_json(data: bytes, depth: int) -> Any:
    """Strict ASCII JSON: no NaN, double keys or huge numbers, nested at most `depth`. Raises Rejected."""
    nested = depth_of(data)
    if nested > depth:
        raise Rejected("nested %d deep, at most %d is allowed" % (nested, depth))
    try:
        return json.loads(
            data.decode("ascii"),
            object_pairs_hook=_no_doubles,
            parse_int=_small_int,
            parse_constant=_no_constant,
        )
    except Rejected:
        raise
    except (ValueError, RecursionError) as error:
        raise Rejected("not JSON: %s" % error) from None


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number (true and false are not numbers)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= _FARTHEST if isinstance(value, int) else math.isfinite(value)


def _sum(rest: bytes) -> bytes:
    return hashlib.sha256(rest).hexdigest()[:16].encode("ascii")


def _no_doubles(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Rejected("a name occurs twice in an object")
    return made


def _small_int(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise Rejected("a number of %d digits" % len(text))
    return int(text)


def _no_constant(text: str) -> NoReturn:
    raise Rejected("%s is not allowed" % text)


# --- checks of the fields: each returns whether the value is all right --------------------------------------


def _text(most: int, least: int = 0) -> Callable[[object], bool]:
    return lambda v: isinstance(v, str) and least <= len(v) <= most and not _NOT_STORABLE.search(v)


def _matching(pattern: "re.Pattern[str]") -> Callable[[object], bool]:
    return lambda v: isinstance(v, str) and pattern.fullmatch(v) is not None


def _whole(v: object) -> bool:
    return isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 10**9


def _time(v: object) -> bool:
    return isinstance(v, float) and math.isfinite(v) and 0 <= v < 1e12


def _one_of(*allowed: str) -> Callable[[object], bool]:
    return lambda v: isinstance(v, str) and v in allowed


def _floats(most: int) -> Callable[[object], bool]:
    return lambda v: (
        isinstance(v, list) and len(v) <= most and all(type(x) is float and is_number(x) for x in v)
    )


def _fitness(v: object) -> bool:
    return v is None or (isinstance(v, list) and len(v) > 0 and _floats(MOST_FITNESS)(v))


def _metric(v: object) -> bool:
    return (type(v) is float and is_number(v)) or (v != [] and _floats(MOST_NUMBERS)(v))


def _metrics(v: object) -> bool:
    name = _text(NAME_CHARS, 1)
    return (
        isinstance(v, dict) and len(v) <= MOST_METRICS and all(name(k) and _metric(x) for k, x in v.items())
    )


def _error(v: object) -> bool:
    if v is None:
        return True
    return (
        isinstance(v, dict)
        and set(v) == {"kind", "message", "tail"}
        and _one_of(*ERROR_KINDS)(v["kind"])
        and _text(MESSAGE_CHARS, 1)(v["message"])
        and _text(TAIL_CHARS)(v["tail"])
    )


_FIELDS: Dict[str, Dict[str, Callable[[Any], bool]]] = {
    "result": {
        "key": _matching(_KEY),
        "nonce": _matching(_NONCE),
        "attempt": _whole,
        "worker": _matching(_WORKER),
        "bundle": _matching(_BUNDLE),
        "status": _one_of("ok", "infeasible", "failed"),
        "final": lambda v: isinstance(v, bool),
        "fitness": _fitness,
        "metrics": _metrics,
        "curve": _floats(MOST_NUMBERS),
        "started": _time,
        "ended": _time,
        "cpu": _time,
        "host": _text(255),
        "error": _error,
    },
    "worker": {
        "event": _one_of("start", "end"),
        "worker": _matching(_WORKER),
        "job": _text(64, 1),
        "index": _whole,
        "restart": _whole,
        "host": _text(255),
        "cpus": _whole,
        "time": _time,
        "reason": lambda v: v is None or _text(MESSAGE_CHARS)(v),
    },
    "started": {"key": _matching(_KEY), "attempt": _whole, "bundle": _matching(_BUNDLE), "time": _time},
}


def _check(body: Mapping[str, Any]) -> None:
    """Raise Rejected unless exactly the right fields are there and their values are right."""
    kind = body.get("type")
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None or type(body.get("v")) is not int:
        raise Rejected("unknown kind of line %.40r, version %.40r" % (kind, body.get("v")))
    if set(body) != set(fields) | {"v", "type"}:
        raise Rejected("%s line with other fields than expected" % kind)
    for name, right in fields.items():
        if not right(body[name]):
            raise Rejected("%s line: wrong %s: %.80r" % (kind, name, body[name]))
    if kind == "result":
        _check_agreement(body)


def _check_agreement(body: Mapping[str, Any]) -> None:
    status, error = body["status"], body["error"]
    if (status == "ok") != (body["fitness"] is not None) or (status == "ok") != (error is None):
        raise Rejected("result line: status %s does not agree with fitness or error" % status)
    if status != "ok" and (status == "infeasible") != (error["kind"] == "infeasible"):
        raise Rejected("result line: status %s with error kind %s" % (status, error["kind"]))
    if status != "failed" and not body["final"]:
        raise Rejected("result line: status %s must be final" % status)


is_key = _matching(_KEY)
is_nonce = _matching(_NONCE)
is_bundle_name = _matching(_BUNDLE)
is_worker_id = _matching(_WORKER)
