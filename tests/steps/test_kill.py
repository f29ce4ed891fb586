"""A campaign killed at both sides of every commit of every step tells the same as an undisturbed one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from sqlalchemy import Engine, text

from l2l_tasks import runner, steps
from l2l_tasks.context import Context
from l2l_tasks.store import campaigns, generations
from l2l_tasks.tracking.records import plot_is_due
from tests.steps.conftest import campaign_spec
from tests.support.local_site import LocalSite
from tests.support.postgres import Database

SIDES = ("before", "after")
Commit = tuple[str, int]


class Driver:
    """Runs generations of one campaign, each in a process that may be killed."""

    def __init__(self, process: subprocess.Popen[str], origin: str, spec: Path) -> None:
        self.process, self.origin, self.spec = process, origin, spec

    def generation(self, number: int, kill: tuple[str, int, str] | None = None) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        job = {"origin": self.origin, "spec": str(self.spec), "generation": number, "kill": kill}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def undisturbed(self, number: int) -> list[Commit]:
        """Do a generation; its commits as (step, number within the step)."""
        done = self.generation(number)
        assert done["status"] == 0, "see the captured standard error"
        return list(dict.fromkeys((step, count) for step, count in done["commits"]))

    def killed_then_finished(self, number: int, commit: Commit, side: str) -> None:
        """Die at a commit of a generation, then do the generation again from its beginning."""
        died = self.generation(number, (*commit, side))
        assert died["signal"] == signal.SIGKILL, f"{side} {commit} was never reached"
        self.undisturbed(number)


@pytest.fixture
def driver(
    tmp_path: Path, local_site: LocalSite, database: Database, mlflow_server: str
) -> Iterator[Callable[[str], Driver]]:
    """Makes drivers by origin."""
    path = tmp_path / "small.yaml"
    spec = campaign_spec(local_site.name, budget={"generations": 200})
    path.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True)))
    environment = {**local_site.environment, "L2L_DATABASE_URL": database.app_url}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.steps.kill_child"],
        env={**environment, "MLFLOW_TRACKING_URI": mlflow_server},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield lambda origin: Driver(process, origin, path)
    assert process.stdin is not None
    process.stdin.close()
    process.wait(30)


def told(engine: Engine, origin: str) -> tuple[str, list[str]]:
    """The campaign of an origin, and the fingerprint of each generation."""
    with engine.begin() as connection:
        campaign = campaigns.find(connection, origin)
        assert campaign is not None
        return campaign.id, [sha for _, sha in generations.told_sequence(connection, campaign.id)]


def test_killed_at_both_sides_of_every_commit(
    tmp_path: Path,
    driver: Callable[[str], Driver],
    local_site: LocalSite,
    engine: Engine,
    mlflow_server: str,
    ctx: Context,
) -> None:
    """Guards invariants 1, 2 and 5: nothing lost, nothing told twice, the same individuals."""
    killed = driver("test:killed")
    killed.undisturbed(0)
    plotted, plain = killed.undisturbed(1), killed.undisturbed(2)
    assert [plot_is_due(number) for number in (1, 2)] == [True, False]
    assert {step for step, _ in plain} == {"begin", "submit", "wait", "collect", "update", "log"}
    usual = [(commit, side) for commit in plain if commit[0] != "begin" for side in SIDES]
    drawing = [(commit, side) for commit in plotted if commit not in plain for side in SIDES]
    assert drawing
    number = 2
    while usual or drawing:
        number += 1
        commit, side = (drawing if drawing and plot_is_due(number) else usual).pop()
        killed.killed_then_finished(number, commit, side)

    campaign, sequence = told(engine, killed.origin)
    assert len(sequence) == number + 1
    spec = campaign_spec(local_site.name, budget={"generations": len(sequence)})
    undisturbed = runner.run(ctx, spec, tmp_path)
    with engine.begin() as connection:
        assert sequence == [sha for _, sha in generations.told_sequence(connection, undisturbed)]
        query = """select count(*), count(*) filter (where status = 'ok')
            from l2l.evaluations where campaign_id = :campaign"""
        counted = tuple(connection.execute(text(query), {"campaign": campaign}).one())
        run = campaigns.get(connection, campaign).mlflow_run_id
    assert counted == (4 * len(sequence), 4 * len(sequence))
    assert run is not None
    history = MlflowClient(mlflow_server).get_metric_history(run, "evaluations_total")
    assert sorted(point.step for point in history) == list(range(len(sequence)))


def test_killed_while_a_campaign_begins_and_its_site_is_prepared(
    driver: Callable[[str], Driver], engine: Engine, ctx: Context
) -> None:
    """Guards the first submit: one campaign per origin, staged once, whatever was interrupted."""
    first = driver("test:whole").undisturbed(0)
    campaign, whole = told(engine, "test:whole")
    steps.release(ctx, campaign)
    for commit in [commit for commit in first if commit[0] in ("begin", "submit")]:
        for side in SIDES:
            one = driver(f"test:{commit[0]}:{commit[1]}:{side}")
            one.killed_then_finished(0, commit, side)
            campaign, sequence = told(engine, one.origin)
            assert sequence == whole
            steps.release(ctx, campaign)  # or the next ones wait until its idle workers make room at the site
