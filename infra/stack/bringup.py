"""Starting and stopping the stack. Both may be repeated at any time; both do only what is left to do."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from infra import postgres
from infra.stack import environment, health, ports, processes
from infra.stack.components import COMPONENTS, SERVICES
from infra.stack.launch import accepts, connect, settings_digest
from infra.stack.layout import REPOSITORY, Layout, write_private
from infra.stack.supervisor import Supervisor, render
from l2l_tasks.agent.scheduler.local import LocalScheduler
from l2l_tasks.errors import L2LError

Say = Callable[[str], None]
POSTGRES_PATIENCE = 60.0  # seconds
HEALTH_PATIENCE = 300.0


class StackError(L2LError):
    """The stack does not come up; the message has the end of the log that tells why."""


def up(layout: Layout, say: Say) -> None:
    """Start everything and return when everything is healthy.

    Raises:
        StackError, StoreError, SupervisorError: what failed, and where the log is.
    """
    layout.create()
    with _one_at_a_time(layout):
        supervisor = Supervisor(layout)
        _prepare(layout, supervisor, say)
        if not supervisor.alive():
            supervisor.start(environment.plain(layout, os.environ))
        supervisor.start_component(COMPONENTS["postgres"])
        _wait_for_postgres(layout)
        _migrate(layout, say)
        for component in COMPONENTS.values():
            if component.group == SERVICES:
                if _settings_changed(layout, component.name):
                    supervisor.stop_component(component)
                supervisor.start_component(component)
        _wait_for_health(layout, supervisor, say)


def down(layout: Layout, say: Say) -> None:
    """Stop everything: the stack, what a killed supervisor has left, the connections to sites, and the
    workers of the local site, which their campaign takes for cancelled and replaces after the next `up`."""
    if not layout.run.exists():
        return
    with _one_at_a_time(layout):
        supervisor = Supervisor(layout)
        if supervisor.alive():
            say("stopping Airflow, MLflow and PostgreSQL")
            supervisor.shutdown()
        for component in reversed(list(COMPONENTS.values())):
            if processes.end_recorded(layout.session(component.name), component.stop_signal):
                say(f"ended a {component.name} that no supervisor watched")
        _disconnect(layout)
        for register in layout.home.glob("*/local-scheduler"):
            jobs = LocalScheduler({"kind": "local"}, register.parent)
            for folder in register.iterdir():
                if folder.is_dir():
                    jobs.cancel(folder.name)


def _disconnect(layout: Layout) -> None:
    """End the shared SSH connections of this state folder; one that is gone already is no error."""
    for socket in layout.home.glob("ssh/*/s"):
        argv = ["ssh", "-F", str(socket.with_name("config")), "-S", str(socket), "-O", "exit", "site"]
        subprocess.run(argv, capture_output=True, timeout=20, check=False)


def clean(layout: Layout, say: Say) -> None:
    """Stop everything and remove the state: databases, artifacts, logs, passwords."""
    down(layout, say)
    if (layout.postgres / "cluster.json").exists():
        shutil.rmtree(postgres.load(layout.postgres).place)
    if layout.supervisor_socket.parent != layout.run:
        shutil.rmtree(layout.supervisor_socket.parent, ignore_errors=True)
    say(f"removing {layout.home}")
    shutil.rmtree(layout.home)
    link = REPOSITORY / ".l2l"
    if link.is_symlink() and not link.exists():
        link.unlink()


@contextmanager
def _one_at_a_time(layout: Layout) -> Iterator[None]:
    """Two at once would start two supervisors."""
    with open(layout.run / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prepare(layout: Layout, supervisor: Supervisor, say: Say) -> None:
    """Files and the empty database server; stops a supervisor that runs with another configuration."""
    config = render(layout)
    known = layout.supervisor_config.read_text() if layout.supervisor_config.exists() else None
    if supervisor.alive() and known != config:
        say("the supervisor's configuration has changed: restarting everything")
        supervisor.shutdown()
    write_private(layout.supervisor_config, config)
    if not (layout.postgres / "cluster.json").exists():
        say("creating the PostgreSQL server")
    postgres.init(layout.postgres)
    if not supervisor.alive():
        ports.choose(layout)
    environment.write_config_files(layout)
    environment.write_env_file(layout)


def _wait_for_postgres(layout: Layout) -> None:
    cluster = postgres.load(layout.postgres)
    deadline = time.monotonic() + POSTGRES_PATIENCE
    while not accepts(cluster, "l2l_app", "l2l"):
        if time.monotonic() > deadline:
            raise StackError(f"PostgreSQL does not accept connections\n{log_tail(layout.log('postgres'))}")
        time.sleep(0.1)


def _migrate(layout: Layout, say: Say) -> None:
    """Bring the tables of the campaigns and of Airflow to this version; MLflow does its own at its start."""
    from l2l_tasks.store.upgrade import upgrade

    cluster = postgres.load(layout.postgres)
    stamp = layout.airflow / "migrated"
    wanted = f"{_airflow_version()} {_airflow_revision(cluster)}"
    if stamp.exists() and stamp.read_text() == wanted:
        upgrade(cluster.owner_url)
        return
    say("creating or upgrading the tables of Airflow and of the campaigns")
    log = layout.log("migrate")
    with open(log, "ab") as output:
        migration = subprocess.Popen(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=environment.airflow(layout, os.environ),
            cwd=layout.run,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            upgrade(cluster.owner_url)
        finally:
            status = migration.wait()
    if status != 0:
        raise StackError(f"`airflow db migrate` failed (exit status {status})\n{log_tail(log)}")
    stamp.write_text(f"{_airflow_version()} {_airflow_revision(cluster)}")


def _airflow_version() -> str:
    from importlib.metadata import version

    return version("apache-airflow-core")


def _airflow_revision(cluster: postgres.Cluster) -> str | None:
    """What Airflow's tables say about themselves; None without tables."""
    connection = connect(cluster, "airflow", "airflow")
    try:
        cursor = connection.cursor()
        cursor.execute("SELECT to_regclass('alembic_version')")
        if cursor.fetchone() == (None,):
            return None
        cursor.execute("SELECT string_agg(version_num, ',') FROM alembic_version")
        row = cursor.fetchone()
        return None if row is None else str(row[0])
    finally:
        connection.close()


def _settings_changed(layout: Layout, name: str) -> bool:
    """Whether a service was started with other settings than it would be now (say, a new site)."""
    try:
        return layout.digest(name).read_text() != settings_digest(layout, name)
    except FileNotFoundError:
        return False


def _wait_for_health(layout: Layout, supervisor: Supervisor, say: Say) -> None:
    deadline = time.monotonic() + HEALTH_PATIENCE
    announced = False
    while ill := _not_started(layout, supervisor) | health.unhealthy(health.check(layout)):
        if not supervisor.alive():
            raise StackError(f"the supervisor has ended\n{log_tail(layout.supervisor_log)}")
        if time.monotonic() > deadline:
            reports = [f"{name}: {state}\n{log_tail(layout.log(name))}" for name, state in ill.items()]
            raise StackError("\n".join([f"not healthy after {HEALTH_PATIENCE:.0f} s", *reports]))
        if not announced:
            say("waiting until Airflow and MLflow are healthy (about half a minute)")
            announced = True
        time.sleep(0.5)


def _not_started(layout: Layout, supervisor: Supervisor) -> dict[str, str]:
    """Components that this supervisor's guards have not started yet, with why: a guard waits for the one of a
    killed supervisor, whose component's last sign of life still looks healthy to Airflow for a while."""
    states = supervisor.states()
    waiting = {}
    for name in COMPONENTS:
        guard, leader = states.get(name), processes.recorded(layout.session(name))
        if guard is None or leader is None or processes.parent(leader) != guard.pid:
            waiting[name] = "not started yet"
    return waiting


def log_tail(path: Path, lines: int = 15) -> str:
    """The end of a log for a message, with its path."""
    try:
        text = path.read_text(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return f"(no log {path})"
    return "\n".join([f"--- the end of {path}", *text])
