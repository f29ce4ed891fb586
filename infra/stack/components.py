"""What runs under the supervisor. How each is started: launch.py."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass

STORE, SERVICES = "store", "services"  # supervisor groups; a group is stopped as one, the store last


@dataclass(frozen=True)
class Component:
    """One program of the stack.

    Attributes:
        name: also the name of its log file.
        group: STORE or SERVICES.
        stop_signal: asks it to end.
        stop_seconds: how long it may take to end before it is killed.
    """

    name: str
    group: str = SERVICES
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: int = 20

    @property
    def process_name(self) -> str:
        """Its name towards the supervisor."""
        return f"{self.group}:{self.name}"


COMPONENTS: Mapping[str, Component] = {
    component.name: component
    for component in (
        Component("postgres", STORE, signal.SIGINT, stop_seconds=60),
        Component("api-server"),
        Component("scheduler", stop_seconds=30),  # it lets running tasks finish; they are short
        Component("dag-processor"),
        Component("triggerer"),
        Component("mlflow"),
        Component("watchdog"),
    )
}
