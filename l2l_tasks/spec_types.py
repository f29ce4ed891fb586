"""The quantities of a campaign specification: durations, memory, cron schedules."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(d|h|min|m|s)\s*")
_CLOCK = re.compile(r"(?:([0-9]{1,4})-)?([0-9]{1,4}):([0-5][0-9]):([0-5][0-9])\Z")
_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([MGT])(?:i?B)?\Z", re.IGNORECASE)
_MEMORY_MIB = {"M": 1, "G": 1024, "T": 1024 * 1024}
LONGEST = 10 * 365 * 86400.0
LARGEST = 1024 * 1024 * 1024
LONGEST_METRIC_NAME = 200  # as in the agent

DURATION_HELP = "a duration such as 30m, 1h30m, 2d, 00:30:00 or a number of seconds"
MEMORY_HELP = "an amount of memory with its unit, such as 500M or 2G"


def parse_duration(value: Any) -> float:
    """Seconds of `30m`, `1h30m`, `00:30:00`, `1-00:00:00` or a plain number of seconds. Raises ValueError."""
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(f"expected {DURATION_HELP}, got {value!r}")
    if not 0 <= seconds <= LONGEST:
        raise ValueError(f"must be between 0 and ten years, got {value!r}")
    return seconds


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else None
    text = value.strip() if isinstance(value, str) else ""
    clock = _CLOCK.match(text)
    if clock:
        days, hours, minutes, seconds = (int(group or 0) for group in clock.groups())
        return days * 86400.0 + hours * 3600.0 + minutes * 60.0 + seconds
    parts = [match for match in _PART.finditer(text) if match]
    units = [_UNITS[part[2]] for part in parts]
    if not parts or "".join(part[0] for part in parts) != text or units != sorted(set(units), reverse=True):
        return None
    return math.fsum(float(part[1]) * unit for part, unit in zip(parts, units, strict=True))


def parse_memory(value: Any) -> int:
    """Whole MiB (rounded up) of `2G`, `500M`, `1.5 GiB`. A unit is required. Raises ValueError."""
    match = _MEMORY.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected {MEMORY_HELP}, got {value!r}")
    amount = math.ceil(float(match[1]) * _MEMORY_MIB[match[2].upper()])
    if not 1 <= amount <= LARGEST:
        raise ValueError(f"must be between 1M and {LARGEST // 1024**2}T, got {value!r}")
    return amount


def _plain_number(seconds: float) -> float | int:
    return int(seconds) if seconds == int(seconds) else seconds


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(_plain_number),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "description": DURATION_HELP}
    ),
]
"""Seconds; in JSON a number of seconds."""

Memory = Annotated[
    int,
    BeforeValidator(parse_memory),
    PlainSerializer(lambda mebibytes: f"{mebibytes}M"),
    WithJsonSchema(
        {"type": "string", "pattern": _MEMORY.pattern.replace("\\Z", "$"), "description": MEMORY_HELP}
    ),
]
"""MiB; in JSON a text such as "2048M"."""

MOST_OBSERVED = 10_000
AGGREGATES = ("mean", "median", "worst")
AGGREGATE_HELP = "mean, median, worst or {quantile: share of the evaluations that are at least as good}"
LIMITS_HELP = "{low: number, high: number}, or one of them"
FROM_CAMPAIGN_HELP = "the id or name of a campaign, or {campaign: id or name, limit: its best so many}"


def parse_limits(value: Any) -> dict[str, float]:
    """`low` and `high`, at least one of them. Raises ValueError."""
    known = isinstance(value, dict) and value and set(value) <= {"low", "high"}
    numbers = list(value.values()) if known else [None]
    if not all(_is_number(number) for number in numbers):
        raise ValueError(f"expected {LIMITS_HELP}, got {value!r}")
    found = {key: float(number) for key, number in value.items()}
    if found.get("low", -math.inf) > found.get("high", math.inf):
        raise ValueError(f"low must not be above high, got {value!r}")
    return found


def parse_from_campaign(value: Any) -> dict[str, Any]:
    """`{"campaign", "limit"}` from a name, or from a mapping with a name and a limit. Raises ValueError."""
    given = {"campaign": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or not {"campaign"} <= set(given) <= {"campaign", "limit"}:
        raise ValueError(f"expected {FROM_CAMPAIGN_HELP}, got {value!r}")
    name, limit = given["campaign"], given.get("limit", MOST_OBSERVED)
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise ValueError(f"the campaign must be an id or a name, got {name!r}")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_OBSERVED:
        raise ValueError(f"limit must be a whole number from 1 to {MOST_OBSERVED}, got {limit!r}")
    return {"campaign": name, "limit": limit}


def parse_aggregate(value: Any) -> str | dict[str, float]:
    """One of the words, or `{"quantile": share}` with 0 < share < 1. Raises ValueError."""
    if isinstance(value, str) and value in AGGREGATES:
        return value
    share = value.get("quantile") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(share, (int, float)) or not 0 < share < 1:  # true and false are neither in between
        raise ValueError(f"expected {AGGREGATE_HELP} (between 0 and 1), got {value!r}")
    return {"quantile": float(share)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


Limits = Annotated[
    dict[str, float],
    BeforeValidator(parse_limits),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"low": {"type": "number"}, "high": {"type": "number"}},
            "minProperties": 1,
            "additionalProperties": False,
            "description": LIMITS_HELP,
        }
    ),
]
"""`low` and `high`, or one of them."""

Aggregate = Annotated[
    str | dict[str, float],
    BeforeValidator(parse_aggregate),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(AGGREGATES)},
                {
                    "type": "object",
                    "properties": {
                        "quantile": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
                    },
                    "required": ["quantile"],
                    "additionalProperties": False,
                },
            ],
            "description": AGGREGATE_HELP,
        }
    ),
]
"""One of the words, or `{"quantile": share}`."""

FromCampaign = Annotated[
    dict[str, Any],
    BeforeValidator(parse_from_campaign),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {
                        "campaign": {"type": "string"},
                        "limit": {"type": "integer", "minimum": 1, "maximum": MOST_OBSERVED},
                    },
                    "required": ["campaign"],
                    "additionalProperties": False,
                },
            ],
            "description": FROM_CAMPAIGN_HELP,
        }
    ),
]
"""`campaign` and `limit`."""

_CRON_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    ("day of week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
CRON_PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@yearly")
_CRON_ITEM = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([0-9]{1,2}))?\Z")


def parse_cron(value: Any) -> Any:
    """A cron expression of five fields, or one of the presets, unchanged. Raises ValueError."""
    if not isinstance(value, str) or value in CRON_PRESETS:
        return value
    fields = value.split()
    if len(fields) != 5:
        raise ValueError(
            "expected five fields (minute hour day month weekday) or one of "
            f"{', '.join(CRON_PRESETS)}, got {value!r}"
        )
    for text, (name, low, high, words) in zip(fields, _CRON_FIELDS, strict=True):
        for item in text.lower().split(","):
            _check_cron_item(item, name, low, high, words)
    return value


def _check_cron_item(item: str, name: str, low: int, high: int, words: tuple[str, ...]) -> None:
    match = _CRON_ITEM.match(item)
    if match is None:
        raise ValueError(f"{name}: {item!r} is not cron (such as 5, 1-5, */10 or 1,15)")
    numbers = []
    for word in (match[1], match[2]):
        if word is None:
            continue
        number = words.index(word) + (low if name == "month" else 0) if word in words else None
        if number is None and word.isascii() and word.isdigit():
            number = int(word)
        if number is None or not low <= number <= high:
            raise ValueError(f"{name}: {word!r} must be {low} to {high}")
        numbers.append(number)
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        raise ValueError(f"{name}: the range {item!r} runs backwards")
    if match[3] is not None and int(match[3]) == 0:
        raise ValueError(f"{name}: the step of {item!r} must be at least 1")
