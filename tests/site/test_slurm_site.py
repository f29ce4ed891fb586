"""The shipped profile `slurm-lab`, as a user opens it, at the real Slurm and sshd of infra/slurm."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import optimizees
from l2l_tasks.agent import results
from l2l_tasks.cli import use_cases
from l2l_tasks.errors import UserError
from l2l_tasks.site.client import SiteClient, open_site
from l2l_tasks.spec import ResourcesSpec
from tests.support.slurm import SlurmLab, wait_until

LIMITS = {"line_bytes": 262144, "depth": 8}
CODE = optimizees.code_bundle("sphere")
RESOURCES = ResourcesSpec.model_validate({"cpus": 1, "time": 300, "memory": "300M"})


@pytest.fixture
def client(slurm_lab: SlurmLab, state: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SiteClient]:  # noqa: ARG001
    """The lab's client; its connection comes from the environment, as the local stack passes it on."""
    monkeypatch.setenv("AIRFLOW_CONN_L2L_SLURM_LAB", json.dumps(slurm_lab.connection))
    made = open_site("slurm-lab")
    yield made
    made.transport.disconnect()  # type: ignore[attr-defined]


def test_probe_reports_the_limits_of_the_real_slurm(client: SiteClient) -> None:
    found = client.probe()
    assert found["problems"] == []
    assert found["scheduler"]["kind"] == "slurm"
    assert "batch" in found["scheduler"]["partitions"]
    status = client.status()
    assert status is not None
    assert (status.connected, status.logins, status.circuit) == (True, 1, "")


def test_environments_are_tried_as_jobs_start(client: SiteClient) -> None:
    """Jobs begin with the environment of a login; the lab's own Python has NEST, and its own NumPy."""
    login = {
        "python": client.profile.python,
        "setup": ["shopt -q login_shell && export KIND=login"],
        "env": {},
    }
    asked = {
        **use_cases.checks(client.profile),
        "kind": {**login, "check": "import os; print(os.environ['KIND'])"},
    }
    commands = client.commands
    found = client.probe(environments=asked)["environments"]
    assert client.commands <= commands + 3, "one command, and two more where the agent must be brought first"
    assert found["kind"] == {"status": 0, "output": "login"}
    works = {f.name for f in use_cases.findings(client.profile, found) if f.ok and not f.advice}
    assert {"site slurm-lab, numpy", "site slurm-lab, nest"} <= works


def test_refusals_of_slurm_are_told_before_anything_is_submitted(client: SiteClient) -> None:
    config = client.profile.scheduler_config(ResourcesSpec(partition="nowhere", time=300))
    problems = client.check({"scheduler": config, "python": client.profile.python})
    assert any("nowhere" in problem for problem in problems)


def test_a_campaign_on_slurm(client: SiteClient) -> None:
    """Evaluations go out over SSH, run as array tasks, and their results come back."""
    campaign = f"site-test-{uuid.uuid4().hex[:8]}"
    config = {
        "campaign": campaign,
        "job_name": f"l2l-{campaign}",
        "entry": CODE.entry,
        "options": {"dimension": 2},
        "code": CODE.sha256,
        "objectives": 1,
        "attempts": 1,
        "slots": 1,
        "linger": 0,
        "python": client.profile.python,
        "env": client.profile.env,
        "limits": LIMITS,
        "scheduler": client.profile.scheduler_config(RESOURCES),
        "walltime": 300,
        "margin": 20,
    }
    client.stage_code(CODE.sha256, CODE.files)
    client.open(campaign, config)
    common = {"attempt": 0, "task": {"split": "train", "index": 0, "seed": 1}, "seed": 1}
    evaluations = [
        {"key": f"{i}.0.0", "nonce": f"{i:016x}", "params": {"x": [1.0, i]}, **common} for i in range(3)
    ]
    bundle = {"bundle": "g00000-00000", "generation": 0, "timeout": 60.0, "evaluations": evaluations}
    status = client.submit(campaign, [bundle], workers=2, forget_before=0)
    assert status["rejected"] is None, status
    asked = [{"campaign": campaign, "workers": 2, "target": 0}]

    def done() -> bool:
        found = client.poll(asked, wait=10)[campaign]
        return found["known"] is True and found["todo"] + found["running"] == 0

    wait_until(done, 120, "the evaluations did not end")
    lines = [
        results.parse_line(text.encode(), LIMITS)
        for file in client.collect(campaign, {})["files"]
        for text in file["data"].splitlines()
    ]
    fitness = {line.key: line.fitness for line in lines if isinstance(line, results.ResultLine)}
    assert sorted(fitness) == ["0.0.0", "1.0.0", "2.0.0"]
    assert client.stop(campaign) is True
    wait_until(lambda: _cleaned(client, campaign), 60, "the workers did not go")
    status_of_link = client.status()
    assert status_of_link is not None
    assert status_of_link.total == 1, "one login for everything"


def _cleaned(client: SiteClient, campaign: str) -> bool:
    try:
        client.clean(campaign)
    except UserError:
        return False
    return True
