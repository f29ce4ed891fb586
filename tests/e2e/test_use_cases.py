"""The small form of every campaign of the repository, by sbatch over SSH, from Airflow to MLflow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from l2l_tasks.tracking.records import safe_name
from tests.e2e.conftest import SITE, Desk

CAMPAIGNS = Path(__file__).resolve().parents[2] / "campaigns"
GENERATIONS = 2
PATIENCE = 600.0  # seconds for all of them together


def specifications() -> dict[str, dict[str, Any]]:
    """Every file of the repository, the single cell in each of its simulators; by name."""
    found = [yaml.safe_load(path.read_text()) for path in sorted(CAMPAIGNS.glob("*.yaml"))]
    (cell,) = (spec for spec in found if spec["optimizee"]["name"] == "single_cell")
    for simulator in ("arbor", "eden", "nest"):
        options = {**cell["optimizee"]["options"], "simulator": simulator}
        other = {"name": "single_cell", "options": options}
        found.append({**cell, "name": f"single-cell-{simulator}", "optimizee": other})
    for spec in found:
        if spec.pop("schedule", None):  # would start it beside the test
            spec["name"] += "-now"
    return {spec["name"]: spec for spec in found}


SPECIFICATIONS = specifications()


@pytest.fixture(scope="module")
def origins(desk: Desk) -> Mapping[str, str]:
    """Every DAG triggered in its small form, all of them before the first is waited for: name -> origin."""
    dags = [desk.write(spec) for spec in SPECIFICATIONS.values()]
    return {dag: desk.start(dag, small=True, site=SITE) for dag in dags}


@pytest.mark.timeout(PATIENCE + 300)  # the first one starts the stack as well
@pytest.mark.parametrize("name", SPECIFICATIONS)
def test_the_small_form_runs_to_its_end(desk: Desk, origins: Mapping[str, str], name: str) -> None:
    campaign = desk.wait(origins[name], "finished", "paused", "stopped", patience=PATIENCE)
    last_test = campaign.spec["tasks"]["test"] is not None  # a generation of its own
    assert (campaign.status, campaign.generations_told) == ("finished", GENERATIONS + last_test), (
        campaign.reason
    )
    assert campaign.evaluations_failed == 0
    assert campaign.evaluations_ok >= campaign.spec["execution"]["batch"] * GENERATIONS
    assert campaign.best_fitness is not None
    assert all(math.isfinite(value) for value in campaign.best_fitness)
    objective = safe_name(campaign.problem["objectives"][0]["name"])
    steps = desk.logged(campaign.origin, f"{objective}/best_so_far", GENERATIONS + last_test)
    assert steps == list(range(GENERATIONS + last_test))
    if last_test:
        assert desk.logged(campaign.origin, f"test/{objective}", 2) == [0, GENERATIONS]
