"""Becomes one component: `python -m infra.stack.launch NAME`, called by its guard.

Reads the secrets, waits for PostgreSQL, and then replaces itself, so that secrets reach the component in its
environment and are on no command line.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping

import psycopg2

from infra import postgres
from infra.stack import environment, ports
from infra.stack.layout import REPOSITORY, Layout

# Module and arguments. Task logs are read from the disk, not served.
AIRFLOW = {
    "api-server": ["airflow", "api-server"],
    "scheduler": ["infra.stack.scheduler", "--skip-serve-logs"],
    "dag-processor": ["airflow", "dag-processor"],
    "triggerer": ["airflow", "triggerer", "--skip-serve-logs"],
}
CODE = ("dags", "l2l_tasks", "optimizees", "optimizers")  # what running components have imported


def command(layout: Layout, name: str, inherited: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Command line (no secrets) and whole environment of the component.

    Args:
        inherited: the environment of the person who started the stack.
    """
    if name == "postgres":
        return postgres.command(postgres.load(layout.postgres)), environment.plain(layout, inherited)
    if name == "watchdog":
        return [sys.executable, "-m", "infra.stack.watchdog"], environment.plain(layout, inherited)
    if name == "mlflow":
        argv = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        argv += ["--port", str(ports.load(layout).mlflow), "--workers", "1", "--app-name", "basic-auth"]
        return argv, environment.mlflow(layout, inherited)
    return [sys.executable, "-m", *AIRFLOW[name]], environment.airflow(layout, inherited)


def settings_digest(layout: Layout, name: str) -> str:
    """What the component is started with, but for the person's shell: another value asks for a restart.

    The scheduler and the triggerer also depend on this project's code, which they keep imported.
    """
    argv, values = command(layout, name, {})
    digest = hashlib.sha256(json.dumps([argv, sorted(values.items())]).encode())
    if name in ("scheduler", "triggerer"):
        for path in sorted(path for folder in CODE for path in (REPOSITORY / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def accepts(cluster: postgres.Cluster, role: str, database: str) -> bool:
    """Whether PostgreSQL accepts this role's connection."""
    try:
        connect(cluster, role, database).close()
    except psycopg2.OperationalError:
        return False
    return True


def connect(cluster: postgres.Cluster, role: str, database: str) -> psycopg2.extensions.connection:
    """A plain connection."""
    return psycopg2.connect(
        host="127.0.0.1",
        port=cluster.port,
        user=role,
        password=cluster.passwords[role],
        dbname=database,
        connect_timeout=5,
    )


def _wait_for_database(layout: Layout, name: str) -> None:
    role = "mlflow" if name == "mlflow" else "airflow"
    cluster = postgres.load(layout.postgres)
    announced = False
    while not accepts(cluster, role, role):
        if not announced:
            print(f"{time.strftime('%F %T')} {name}: waiting for PostgreSQL", flush=True)
            announced = True
        time.sleep(0.5)


def main() -> None:
    """Become the component named on the command line."""
    layout, name = Layout.of_settings(), sys.argv[1]
    if name not in ("postgres", "watchdog"):
        _wait_for_database(layout, name)
    argv, values = command(layout, name, os.environ)
    layout.digest(name).write_text(settings_digest(layout, name))
    os.execve(argv[0], argv, values)


if __name__ == "__main__":
    main()
