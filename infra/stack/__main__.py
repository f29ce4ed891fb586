"""`python -m infra.stack up|status|restart|down|clean`: the local stack's command line."""

from __future__ import annotations

import argparse
import sys
import time

from infra.stack import bringup, environment, health
from infra.stack import credentials as keys
from infra.stack.components import COMPONENTS
from infra.stack.layout import Layout
from infra.stack.supervisor import Supervisor
from l2l_tasks.errors import L2LError


def main() -> int:
    """Exit status 0 when it worked (status: when nothing is ill), else 1."""
    parser = argparse.ArgumentParser(prog="python -m infra.stack", description=__doc__)
    parser.add_argument("action", choices=["up", "status", "restart", "down", "clean"])
    parser.add_argument("component", nargs="?", choices=list(COMPONENTS), help="for restart")
    arguments = parser.parse_args()
    layout = Layout.of_settings()
    try:
        if arguments.action == "up":
            bringup.up(layout, say)
            show(layout)
        elif arguments.action == "status":
            return status(layout)
        elif arguments.action == "restart":
            restart(layout, arguments.component)
        elif arguments.action == "down":
            bringup.down(layout, say)
        else:
            bringup.clean(layout, say)
    except L2LError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    return 0


def say(text: str) -> None:
    print(f"{time.strftime('%T')} stack: {text}", flush=True)


def show(layout: Layout) -> None:
    """Where to look now, and how to sign in."""
    known, urls, user = keys.load_or_make(layout), environment.shared(layout), environment.ADMIN
    print(f"Airflow  {urls['L2L_AIRFLOW_URL']}  user {user}  password {known.airflow_password}")
    print(f"MLflow   {urls['L2L_MLFLOW_URL']}  user {user}  password {known.mlflow_password}")
    print(f"Logs     {layout.logs}")


def status(layout: Layout) -> int:
    """A line for each component; 0 when all are healthy, or when the stack is down."""
    states = Supervisor(layout).states()
    if not states:
        print("the stack is down (make up)")
        return 0
    report = health.check(layout)
    for name in COMPONENTS:
        state = states[name]
        print(f"{name:14} {state.state:10} {state.seconds:>8} s  {report.get(name, '')}")
    return 1 if health.unhealthy(report) else 0


def restart(layout: Layout, name: str | None) -> None:
    """Restart one component, or everything."""
    supervisor = Supervisor(layout)
    if name is None or not supervisor.alive():
        bringup.down(layout, say)
    else:
        supervisor.stop_component(COMPONENTS[name])
    bringup.up(layout, say)


if __name__ == "__main__":
    sys.exit(main())
