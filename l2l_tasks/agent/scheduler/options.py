"""Checks of a scheduler's configuration."""

from __future__ import annotations

from typing import AbstractSet, Any, Mapping, Optional

from .base import SchedulerError

RESOURCES = frozenset(
    {"kind", "partition", "account", "qos", "nodes", "tasks", "cpus", "gpus", "memory", "time", "extra"}
    | {"setup", "max_array_size", "max_submit"}
)
"""What a campaign or a site profile may say for any scheduler."""


def check_keys(config: Mapping[str, Any], kind: str, own: AbstractSet[str]) -> None:
    """Raise SchedulerError when `config` has a key that no scheduler understands."""
    allowed = RESOURCES | own
    unknown = sorted(set(config) - allowed)
    if unknown:
        names = (kind, ", ".join(unknown), ", ".join(sorted(allowed)))
        raise SchedulerError("scheduler %s: unknown option %s; known are %s" % names)


def positive(config: Mapping[str, Any], key: str) -> Optional[int]:
    """The option as an int >= 1, None when absent. Raises SchedulerError."""
    value = config.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SchedulerError("scheduler option %s: expected a whole number >= 1, got %r" % (key, value))
    return value
