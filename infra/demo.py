"""`make demo`: start a campaign through Airflow as a person would, and follow it to its end.

    python -m infra.demo [--campaign NAME] [--site local|slurm]

The stack has to be up (`make up`). Exit status 0 when the campaign finished with a result. Interrupting stops
the watching, not the campaign.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import requests
from sqlalchemy import Engine

from infra.stack import environment
from infra.stack.layout import Layout
from l2l_tasks import settings
from l2l_tasks.airflow_client import AirflowClient
from l2l_tasks.errors import L2LError
from l2l_tasks.mlflow_pages import VIEW
from l2l_tasks.store import campaigns, generations, workers
from l2l_tasks.store.campaigns import Campaign
from l2l_tasks.store.engine import connect

SITES = {"local": "local", "slurm": "slurm-lab"}  # word of the command line -> site profile
LOOK_EVERY = 1.0  # seconds
QUIET = 30.0  # seconds without news after which a line says what goes on
LOGGING_PATIENCE = 120.0  # seconds for the last generation to appear in MLflow


class DemoFailed(L2LError):
    """The campaign did not finish; the message says why."""


def main() -> int:
    """Run the demo; exit status 0 when the campaign finished."""
    parser = argparse.ArgumentParser(prog="python -m infra.demo", description=__doc__)
    parser.add_argument("--campaign", default="brunel-cmaes", help="a file of campaigns/, without .yaml")
    parser.add_argument("--site", default="local", choices=list(SITES))
    arguments = parser.parse_args()
    layout = Layout.of_settings()
    try:
        demo(arguments.campaign, SITES[arguments.site])
    except L2LError as error:
        print(f"demo: {error}\nLogs of the stack: {layout.logs}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: no longer watching; the campaign goes on (l2l status, or Airflow)", file=sys.stderr)
        return 130
    return 0


def demo(name: str, site: str) -> None:
    """Trigger, follow, report."""
    began = time.monotonic()
    airflow = AirflowClient(
        setting("L2L_AIRFLOW_URL"), setting("L2L_AIRFLOW_USER"), setting("L2L_AIRFLOW_PASSWORD")
    )
    airflow.wait_for_dag(name)
    airflow.unpause(name)
    run_id = airflow.trigger(name, {"site": site})
    say(f"started {name} at the site '{site}' (DAG run {run_id})")
    engine = connect(setting("L2L_DATABASE_URL"))
    try:
        watch = Watch(engine, airflow, name, run_id)
        campaign = watch.follow()
        watch.wait_for_log(campaign)
        report(engine, campaign, time.monotonic() - began)
    finally:
        engine.dispose()
    where(campaign)


class Watch:
    """One campaign, from the DAG run that began it to its end."""

    def __init__(self, engine: Engine, airflow: AirflowClient, dag_id: str, run_id: str) -> None:
        self.engine = engine
        self.airflow = airflow
        self.dag_id = dag_id
        self.run_id = run_id
        self._shown = 0  # generations
        self._news = time.monotonic()

    def follow(self) -> Campaign:
        """Print every generation as it is told; returns the finished campaign."""
        campaign: Campaign | None = None
        while True:
            with self.engine.begin() as connection:
                if campaign is None:
                    campaign = campaigns.find(connection, f"airflow:{self.dag_id}/{self.run_id}")
                    if campaign is not None:
                        self._tell(f"campaign {campaign.id}")
                else:
                    campaign = campaigns.get(connection, campaign.id)
                while campaign is not None and self._shown < campaign.generations_told:
                    row = generations.get(connection, campaign.id, self._shown)
                    assert row is not None
                    assert row.summary is not None
                    self._tell(_line(self._shown, row.summary))
                    self._shown += 1
            if campaign is not None and campaign.status == "finished":
                return campaign
            self._check(campaign)
            time.sleep(LOOK_EVERY)

    def wait_for_log(self, campaign: Campaign) -> None:
        """Return when MLflow has the last generation, or say that it has not."""
        deadline = time.monotonic() + LOGGING_PATIENCE
        while time.monotonic() < deadline:
            with self.engine.begin() as connection:
                last = generations.get(connection, campaign.id, campaign.generations_told - 1)
            if last is not None and last.logged_at is not None:
                return
            time.sleep(LOOK_EVERY)
        say("the last generation is not in MLflow yet; it is kept in PostgreSQL and logged later")

    def _check(self, campaign: Campaign | None) -> None:
        """Raise when nothing more will come; say what goes on when there were no news for a while."""
        if campaign is not None and campaign.status != "running":
            raise DemoFailed(f"campaign {campaign.id} is {campaign.status}: {campaign.reason}")
        run_id = self.run_id
        if campaign is not None and campaign.next_generation > 1:
            run_id = f"{campaign.id}__g{campaign.next_generation - 1:05d}"
        if time.monotonic() - self._news < QUIET:
            return
        state = self.airflow.run_state(self.dag_id, run_id)
        if state == "failed":
            tasks = ", ".join(self.airflow.failed_tasks(self.dag_id, run_id))
            raise DemoFailed(f"the DAG run {run_id} failed in: {tasks}. See its logs in {self.airflow.url}")
        self._tell(f"... DAG run {run_id} is {state}, {self._workers(campaign)}")

    def _workers(self, campaign: Campaign | None) -> str:
        if campaign is None:
            return "no campaign yet"
        with self.engine.begin() as connection:
            overview = next(o for o in campaigns.listing(connection) if o.id == campaign.id)
        return (
            f"{overview.live_workers} workers run, {overview.waiting_workers} wait, "
            f"{overview.evaluations_done} of {overview.evaluations_total} evaluations done"
        )

    def _tell(self, text: str) -> None:
        say(text)
        self._news = time.monotonic()


def _line(number: int, summary: dict[str, Any]) -> str:
    """One generation: its best and median fitness, and the best so far."""
    best = summary["progress"]["best"]
    parts = [f"generation {number:3}"]
    for place, name in enumerate(summary["objectives"]):
        if summary["fitness"]["best"]:
            here, median = summary["fitness"]["best"][place], summary["fitness"]["median"][place]
            ever = best["fitness"][place]
            parts.append(f"{name}: best {here:.5g}, median {median:.5g}, best so far {ever:.5g}")
    failed = summary["told"] - summary["status"]["ok"]
    if failed:
        parts.append(f"{failed} of {summary['told']} individuals without a result")
    return "   ".join(parts)


def report(engine: Engine, campaign: Campaign, seconds: float) -> None:
    """The result; DemoFailed when there is none."""
    with engine.begin() as connection:
        history = generations.history(connection, campaign.id)
        core_seconds = workers.core_seconds(connection, campaign.id)
    best = history[-1]["progress"]["best"] if history else None
    if best is None:
        raise DemoFailed(f"campaign {campaign.id} ended without any successful evaluation: {campaign.reason}")
    print()
    print(f"Finished: {campaign.reason}")
    counts = f"{campaign.evaluations_ok} evaluations ({campaign.evaluations_failed} failed)"
    print(f"  {campaign.generations_told} generations, {counts}, ", end="")
    print(f"{seconds / 60:.1f} minutes, {core_seconds:.0f} core seconds")
    print(f"  best individual {best['index']}: ", end="")
    named = zip(history[-1]["objectives"], best["fitness"], strict=True)
    print(", ".join(f"{name} = {value:.6g}" for name, value in named))
    for name, value in best["params"].items():
        print(f"    {name} = {json.dumps(value)}")


def where(campaign: Campaign) -> None:
    """Where to look at it, and how to sign in."""
    mlflow = setting("L2L_MLFLOW_URL")
    print()
    print(f"Airflow  {setting('L2L_AIRFLOW_URL')}/dags/{campaign.name}")
    print(f"         user {environment.ADMIN}  password {setting('L2L_AIRFLOW_PASSWORD')}")
    print(f"MLflow   {mlflow}{_run_page(mlflow, campaign.mlflow_run_id)}")
    print(f"         user {environment.ADMIN}  password {setting('MLFLOW_TRACKING_PASSWORD')}")


def _run_page(mlflow: str, run_id: str | None) -> str:
    """The page of a run, below the URL of the server; the server's front page when it cannot be found out."""
    if run_id is None:
        return ""
    account = (environment.ADMIN, setting("MLFLOW_TRACKING_PASSWORD"))
    try:
        url = f"{mlflow}/api/2.0/mlflow/runs/get"
        answer = requests.get(url, params={"run_id": run_id}, auth=account, timeout=30)
        return f"/#/experiments/{answer.json()['run']['info']['experiment_id']}/runs/{run_id}?{VIEW}"
    except (requests.RequestException, KeyError):
        return ""


def setting(name: str) -> str:
    """A setting of the running stack."""
    found = settings.value(name)
    if not found:
        raise DemoFailed(f"{name} is not known: start the stack first (make up)")
    return found


def say(text: str) -> None:
    print(f"{time.strftime('%T')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
