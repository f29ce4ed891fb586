"""The DAGs that Airflow makes of campaign files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

import optimizers
from l2l_tasks import dag_params, validation
from l2l_tasks.dag import campaign_dags, read_campaigns
from l2l_tasks.errors import SpecError, UserError
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.spec_file import load
from tests.dag.campaign_files import DAGS, REPOSITORY, campaign, folder, write

__all__ = ["folder"]
UNSUITABLE = {
    **dict.fromkeys(("grid", "latin_hypercube", "saltelli"), "budget.generations: "),  # too few
    "gest": "optimizer.options.generator: is missing",
    "nsga2": "optimizer: nsga2 is for several objectives",
    "nsga3": "optimizer: nsga3 is for several objectives",
    "population_based_training": "tasks.fresh: ",
    "successive_halving": "tasks.",
}


def bag() -> DagBag:
    return DagBag(DAGS)


def errors(found: DagBag) -> dict[str, str]:
    return {Path(path).name: text for path, text in found.import_errors.items()}


def test_every_campaign_of_the_repository_is_a_dag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("L2L_CAMPAIGNS", raising=False)
    found = bag()
    assert errors(found) == {}
    assert set(found.dags) == {load(path).name for path in (REPOSITORY / "campaigns").glob("*.yaml")}


def test_the_tasks_of_a_generation(folder: Path) -> None:
    write(folder, campaign("one"))
    dag = bag().dags["one"]
    edges = {(task.task_id, down) for task in dag.tasks for down in task.downstream_task_ids}
    assert edges == {
        ("submit", "wait"),
        ("wait", "collect"),
        ("collect", "update"),
        ("update", "next_generation"),
        ("update", "log"),
    }
    assert not dag.catchup
    assert (dag.max_active_runs or 0) >= 64
    assert dag.get_task("wait").start_from_trigger
    first, later = (dag.get_task(name).priority_weight for name in ("next_generation", "log"))
    assert first > later
    for task in dag.tasks:
        assert (task.retries or 0) > 0, task.task_id
        assert task.retry_delay.total_seconds() > 0, task.task_id


def test_a_dag_shows_what_the_campaign_file_says(folder: Path) -> None:
    write(folder, campaign("nightly", schedule="0 3 * * *", tags=["demo"], owner="ada"))
    dag = bag().dags["nightly"]
    data = DagSerialization.to_dict(dag)["dag"]
    assert "0 3 * * *" in json.dumps(data["timetable"])
    assert data["is_paused_upon_creation"], "what starts by itself is switched on by a person"
    assert {"demo", "sphere", "random"} <= dag.tags
    assert "The sphere of the tests." in str(dag.doc_md)
    assert "generations: 2" in str(dag.doc_md)
    for task in dag.tasks:
        assert f"**{task.task_id}**" in str(dag.doc_md), "the page explains every task"
    assert dag.get_task("submit").owner == "ada"


def test_a_broken_file_stops_no_other_campaign(folder: Path) -> None:
    write(folder, campaign("one"), campaign("two"))
    (folder / "broken.yaml").write_text("name: broken\noptimizer: {nam: random}\n")
    found = bag()
    assert set(found.dags) == {"one", "two"}
    assert set(errors(found)) == {"campaign_errors.py"}, (
        "an error of campaigns.py would forbid to trigger its DAGs"
    )
    message = errors(found)["campaign_errors.py"]
    assert f"{folder}/broken.yaml:2: optimizer.nam: unknown key; did you mean 'name'?" in message
    assert "one.yaml" not in message

    (folder / "broken.yaml").unlink()
    assert errors(bag()) == {}


def test_two_files_of_one_name_are_a_mistake_of_the_second(folder: Path) -> None:
    write(folder, campaign("one"))
    (folder / "other.yaml").write_text((folder / "one.yaml").read_text())
    good, problems = read_campaigns()
    assert [spec.name for _, spec in good] == ["one"]
    assert len(problems) == 1
    assert "other.yaml:1: name: 'one' is taken" in problems[0]


def test_a_task_that_runs_has_its_dag_whatever_becomes_of_the_file(folder: Path) -> None:
    """A worker asks for one DAG only. Were it missing, the running campaign's task would fail."""
    write(folder, campaign("one"), campaign("two"))
    assert [dag.dag_id for dag in campaign_dags("two")] == ["two"]
    (folder / "two.yaml").write_text("name: [")
    (dag,) = campaign_dags("two")
    assert dag.dag_id == "two"
    assert set(dag.task_ids) == {"submit", "wait", "collect", "update", "next_generation", "log"}
    (folder / "two.yaml").unlink()
    assert [dag.dag_id for dag in campaign_dags("two")] == ["two"]


def test_a_file_need_not_be_named_as_its_campaign(folder: Path) -> None:
    write(folder, campaign("one"))
    (folder / "one.yaml").rename(folder / "zzz.yml")
    (dag,) = campaign_dags("one")
    assert vars(dag.get_task("submit"))["campaign_file"] == str(folder / "zzz.yml")


def test_loading_the_dags_imports_nothing_heavy(folder: Path) -> None:
    """Every task pays for what its DAG file imports. Airflow's own modules are paid already."""
    write(folder, campaign("one"))
    program = """
import json, sys
import airflow.sdk
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, Param, get_parsing_context
before = {name.partition(".")[0] for name in sys.modules}
sys.path.insert(0, sys.argv[1])
import runpy
runpy.run_path(sys.argv[2])
print(json.dumps([sorted(before), sorted(sys.modules)]))
"""
    arguments = [sys.executable, "-c", program, str(REPOSITORY), str(DAGS / "campaigns.py")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    before, after = json.loads(done.stdout.splitlines()[-1])
    added = {name.partition(".")[0] for name in after} - set(before)
    heavy = {
        "numpy",
        "scipy",
        "mlflow",
        "psycopg2",
        "pyarrow",
        "pandas",
        "matplotlib",
        "asyncssh",
        "paramiko",
    }
    assert not heavy & {name.partition(".")[0] for name in after}
    assert {"l2l_tasks", "optimizers"} <= added
    ours = {name for name in after if name.startswith(("l2l_tasks.", "optimizers.", "optimizees."))}
    assert not {n for n in ours if n.startswith(("l2l_tasks.store", "l2l_tasks.steps", "l2l_tasks.tracking"))}
    # The module of TriggerDagRunOperator alone would cost as much as all the rest.
    assert "airflow.providers.standard.operators.trigger_dagrun" not in after


@pytest.fixture
def spec(folder: Path) -> CampaignSpec:
    return load(write(folder, campaign("one")) / "one.yaml")


def test_the_form_is_filled_from_the_file(spec: CampaignSpec) -> None:
    form = dag_params.form(spec)
    assert {name: param.value for name, param in form.items()} == {
        "optimizer": "random",
        "batch": 4,
        "generations": 2,
        "evaluations": None,
        "site": "local",
        "seed": 3,
        "note": None,
    }
    for name, param in form.items():
        assert param.schema["title"], name
        assert param.description, name
        param.resolve()  # the default itself is allowed
    # Only the section of the fields that name none is open when the form appears.
    folded = {name: param.schema["section"] for name, param in form.items() if "section" in param.schema}
    assert folded == {"generations": "Budget", "evaluations": "Budget"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch", 0),
        ("batch", 1.5),
        ("generations", -1),
        ("seed", 2**32),
        ("optimizer", "newton"),
        ("site", "moon"),
    ],
)
def test_the_form_refuses(spec: CampaignSpec, name: str, value: Any) -> None:
    with pytest.raises(ParamValidationError):
        dag_params.form(spec)[name].resolve(value)


def test_an_untouched_form_changes_nothing(spec: CampaignSpec) -> None:
    values = {name: param.value for name, param in dag_params.form(spec).items()}
    assert dag_params.apply(spec, values).fingerprint() == spec.fingerprint()


@pytest.mark.parametrize("name", optimizers.names())
def test_any_optimizer_can_be_chosen_in_the_form(spec: CampaignSpec, name: str) -> None:
    """One that does not suit the campaign is refused with the reason, before anything is begun."""
    changed = dag_params.apply(spec, {"optimizer": name})
    problems = validation.check(changed, REPOSITORY)
    assert bool(problems) == (name in UNSUITABLE)
    for problem in problems:
        assert UNSUITABLE[name] in f"{problem.field}: {problem.message}"


def test_the_form_changes_the_specification(spec: CampaignSpec) -> None:
    values = {
        "optimizer": "cmaes",
        "batch": 8,
        "generations": 5,
        "seed": 11,
        "note": "why",
        "evaluations": None,
    }
    changed = dag_params.apply(spec, values)
    assert (changed.optimizer.name, changed.execution.batch, changed.budget.generations) == ("cmaes", 8, 5)
    assert (changed.seed, changed.note, changed.site) == (11, "why", "local")
    with pytest.raises(SpecError):
        dag_params.apply(spec, {"batch": -3})


def test_the_form_offers_the_small_form_of_a_file_that_has_one(spec: CampaignSpec, folder: Path) -> None:
    """What stays in the form as the file says does not undo what the small form changes."""
    assert "small" not in dag_params.form(spec)
    with pytest.raises(UserError, match="has no small form"):
        dag_params.apply(spec, {"small": True})
    changes = {"execution.batch": 2, "budget.generations": 1}
    small = load(write(folder, campaign("two", small=changes)) / "two.yaml")
    values = {name: param.value for name, param in dag_params.form(small).items()}
    assert values["small"] is False
    assert dag_params.apply(small, values).execution.batch == 4
    made = dag_params.apply(small, {**values, "small": True, "seed": 9})
    assert (made.execution.batch, made.budget.generations, made.seed) == (2, 1, 9)
