"""The real local stack (supervisor, PostgreSQL, Airflow, MLflow), started once for the session."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra import postgres as embedded
from infra.stack import bringup, environment, health
from infra.stack import credentials as keys
from infra.stack.layout import REPOSITORY, Layout
from l2l_tasks import settings
from l2l_tasks.airflow_client import AirflowClient


@dataclass(frozen=True)
class Stack:
    """A running stack with a state folder of its own.

    Attributes:
        home: its state folder.
        airflow: a signed-in client of Airflow's REST API.
        database_url, owner_url: the campaigns' database, for the application and for its owner.
        mlflow_url: MLflow's server; it asks for `mlflow_account`.
        campaigns: folder with copies of the example campaigns. A test adds files; a new one becomes a DAG
            within about 15 s (`airflow.wait_for_dag`).
        sites: folder for further site profiles.
        environment: variables with which another process (the command line, say) uses this stack.
    """

    home: Path
    airflow: AirflowClient
    database_url: str = field(repr=False)
    owner_url: str = field(repr=False)
    mlflow_url: str
    mlflow_account: tuple[str, str] = field(repr=False)
    campaigns: Path
    sites: Path
    environment: dict[str, str] = field(repr=False)

    @property
    def layout(self) -> Layout:
        return Layout(self.home)

    def session(self, component: str) -> int:
        """The session in which a component runs (the pid of its main process)."""
        return int(json.loads(self.layout.session(component).read_text())["session"])

    def wait_until_healthy(self, patience: float = 180.0) -> None:
        """Return when every component is healthy; AssertionError with what is wrong when that never comes."""
        wait_for(lambda: not health.unhealthy(health.check(self.layout)), patience, self._complaint)

    def _complaint(self) -> str:
        ill = health.unhealthy(health.check(self.layout))
        logs = {name: bringup.log_tail(self.layout.log(name)) for name in ill}
        return "\n".join(f"{name}: {state}\n{logs[name]}" for name, state in ill.items())


def wait_for(condition: Callable[[], bool], patience: float, complaint: Callable[[], str]) -> None:
    """Return once `condition()`; AssertionError(`complaint()`) after `patience` seconds without."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:.0f} s: {complaint()}")
        time.sleep(0.3)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Up before the first test that asks for it, gone with all its state after the last."""
    home = Path(tempfile.mkdtemp(prefix="l2l-stack-"))
    home.chmod(0o755)  # PostgreSQL runs under another account when the tests run as root
    campaigns, sites = home / "campaigns", home / "sites"
    shutil.copytree(REPOSITORY / "campaigns", campaigns)
    sites.mkdir()
    (home / "envs").symlink_to(settings.home().absolute() / "envs")  # made once, by infra/bootstrap.sh
    inherited = {"L2L_CAMPAIGNS": str(campaigns), "L2L_SITES": str(sites)}
    layout = Layout(home)
    before = {name: os.environ.get(name) for name in inherited}
    os.environ.update(inherited)  # the stack's components inherit them
    try:
        bringup.up(layout, lambda _text: None)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        yield _describe(layout, campaigns, sites, inherited)
    finally:
        bringup.clean(layout, lambda _text: None)


def _describe(layout: Layout, campaigns: Path, sites: Path, inherited: dict[str, str]) -> Stack:
    cluster, known = embedded.load(layout.postgres), keys.load_or_make(layout)
    shared = environment.shared(layout)
    return Stack(
        home=layout.home,
        airflow=AirflowClient(shared["L2L_AIRFLOW_URL"], environment.ADMIN, known.airflow_password),
        database_url=cluster.app_url,
        owner_url=cluster.owner_url,
        mlflow_url=shared["L2L_MLFLOW_URL"],
        mlflow_account=(environment.ADMIN, known.mlflow_password),
        campaigns=campaigns,
        sites=sites,
        environment={**os.environ, **inherited, **shared, "L2L_HOME": str(layout.home)},
    )
