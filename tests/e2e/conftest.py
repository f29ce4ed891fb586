"""Campaigns through a real Airflow: helpers to start them and to see how they end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import yaml
from sqlalchemy import Engine

from l2l_tasks.store import campaigns, generations
from l2l_tasks.store.campaigns import Campaign
from l2l_tasks.store.engine import connect
from tests.support.slurm import SlurmLab
from tests.support.stack import Stack

SITE = "slurm-lab"


@dataclass
class Desk:
    """What a user does: put a file into campaigns/, start it in Airflow, look at the result."""

    stack: Stack
    engine: Engine

    def write(self, spec: dict[str, Any]) -> str:
        """Add a campaign file and wait until it is a DAG; the DAG's id."""
        (self.stack.campaigns / f"{spec['name']}.yaml").write_text(yaml.safe_dump(spec))
        self.stack.airflow.wait_for_dag(spec["name"])
        self.stack.airflow.unpause(spec["name"])
        return str(spec["name"])

    def start(self, dag: str, **conf: Any) -> str:
        """Trigger the DAG; the campaign's origin."""
        return f"airflow:{dag}/{self.stack.airflow.trigger(dag, conf)}"

    def find(self, origin: str) -> Campaign | None:
        with self.engine.begin() as connection:
            return campaigns.find(connection, origin)

    def wait(self, origin: str, *statuses: str, told: int = 0, patience: float = 240.0) -> Campaign:
        """Return the campaign once it has one of these statuses (or, with `told`, that many generations)."""
        deadline = time.monotonic() + patience
        campaign = self.find(origin)
        while time.monotonic() < deadline:
            campaign = self.find(origin)
            if campaign is not None and campaign.status in statuses:
                return campaign
            if campaign is not None and told and campaign.generations_told >= told:
                return campaign
            time.sleep(0.5)
        raise AssertionError(f"{origin} did not come to {statuses or told} within {patience} s: {campaign}")

    def mlflow(self, path: str, **parameters: str) -> Any:
        """The answer of MLflow's REST API."""
        url = f"{self.stack.mlflow_url}/api/2.0/mlflow/{path}"
        return requests.get(url, params=parameters, auth=self.stack.mlflow_account, timeout=30).json()

    def logged(self, origin: str, metric: str, points: int, patience: float = 120.0) -> list[int]:
        """The steps of a campaign's metric in MLflow, once there are that many."""
        deadline, steps = time.monotonic() + patience, list[int]()
        while len(steps) < points and time.monotonic() < deadline:
            campaign = self.find(origin)
            if campaign is not None and campaign.mlflow_run_id is not None:
                history = self.mlflow("metrics/get-history", run_id=campaign.mlflow_run_id, metric_key=metric)
                steps = [int(point["step"]) for point in history.get("metrics", [])]
            time.sleep(0.5)
        return steps

    def command_line(self, *arguments: str, timeout: float = 240.0) -> None:
        """`l2l` as a user of the stack; it has to succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "l2l_tasks.cli", *arguments],
            env=self.stack.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def sequence(self, campaign_id: str) -> list[str]:
        """The fingerprint of every generation."""
        with self.engine.begin() as connection:
            return [sha for _, sha in generations.told_sequence(connection, campaign_id)]


@pytest.fixture(scope="session")
def desk(slurm_lab: SlurmLab, stack: Stack) -> Iterator[Desk]:
    """A user's desk: Slurm is up before the stack, which takes the lab's connection over when it starts."""
    assert slurm_lab.connection
    engine = connect(stack.database_url)
    yield Desk(stack, engine)
    engine.dispose()


def sphere(name: str, **changes: Any) -> dict[str, Any]:
    """A campaign of short evaluations at the one-node Slurm."""
    spec: dict[str, Any] = {
        "name": name,
        "optimizee": {"name": "sphere", "options": {"dimension": 3}},
        "optimizer": {"name": "cmaes"},
        "budget": {"generations": 3},
        "site": SITE,
        "resources": {"time": "10m"},
        "execution": {"batch": 6, "workers": 2, "linger": 60, "timeout": 60},
        "seed": 11,
    }
    return {**spec, **changes}
