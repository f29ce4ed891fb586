"""The local stack as it runs: nobody but its owner gets in, and it comes back from every kill."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil
import psycopg2
import pytest
import requests

from infra import postgres as embedded
from infra.stack import bringup, environment, processes, watchdog
from infra.stack import credentials as keys
from infra.stack.components import COMPONENTS
from infra.stack.supervisor import Supervisor
from l2l_tasks.errors import AirflowError
from tests.support.stack import Stack, wait_for

pytestmark = pytest.mark.timeout(600)


def secrets_of(stack: Stack) -> list[str]:
    """Every password and key of the stack."""
    cluster = embedded.load(stack.layout.postgres)
    return [*keys.load_or_make(stack.layout).values(), *cluster.passwords.values()]


def stack_processes(stack: Stack) -> Iterator[psutil.Process]:
    """The supervisor and everything below it."""
    supervisor = psutil.Process(int(stack.layout.supervisor_pid.read_text()))
    yield supervisor
    yield from supervisor.children(recursive=True)


def files_of(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def wait_for_another_session(stack: Stack, name: str, old: int) -> None:
    file = stack.layout.session(name)
    complaint = f"{name} was not started anew"
    wait_for(lambda: file.exists() and stack.session(name) != old, 120, lambda: complaint)


def has_worked_since(stack: Stack, name: str, moment: datetime) -> bool:
    """Whether Airflow has a heartbeat of the component that is younger than `moment`."""
    try:
        beat = stack.airflow.get("monitor/health")[name][f"latest_{name}_heartbeat"]
    except AirflowError:  # the API server has lost its database for a moment
        return False
    return beat is not None and datetime.fromisoformat(beat) > moment


def test_every_file_with_a_secret_is_private(stack: Stack) -> None:
    """Passwords and keys: files of mode 0600 only, and never a log."""
    secrets = [secret.encode() for secret in secrets_of(stack)]
    holders = []
    for path in files_of(stack.home):
        data = path.read_bytes()
        if any(secret in data for secret in secrets):
            holders.append(path)
            assert path.stat().st_mode & 0o077 == 0, f"{path} can be read by others"
            assert not path.is_relative_to(stack.layout.logs), f"a secret is in the log {path}"
    assert stack.layout.env in holders
    assert stack.layout.credentials in holders


def test_no_secret_is_on_a_command_line(stack: Stack) -> None:
    """`ps` shows every account the command lines of all processes."""
    seen = 0
    for process in stack_processes(stack):
        try:
            line = Path(f"/proc/{process.pid}/cmdline").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        seen += 1
        assert not any(secret in line for secret in secrets_of(stack)), f"a secret is in: {line[:60]}..."
    assert seen > len(COMPONENTS)


def test_listens_on_loopback_only(stack: Stack) -> None:
    """No port can be reached from another machine."""
    addresses = set()
    for process in stack_processes(stack):
        try:
            found = process.net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        addresses |= {(c.laddr.ip, c.laddr.port) for c in found if c.status == psutil.CONN_LISTEN}
    assert len(addresses) >= 3, "PostgreSQL, Airflow and MLflow listen"
    assert {ip for ip, _ in addresses} == {"127.0.0.1"}


def test_asks_for_a_password(stack: Stack) -> None:
    """PostgreSQL, Airflow and MLflow are closed to other accounts of this machine."""
    anonymous = requests.get(f"{stack.mlflow_url}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=30)
    assert anonymous.status_code == 401
    known = requests.get(anonymous.url, auth=stack.mlflow_account, timeout=30)
    assert known.status_code == 200
    assert requests.get(f"{stack.airflow.url}/api/v2/dags", timeout=30).status_code == 401
    assert "dags" in stack.airflow.get("dags")
    cluster = embedded.load(stack.layout.postgres)
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(host="127.0.0.1", port=cluster.port, user="l2l_app", dbname="l2l", password="wrong")


def test_supervisor_socket_is_private(stack: Stack) -> None:
    """Who reaches the supervisor's socket runs programs as the owner."""
    socket = stack.layout.supervisor_socket
    assert socket.stat().st_mode & 0o077 == 0
    assert socket.parent.stat().st_mode & 0o077 == 0


def test_up_again_changes_nothing(stack: Stack) -> None:
    """`make up` on a healthy stack restarts nothing."""
    before = {name: stack.session(name) for name in COMPONENTS}
    bringup.up(stack.layout, lambda _text: None)
    assert {name: stack.session(name) for name in COMPONENTS} == before


def test_comes_back_from_kills_without_orphans(stack: Stack) -> None:
    """SIGKILL to the scheduler (whose idle executor workers would live on for ever, deaf to SIGTERM), to the
    guard of the triggerer, and to PostgreSQL, which makes other components end as well."""
    stack.wait_until_healthy()
    old = {name: stack.session(name) for name in COMPONENTS}
    assert len(processes.members(old["scheduler"])) > 2, "the scheduler has forked workers"
    guard = Supervisor(stack.layout).states()["triggerer"].pid
    for pid in (old["scheduler"], guard, old["postgres"]):
        os.kill(pid, signal.SIGKILL)
    killed = datetime.now(UTC)
    for name in ("scheduler", "triggerer", "postgres"):
        wait_for_another_session(stack, name, old[name])
        assert processes.members(old[name]) == [], f"the killed {name} has left processes"
    for name in ("scheduler", "triggerer"):
        wait_for(partial(has_worked_since, stack, name, killed), 180, partial(str, f"{name} does not work"))
    stack.wait_until_healthy()
    for name in COMPONENTS:
        leaders = [p for p in stack_processes(stack) if p.pid == stack.session(name)]
        assert len(leaders) == 1, f"{name} does not run exactly once"


def test_a_killed_supervisor_leaves_nothing_behind(stack: Stack) -> None:
    """`make up` after it starts everything once, while the guards of the killed one still end theirs."""
    old = {name: stack.session(name) for name in COMPONENTS}
    os.kill(int(stack.layout.supervisor_pid.read_text()), signal.SIGKILL)
    bringup.up(stack.layout, lambda _text: None)
    for name, session in old.items():
        assert stack.session(name) != session
        assert processes.members(session) == [], f"the {name} of the killed supervisor still runs"
    stack.wait_until_healthy()


def test_a_component_that_hangs_is_restarted(stack: Stack) -> None:
    """MLflow's processes exist but answer nothing, not even SIGTERM; healthy components are left alone."""
    stack.wait_until_healthy()
    old = {name: stack.session(name) for name in COMPONENTS}
    for pid in processes.members(old["mlflow"]):
        os.kill(pid, signal.SIGSTOP)
    assert watchdog.look_after(stack.layout, watchdog.Patience(0.0)) == ["mlflow"]
    assert processes.members(old["mlflow"]) == []
    stack.wait_until_healthy()
    changed = [name for name in COMPONENTS if stack.session(name) != old[name]]
    assert changed == ["mlflow"]


def test_own_lines_of_the_env_file_stay(stack: Stack) -> None:
    """A person's connections to sites survive the next `make up`; what the stack manages is set anew."""
    written = stack.layout.env.read_text()
    mine = 'AIRFLOW_CONN_MYSITE={"conn_type": "ssh", "host": "x", "extra": {"a": "b=c"}}'
    stack.layout.env.write_text(f"{mine}\n{written}L2L_SITES=/mine\n")
    for _ in range(2):
        environment.write_env_file(stack.layout)
        lines = stack.layout.env.read_text().splitlines()
        assert lines.count(mine) == 1
        assert lines.count("L2L_SITES=/mine") == 1
        assert lines[: len(written.splitlines())] == written.splitlines()
    stack.layout.env.write_text(written)


def test_airflow_reads_the_repository(stack: Stack) -> None:
    """The DAG processor finds the DAGs and can import everything that they need."""
    wait_for(
        lambda: stack.airflow.get("dags")["total_entries"] > 0,
        120,
        lambda: str(stack.airflow.get("importErrors")),
    )
    assert stack.airflow.get("importErrors")["import_errors"] == []
