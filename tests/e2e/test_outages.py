"""kill -9 of every service, one after the other, in a running campaign: it ends as if nothing had been."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
import yaml
from sqlalchemy import text

from tests.e2e.conftest import Desk, sphere
from tests.support.slurm import SlurmLab
from tests.support.stack import Stack, wait_for

COMPONENTS = ("scheduler", "triggerer", "mlflow", "postgres", "api-server", "dag-processor")


def restarted(stack: Stack, component: str, before: int) -> bool:
    """Whether the supervisor has started a component anew."""
    return stack.layout.session(component).exists() and stack.session(component) != before


def kill_worker(lab: SlurmLab, campaign_id: str) -> bool:
    """SIGKILL one running worker of the campaign; whether there was one."""
    for process in psutil.process_iter(["cmdline", "username"]):
        command = process.info["cmdline"] or []
        if "worker" in command and campaign_id in " ".join(command) and process.info["username"] == lab.login:
            os.kill(process.pid, signal.SIGKILL)
            return True
    return False


@pytest.mark.timeout(1800)
def test_every_service_is_killed_during_a_campaign(desk: Desk, slurm_lab: SlurmLab, tmp_path: Path) -> None:
    """Guards the promise of the product: the told sequence equals that of an undisturbed run."""
    slow = {"name": "sphere", "options": {"dimension": 3, "run_time": 1.0}}
    spec = sphere("outages", optimizee=slow, budget={"generations": 9})
    origin = desk.start(desk.write(spec))
    campaign = desk.wait(origin, told=1)
    for number, component in enumerate(COMPONENTS):
        before = desk.stack.session(component)
        os.kill(before, signal.SIGKILL)
        wait_for(partial(restarted, desk.stack, component, before), 120, lambda: "not started anew")
        desk.stack.wait_until_healthy()
        campaign = desk.wait(origin, "finished", told=min(number + 2, 7), patience=400)
    assert campaign.status == "running"
    slurm_lab.signal_daemon("slurmctld", signal.SIGKILL)
    time.sleep(2)
    slurm_lab.up()
    wait_for(partial(kill_worker, slurm_lab, campaign.id), 60, lambda: "no worker was there to be killed")
    campaign = desk.wait(origin, "finished", "paused", "stopped", patience=400)
    assert (campaign.status, campaign.generations_told) == ("finished", 9)

    path = tmp_path / "undisturbed.yaml"
    quick = {"name": "sphere", "options": {"dimension": 3}}
    undisturbed = {**spec, "name": "undisturbed", "site": "local", "optimizee": quick}
    path.write_text(yaml.safe_dump(undisturbed))
    desk.command_line("run", str(path), timeout=300)
    with desk.engine.begin() as connection:
        reference = connection.scalar(text("select id from l2l.campaigns where name = 'undisturbed'"))
        query = """select count(*), count(*) filter (where status = 'ok')
            from l2l.evaluations where campaign_id = :campaign"""
        counted = tuple(connection.execute(text(query), {"campaign": campaign.id}).one())
    assert desk.sequence(campaign.id) == desk.sequence(str(reference))
    assert counted == (54, 54)
