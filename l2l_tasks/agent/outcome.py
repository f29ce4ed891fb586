"""What became of one attempt: the judgement over an evaluator's reply, and its line in the results."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from . import results
from .results import Metric, is_number, make_error

_KEYS = {"status", "fitness", "metrics", "curve", "reason"}


@dataclass(frozen=True)
class Outcome:
    """The end of one attempt; see ResultLine for the fields."""

    status: str
    fitness: Optional[List[float]] = None
    metrics: Dict[str, Metric] = field(default_factory=dict)
    curve: List[float] = field(default_factory=list)
    error: Optional[Dict[str, str]] = None


def failed(kind: str, message: str, tail: str = "") -> Outcome:
    return Outcome("failed", error=make_error(kind, message, tail))


def judge(payload: bytes, objectives: int, depth: int, tail: str) -> Outcome:
    """The outcome of a reply that `evaluate_json` returned, as the JSON text that came back.

    Fitness must be right to the last number. Metrics that are not finite are left out and a curve ends before
    its first such value: a diverging diagnostic must not turn a sound evaluation into a failed one.
    """
    if results.depth_of(payload) > depth:
        return failed("too_deep", "the reply is nested more than %d deep" % depth, tail)
    try:
        reply = json.loads(payload.decode("utf-8"))
    except ValueError as error:
        return failed("invalid", "the reply is not JSON: %s" % error, tail)
    try:
        return _judge(reply, objectives)
    except _Invalid as invalid:
        return failed("invalid", str(invalid), tail)


class _Invalid(Exception):
    pass


def _judge(reply: Any, objectives: int) -> Outcome:
    if not isinstance(reply, dict):
        raise _Invalid("evaluate_json must return an object, got %.80r" % (reply,))
    status = reply.get("status")
    if status == "infeasible":
        reason = reply.get("reason")
        return Outcome(
            "infeasible", error=make_error("infeasible", reason if isinstance(reason, str) else "")
        )
    if status != "ok":
        raise _Invalid('the reply\'s status must be "ok" or "infeasible", got %.80r' % (status,))
    if set(reply) - _KEYS:
        raise _Invalid(
            "the reply has unknown entries: %.200s" % ", ".join(sorted(map(str, set(reply) - _KEYS)))
        )
    return Outcome("ok", _fitness(reply, objectives), _metrics(reply), _curve(reply))


def _fitness(reply: Mapping[str, Any], objectives: int) -> List[float]:
    if "fitness" not in reply:
        raise _Invalid("the reply has no fitness")
    fitness = reply["fitness"]
    if not isinstance(fitness, list):
        raise _Invalid("fitness must be a list of %d numbers, got %.80r" % (objectives, fitness))
    if len(fitness) != objectives:
        raise _Invalid("fitness must have %d numbers, one per objective, got %d" % (objectives, len(fitness)))
    for i, value in enumerate(fitness):
        if not is_number(value):
            raise _Invalid("fitness[%d] must be a finite number, got %.80r" % (i, value))
    return [float(value) for value in fitness]


def _metrics(reply: Mapping[str, Any]) -> Dict[str, Metric]:
    metrics = reply.get("metrics") or {}
    if not isinstance(metrics, dict) or len(metrics) > results.MOST_METRICS:
        raise _Invalid("metrics must be an object of at most %d numbers" % results.MOST_METRICS)
    made: Dict[str, Metric] = {}
    for name, value in metrics.items():
        clean = results.clean_text(name, results.NAME_CHARS)
        if not name or clean != name:
            raise _Invalid("metric name %.80r is empty, too long or holds forbidden characters" % name)
        numbers = value if isinstance(value, list) else [value]
        if not 0 < len(numbers) <= results.MOST_NUMBERS or not all(map(_is_numeric, numbers)):
            raise _Invalid("metric %s must be a number or a list of numbers, got %.80r" % (name, value))
        if all(map(is_number, numbers)):
            made[name] = [float(x) for x in numbers] if isinstance(value, list) else float(value)
    return made


def _curve(reply: Mapping[str, Any]) -> List[float]:
    curve = reply.get("curve") or []
    if not isinstance(curve, list) or len(curve) > results.MOST_NUMBERS:
        raise _Invalid("curve must be a list of at most %d numbers" % results.MOST_NUMBERS)
    made: List[float] = []
    for i, value in enumerate(curve):
        if not _is_numeric(value):
            raise _Invalid("curve[%d] must be a number, got %.80r" % (i, value))
        if not is_number(value):
            break
        made.append(float(value))
    return made


def _is_numeric(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def describe_exit(code: int) -> str:
    """The exit code as subprocess counts it (negative: signal), in words."""
    return "ended by %s" % _signal_name(-code) if code < 0 else "ended with exit status %d" % code


def describe_size(number: int) -> str:
    """Bytes in words: `12 MiB`, `3.4 GiB`."""
    return "%.0f MiB" % (number / 2**20) if number < 2**30 else "%.1f GiB" % (number / 2**30)


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number


def finite(value: float) -> float:
    """A duration for a result line: never negative (clocks step back), never NaN."""
    return max(0.0, value) if math.isfinite(value) else 0.0
