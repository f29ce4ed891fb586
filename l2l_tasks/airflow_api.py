"""What `l2l` asks of a running Airflow: to carry a campaign on."""

from __future__ import annotations

import time

from l2l_tasks import dag_names, settings
from l2l_tasks.airflow_client import AirflowClient
from l2l_tasks.errors import AirflowError, UserError
from l2l_tasks.store.campaigns import Campaign

ACTIVE = ("queued", "running")
PATIENCE = 60.0  # seconds


def connect() -> AirflowClient:
    """Airflow as the settings say (L2L_AIRFLOW_URL, L2L_AIRFLOW_USER, L2L_AIRFLOW_PASSWORD).

    Raises:
        UserError: a setting is missing.
    """
    names = ("L2L_AIRFLOW_URL", "L2L_AIRFLOW_USER", "L2L_AIRFLOW_PASSWORD")
    url, user, password = (settings.value(name) for name in names)
    if not url or not user or not password:
        raise UserError(f"Airflow's address and account are not known: set {', '.join(names)} or `make up`")
    return AirflowClient(url, user, password)


def settle(campaign: Campaign, generation: int) -> None:
    """Wait until the DAG run of a campaign that does not run has ended, at most PATIENCE seconds.

    Its remaining tasks do nothing, and soon; a campaign that ran again before they have passed would have
    no run that does its work.

    Raises:
        UserError, AirflowError: as `rerun`.
    """
    airflow, run_id = connect(), _run_id(campaign, generation)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and _state(airflow, campaign, run_id) in ACTIVE:
        time.sleep(0.5)


def rerun(campaign: Campaign, generation: int) -> str:
    """See that a campaign's generation has an active DAG run.

    Args:
        campaign: a campaign that may run (`steps.resume` it before).
        generation: the one that is not told yet.

    Returns:
        What was done, for people.

    Raises:
        UserError: Airflow's address or account is not known.
        AirflowError: Airflow does not answer or refuses.
    """
    airflow, run_id = connect(), _run_id(campaign, generation)
    state = _state(airflow, campaign, run_id)
    if state is None:
        # Also when Airflow has lost its database: the campaign is in PostgreSQL.
        airflow.trigger(campaign.name, {"campaign": campaign.id, "generation": generation}, run_id)
        return f"DAG run {run_id} of {campaign.name} is triggered"
    if state in ACTIVE:
        return f"DAG run {run_id} of {campaign.name} is {state} already"
    airflow.clear(campaign.name, run_id)
    return f"DAG run {run_id} of {campaign.name} was {state}; its tasks are done again"


def _state(airflow: AirflowClient, campaign: Campaign, run_id: str) -> str | None:
    """The state of a DAG run; None when Airflow has no such run."""
    try:
        return airflow.run_state(campaign.name, run_id)
    except AirflowError as error:
        if error.status != 404:
            raise
        return None


def _run_id(campaign: Campaign, generation: int) -> str:
    """The DAG run of a generation; the first one is the one that the campaign was started by."""
    first = dag_names.first_run(campaign.origin)
    if generation == 0 and first is not None:
        return first[1]
    return dag_names.run_id(campaign.id, generation)
