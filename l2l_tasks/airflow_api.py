"""What `l2l` asks of a running Airflow: to carry a campaign on."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import requests

from l2l_tasks import dag_names, settings
from l2l_tasks.errors import UserError
from l2l_tasks.store.campaigns import Campaign

SECONDS = 60.0


class Airflow:
    """A connection to Airflow's REST API.

    Args:
        url: address of the server, http://host:port.
        user, password: an account that may trigger and clear DAG runs.

    Raises:
        UserError: Airflow does not answer, or lets this account not in; also from every method.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        account = {"username": user, "password": password}
        token = self._send("POST", f"{self.url}/auth/token", json=account).json()["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def run_state(self, dag_id: str, run_id: str) -> str | None:
        """queued, running, success or failed; None when there is no such run."""
        response = self._send("GET", self._run(dag_id, run_id), missing_ok=True)
        return None if response.status_code == 404 else str(response.json()["state"])

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
        """Start a run."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        self._send("POST", f"{self.url}/api/v2/dags/{quote(dag_id)}/dagRuns", json=body)

    def clear(self, dag_id: str, run_id: str) -> None:
        """Let all tasks of a run be done again."""
        body = {"dry_run": False, "only_failed": False}
        self._send("POST", f"{self._run(dag_id, run_id)}/clear", json=body)

    def _run(self, dag_id: str, run_id: str) -> str:
        return f"{self.url}/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"

    def _send(
        self, method: str, url: str, *, missing_ok: bool = False, **arguments: Any
    ) -> requests.Response:
        try:
            response = self._session.request(method, url, timeout=SECONDS, **arguments)
        except requests.RequestException as error:
            raise UserError(
                f"Airflow at {self.url} does not answer ({type(error).__name__}): start it"
            ) from error
        if response.ok or (missing_ok and response.status_code == 404):
            return response
        raise UserError(
            f"Airflow at {self.url} refused {method} {url}: {response.status_code} {response.text[:500]}"
        )


def connect() -> Airflow:
    """Airflow as the settings say (L2L_AIRFLOW_URL, L2L_AIRFLOW_USER, L2L_AIRFLOW_PASSWORD).

    Raises:
        UserError: a setting is missing, or Airflow does not let us in.
    """
    names = ("L2L_AIRFLOW_URL", "L2L_AIRFLOW_USER", "L2L_AIRFLOW_PASSWORD")
    url, user, password = (settings.value(name) for name in names)
    if not url or not user or not password:
        raise UserError(f"Airflow's address and account are not known: set {', '.join(names)} or `make up`")
    return Airflow(url, user, password)


def rerun(campaign: Campaign, generation: int) -> str:
    """See that a campaign's generation has an active DAG run.

    Args:
        campaign: a campaign that may run (`steps.resume` it before).
        generation: the one that is not told yet.

    Returns:
        What was done, for people.

    Raises:
        UserError: Airflow does not answer or refuses.
    """
    airflow = connect()
    run_id = dag_names.run_id(campaign.id, generation)
    first = dag_names.first_run(campaign.origin)
    if generation == 0 and first is not None:
        run_id = first[1]
    state = airflow.run_state(campaign.name, run_id)
    if state is None:
        # Also when Airflow has lost its database: the campaign is in PostgreSQL.
        airflow.trigger(campaign.name, run_id, {"campaign": campaign.id, "generation": generation})
        return f"DAG run {run_id} of {campaign.name} is triggered"
    if state in ("queued", "running"):
        return f"DAG run {run_id} of {campaign.name} is {state} already"
    airflow.clear(campaign.name, run_id)
    return f"DAG run {run_id} of {campaign.name} was {state}; its tasks are done again"
