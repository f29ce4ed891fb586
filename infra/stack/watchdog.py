"""Restarts a component that runs but does not work: `python -m infra.stack.watchdog`, one of the components.

Once a day it removes the logs of Airflow's tasks that nobody has written to for months.

The supervisor sees only that processes exist. A scheduler that hangs, say on a lost connection, would halt
every campaign until somebody looks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from infra.stack import health
from infra.stack.components import COMPONENTS
from infra.stack.layout import Layout
from infra.stack.supervisor import Supervisor, SupervisorError

LOOK_EVERY = 10.0  # seconds
# Longer than a start takes on a busy machine, and than Airflow needs to miss a heartbeat.
PATIENCE = 240.0
DAY = 86400.0
KEEP_LOGS = 90 * DAY


@dataclass
class Patience:
    """Who has been ill for how long. A component is due for a restart after `seconds` without one healthy
    look, and then again after as long.

    PostgreSQL is never restarted for being slow. While it is ill, nobody else can be judged; the same holds
    for the components that only Airflow's API server can tell about, while that is ill.
    """

    seconds: float
    _since: dict[str, float] = field(default_factory=dict)

    def look(self, report: Mapping[str, str], now: float) -> list[str]:
        """Take in a report of health.check; returns the components to restart now."""
        ill = set(health.unhealthy(report)) - {"postgres"}
        if report.get("postgres") != "healthy":
            ill = set()
        elif "api-server" in ill:
            ill &= {"api-server", "mlflow"}
        self._since = {name: self._since.get(name, now) for name in ill}
        due = sorted(name for name, since in self._since.items() if now - since >= self.seconds)
        for name in due:
            self._since[name] = now
        return due


def look_after(layout: Layout, patience: Patience) -> list[str]:
    """Look once, and restart what is due; returns what that was."""
    supervisor = Supervisor(layout)
    report = health.check(layout)
    due = patience.look(report, time.monotonic())
    for name in due:
        _say(f"{name} is not healthy ({report[name]}): restarting it")
        try:
            supervisor.stop_component(COMPONENTS[name])
            supervisor.start_component(COMPONENTS[name])
        except SupervisorError as error:
            _say(str(error))
    return due


def forget_logs(folder: Path, before: float) -> None:
    """Remove files, and empty folders, below `folder` that were last written `before` (s since the epoch)."""
    for place, _, files in os.walk(folder, topdown=False):
        inside = Path(place)
        for path in (*(inside / name for name in files), *([inside] if inside != folder else [])):
            with suppress(OSError):  # a folder that is not empty, or something that is gone already
                if path.lstat().st_mtime < before:
                    path.rmdir() if path == inside else path.unlink()


def main() -> None:
    """Watch until told to stop."""
    layout, patience = Layout.of_settings(), Patience(PATIENCE)
    tidy_at = time.monotonic()
    while True:
        look_after(layout, patience)
        if time.monotonic() >= tidy_at:
            forget_logs(layout.logs / "airflow", time.time() - KEEP_LOGS)
            tidy_at = time.monotonic() + DAY
        time.sleep(LOOK_EVERY)


def _say(text: str) -> None:
    print(f"{time.strftime('%F %T')} watchdog: {text}", flush=True)


if __name__ == "__main__":
    main()
