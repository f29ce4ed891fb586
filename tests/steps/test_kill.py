"""A campaign killed at both sides of every commit of every step tells the same as an undisturbed one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import yaml
from mlflow import MlflowClient
from sqlalchemy import Engine, text

from l2l_tasks import runner
from l2l_tasks.context import Context
from l2l_tasks.store import campaigns, generations
from tests.steps.conftest import campaign_spec
from tests.support.local_site import LocalSite
from tests.support.postgres import Database

Point = tuple[str, int, str]
SIDES = ("before", "after")


class Driver:
    """Runs one generation at a time in a process of its own."""

    def __init__(self, origin: str, spec: Path, site: LocalSite, database: Database, mlflow: str) -> None:
        self.origin, self.spec = origin, spec
        self.environment = {
            **site.environment,
            "L2L_DATABASE_URL": database.app_url,
            "MLFLOW_TRACKING_URI": mlflow,
        }

    def generation(
        self, number: int, log: str, point: Point = ("-", 0, "-")
    ) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "tests.steps.kill_child",
            self.origin,
            str(self.spec),
            str(number),
            log,
        ]
        command += [point[0], str(point[1]), point[2]]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )

    def killed_then_finished(self, number: int, point: Point) -> None:
        """Die at `point` of a generation, then do the generation again from its beginning."""
        log = "log" if point[0] == "log" else "nolog"
        died = self.generation(number, log, point)
        assert died.returncode == -signal.SIGKILL, f"{point} was never reached: {died.stderr[-2000:]}"
        done = self.generation(number, log)
        assert done.returncode == 0, f"not recovered after {point}: {done.stderr[-3000:]}"


def commits(driver: Driver, generation: int, log: str = "log") -> list[tuple[str, int]]:
    """The commits of one undisturbed generation, as (step, number in the step)."""
    done = driver.generation(generation, log)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = [(step, number) for step, number in json.loads(done.stdout.splitlines()[-1])["commits"]]
    return list(dict.fromkeys(seen))


def write_spec(folder: Path, site: LocalSite, **changes: object) -> Path:
    path = folder / "small.yaml"
    spec = campaign_spec(site.name, budget={"generations": 200}, **changes)
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True)))
    return path


def told(engine: Engine, origin: str) -> tuple[str, list[str]]:
    with engine.begin() as connection:
        campaign = campaigns.find(connection, origin)
        assert campaign is not None
        return campaign.id, [sha for _, sha in generations.told_sequence(connection, campaign.id)]


def test_killed_at_both_sides_of_every_commit(
    tmp_path: Path,
    local_site: LocalSite,
    database: Database,
    engine: Engine,
    mlflow_server: str,
    ctx: Context,
) -> None:
    """Guards invariants 1, 2 and 5: nothing lost, nothing told twice, the same individuals."""
    path = write_spec(tmp_path, local_site)
    killed = Driver("test:killed", path, local_site, database, mlflow_server)
    commits(killed, 0)
    points = [(*c, side) for c in commits(killed, 1) if c[0] != "begin" for side in SIDES]
    assert {step for step, _, _ in points} == {"submit", "wait", "collect", "update", "log"}
    for number, point in enumerate(points, start=2):
        killed.killed_then_finished(number, point)

    campaign, sequence = told(engine, killed.origin)
    assert len(sequence) == 2 + len(points)
    spec = campaign_spec(local_site.name, budget={"generations": len(sequence)})
    undisturbed = runner.run(replace(ctx, tracking_uri=None), spec, tmp_path)
    with engine.begin() as connection:
        assert sequence == [sha for _, sha in generations.told_sequence(connection, undisturbed)]
        query = text(
            "select count(*), count(*) filter (where status = 'ok') from l2l.evaluations where campaign_id = :c"
        )
        assert tuple(connection.execute(query, {"c": campaign}).one()) == (
            4 * len(sequence),
            4 * len(sequence),
        )

    killed.generation(len(sequence), "log")
    client = MlflowClient(mlflow_server)
    with engine.begin() as connection:
        run = campaigns.get(connection, campaign).mlflow_run_id
    assert run is not None
    history = client.get_metric_history(run, "evaluations/total")
    assert sorted(point.step for point in history) == list(range(len(sequence) + 1))


def test_killed_while_a_campaign_begins_and_its_site_is_prepared(
    tmp_path: Path, local_site: LocalSite, database: Database, engine: Engine, mlflow_server: str
) -> None:
    """Guards the first submit: one campaign per origin, staged once, whatever was interrupted."""
    path = write_spec(tmp_path, local_site)
    first = commits(Driver("test:whole", path, local_site, database, mlflow_server), 0, "nolog")
    _, whole = told(engine, "test:whole")
    for step, number in [c for c in first if c[0] in ("begin", "submit")]:
        for side in SIDES:
            driver = Driver(f"test:{step}:{number}:{side}", path, local_site, database, mlflow_server)
            driver.killed_then_finished(0, (step, number, side))
            assert told(engine, driver.origin)[1] == whole
