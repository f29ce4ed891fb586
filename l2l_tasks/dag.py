"""The DAG of a campaign: one run per generation, chained by run ids that PostgreSQL decides about.

    submit >> wait >> collect >> update >> [next_generation, log]

Loaded by Airflow every few seconds and at the start of every task: imports airflow.sdk and the
specification's models, nothing that computes or connects.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from l2l_tasks import dag_params
from l2l_tasks.dag_campaign import PATIENT_TRIES, campaigns_folder
from l2l_tasks.dag_operators import (
    CollectSensor,
    LogOperator,
    NextGenerationOperator,
    SubmitOperator,
    UpdateOperator,
    WaitOperator,
)
from l2l_tasks.errors import SpecError
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.spec_file import load

# A campaign has one active run, or two while the last generation is being logged.
MAX_ACTIVE_RUNS = 128
TAG_CHARACTERS = 100
# About a day of tries, five minutes apart in the end: a site's maintenance. What waiting cannot mend fails
# at once (dag_campaign.guarded).
PATIENCE: dict[str, Any] = {
    "retries": PATIENT_TRIES,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(minutes=5),
}
GUIDE = """\
### Each run is one generation of a campaign

**submit** asks the optimizer and brings the evaluations to the site, **wait** waits for them there,
**collect** fetches the results, **update** tells the optimizer, **next_generation** starts the next run,
**log** sends the generation to MLflow.

- To start a campaign: *Trigger*. Several may run at once; the run ids tell them apart (CAMPAIGN__g00012).
- To look at one: *Details* of its tasks links to its run in MLflow.
- To pause its campaigns, pause this DAG.
- To stop a campaign, mark its **wait** as failed: that cancels its jobs.

### The campaign file
"""


def campaign_dags(only: str | None = None) -> list[DAG]:
    """The DAGs of all campaign files that have no mistakes.

    Args:
        only: the DAG that a task about to run belongs to. It is made even when its file is broken or gone
            by now: a running campaign needs its tasks, not the file.
    """
    if only is None:
        return [campaign_dag(spec.name, path, spec) for path, spec in read_campaigns()[0]]
    folder = campaigns_folder()
    likely = folder / f"{only}.yaml"
    for path in [likely, *(p for p in campaign_files(folder) if p != likely)]:
        try:
            spec = load(path)
        except SpecError:
            continue
        if spec.name == only:
            return [campaign_dag(only, path, spec)]
    return [campaign_dag(only, likely, None)]


def campaign_files(folder: Path) -> list[Path]:
    """The campaign files of a folder, in the order of their names."""
    return sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))


def read_campaigns() -> tuple[list[tuple[Path, CampaignSpec]], list[str]]:
    """All campaign files: those that can run, and what is wrong with the others, line by line."""
    good: dict[str, tuple[Path, CampaignSpec]] = {}
    problems: list[str] = []
    for path in campaign_files(campaigns_folder()):
        try:
            spec = load(path)
        except SpecError as error:
            problems += error.problems
            continue
        if spec.name in good:
            problems.append(
                f"{path}:1: name: {spec.name!r} is taken by {good[spec.name][0]}: choose another name"
            )
        else:
            good[spec.name] = (path, spec)
    return list(good.values()), problems


def campaign_dag(dag_id: str, path: Path, spec: CampaignSpec | None) -> DAG:
    """The DAG of one campaign file; without a specification only what running tasks need of it."""
    with DAG(
        dag_id=dag_id,
        schedule=None if spec is None else spec.schedule,
        start_date=datetime(2024, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=MAX_ACTIVE_RUNS,
        # What starts by itself and spends core-hours is switched on by a person.
        is_paused_upon_creation=spec is not None and spec.schedule is not None,
        default_args={"owner": (spec and spec.owner) or "l2l", **PATIENCE},
        **({} if spec is None else _face(path, spec)),
    ) as dag:
        submit = SubmitOperator(task_id="submit", campaign_file=str(path))
        # Ended by its trigger, which is patient itself. The retries are for a trigger that cannot be loaded.
        wait = WaitOperator(
            task_id="wait", retries=2, retry_delay=timedelta(seconds=10), retry_exponential_backoff=0
        )
        collect = CollectSensor(task_id="collect")
        update = UpdateOperator(task_id="update")
        # Where Airflow has no slot for both, before the logs: these keep nobody waiting.
        next_generation = NextGenerationOperator(task_id="next_generation", priority_weight=2)
        log = LogOperator(task_id="log")
        submit >> wait >> collect >> update >> [next_generation, log]
    return dag


def _face(path: Path, spec: CampaignSpec) -> dict[str, Any]:
    """What users see of a DAG: description, tags, documentation, trigger form."""
    tags = {"l2l", spec.optimizee.reference, spec.optimizer.name, spec.site, *spec.tags}
    return {
        "description": " ".join(spec.description.split())[:200]
        or f"{spec.optimizee.reference}, {spec.optimizer.name}",
        "doc_md": f"{spec.description}\n\n{GUIDE}\n```yaml\n{path.read_text().strip()}\n```\n",
        "tags": sorted(tag[:TAG_CHARACTERS] for tag in tags if tag),
        "params": dag_params.form(spec),
    }
