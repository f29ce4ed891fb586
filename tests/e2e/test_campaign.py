"""Campaigns from a YAML file through Airflow, SSH and sbatch into PostgreSQL and MLflow, all of them real."""

from __future__ import annotations

import time
from pathlib import Path

import yaml
from sqlalchemy import text

from tests.e2e.conftest import Desk, sphere
from tests.support.slurm import SlurmLab


def jobs(lab: SlurmLab, campaign_id: str) -> str:
    """The scheduler's lines for a campaign's workers."""
    return lab.as_user(f"squeue -h -n l2l-{campaign_id} -o '%i %T'").stdout


def test_the_brunel_network_is_tuned_by_sbatch_over_ssh(desk: Desk) -> None:
    """The main job: NEST on Slurm, every generation in MLflow."""
    spec = yaml.safe_load((desk.stack.campaigns / "brunel-cmaes.yaml").read_text())
    spec |= {"name": "brunel-small", "site": "slurm-lab", "budget": {"generations": 2}}
    spec["optimizee"]["options"] |= {"neurons": 250, "duration": 300}
    spec["execution"] |= {"batch": 4, "workers": 2}
    campaign = desk.wait(desk.start(desk.write(spec)), "finished", "paused", "stopped")
    assert (campaign.status, campaign.generations_told) == ("finished", 2)
    assert (campaign.evaluations_ok, campaign.evaluations_total) == (8, 8)
    with desk.engine.begin() as connection:
        rows = connection.execute(
            text("select metrics, host, worker from l2l.evaluations where campaign_id = :c"),
            {"c": campaign.id},
        ).all()
    assert all(row.metrics and row.host and row.worker for row in rows)

    assert desk.logged(campaign.origin, "loss/best_so_far", 2) == [0, 1]
    run_id = desk.find(campaign.origin).mlflow_run_id  # type: ignore[union-attr]
    assert run_id is not None
    assert desk.mlflow("artifacts/list", run_id=run_id)["files"]


def test_airflow_and_the_command_line_ask_the_same_individuals(desk: Desk, tmp_path: Path) -> None:
    """One seed, two shells round the same steps: the told sequences are equal."""
    spec = sphere("same-individuals")
    through_airflow = desk.wait(desk.start(desk.write(spec)), "finished")
    path = tmp_path / "same-individuals.yaml"
    path.write_text(yaml.safe_dump({**spec, "site": "local"}))
    desk.command_line("run", str(path))
    with desk.engine.begin() as connection:
        query = "select id from l2l.campaigns where name = :n and origin like 'run:%'"
        campaign_id = connection.scalar(text(query), {"n": spec["name"]})
    assert campaign_id is not None
    assert desk.sequence(campaign_id) == desk.sequence(through_airflow.id)


def test_a_partition_that_does_not_exist_pauses_the_campaign(desk: Desk, slurm_lab: SlurmLab) -> None:
    """One clear reason, and nothing was submitted."""
    spec = sphere("no-partition", resources={"time": "10m", "partition": "nowhere"})
    campaign = desk.wait(desk.start(desk.write(spec)), "paused", "finished")
    assert campaign.status == "paused"
    assert "nowhere" in (campaign.reason or "") or "partition" in (campaign.reason or "").lower()
    assert jobs(slurm_lab, campaign.id) == ""


def test_two_campaigns_of_one_dag_at_once_and_a_changed_form(desk: Desk) -> None:
    """The trigger form's values reach the campaign; concurrent campaigns do not mix."""
    dag = desk.write(sphere("twice"))
    first, second = desk.start(dag, seed=1), desk.start(dag, seed=2)
    a, b = desk.wait(first, "finished"), desk.wait(second, "finished")
    assert (a.seed, b.seed) == (1, 2)
    assert a.generations_told == b.generations_told == 3
    assert desk.sequence(a.id) != desk.sequence(b.id)


def wait_for_jobs(desk: Desk, lab: SlurmLab, origin: str) -> str:
    """Until a campaign has workers in the queue; its id."""
    deadline = time.monotonic() + 120
    while (campaign := desk.find(origin)) is None or not jobs(lab, campaign.id):
        assert time.monotonic() < deadline, "no job came"
        time.sleep(0.5)
    return campaign.id


def wait_for_no_jobs(lab: SlurmLab, campaign_id: str) -> None:
    deadline = time.monotonic() + 60
    while jobs(lab, campaign_id):
        assert time.monotonic() < deadline, "jobs are left"
        time.sleep(0.5)


def test_stopping_cancels_the_jobs_and_resuming_goes_on(desk: Desk, slurm_lab: SlurmLab) -> None:
    """`l2l stop` and `l2l resume` on a campaign of Airflow."""
    slow = {"name": "sphere", "options": {"dimension": 3, "run_time": 5}}
    execution = {"batch": 4, "workers": 2, "timeout": 120}
    spec = sphere("to-be-stopped", optimizee=slow, execution=execution, budget={"generations": 1})
    origin = desk.start(desk.write(spec))
    campaign_id = wait_for_jobs(desk, slurm_lab, origin)
    desk.command_line("stop", campaign_id)
    assert desk.wait(origin, "stopped").status == "stopped"
    wait_for_no_jobs(slurm_lab, campaign_id)
    desk.command_line("resume", campaign_id)
    campaign = desk.wait(origin, "finished", "paused")
    assert (campaign.status, campaign.evaluations_ok) == ("finished", 4)


def test_marking_the_wait_failed_cancels_the_jobs(desk: Desk, slurm_lab: SlurmLab) -> None:
    """What a user does in the grid view to end a campaign."""
    slow = {"name": "sphere", "options": {"dimension": 3, "run_time": 60}}
    spec = sphere("wait-failed", optimizee=slow, execution={"batch": 4, "workers": 2, "timeout": 120})
    dag = desk.write(spec)
    origin = desk.start(dag)
    campaign_id = wait_for_jobs(desk, slurm_lab, origin)
    path = f"dags/{dag}/dagRuns/{origin.split('/', 1)[1]}/taskInstances/wait"
    deadline = time.monotonic() + 60
    while desk.stack.airflow.get(path)["state"] != "deferred":
        assert time.monotonic() < deadline, "the wait never waited"
        time.sleep(0.5)
    time.sleep(3)  # the triggerer takes the trigger up within its one-second loop
    desk.stack.airflow.patch(path, {"new_state": "failed"})
    assert desk.wait(origin, "stopped", "paused").status == "stopped"
    wait_for_no_jobs(slurm_lab, campaign_id)
