"""A small client of Airflow's REST API."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import requests

from l2l_tasks.errors import AirflowError

TIMEOUT = 60.0  # seconds for one answer


class AirflowClient:
    """Signs in with a password, and again when the token has run out.

    Args:
        url: e.g. http://127.0.0.1:8080
        user, password: an account that may do what is asked for.

    Every method raises AirflowError when Airflow refuses or does not answer.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._account = {"username": user, "password": password}
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no business on loopback

    def get(self, path: str, **query: object) -> Any:
        """The answer to GET /api/v2/`path`."""
        return self._request("GET", path, params=query)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """The answer to POST /api/v2/`path`."""
        return self._request("POST", path, json=body)

    def patch(self, path: str, body: Mapping[str, object]) -> Any:
        """The answer to PATCH /api/v2/`path`."""
        return self._request("PATCH", path, json=body)

    def delete(self, path: str) -> Any:
        """The answer to DELETE /api/v2/`path`."""
        return self._request("DELETE", path)

    def wait_for_dag(self, dag_id: str, patience: float = 120.0) -> None:
        """Return when the DAG processor has read the DAG's file; AirflowError when it never does."""
        deadline = time.monotonic() + patience
        while True:
            try:
                self.get(f"dags/{quote(dag_id)}")
            except AirflowError as error:
                if error.status != 404:
                    raise
            else:
                return
            if time.monotonic() > deadline:
                found = self.get("importErrors")["import_errors"]
                reasons = "\n".join(f"{item['filename']}: {item['stack_trace']}" for item in found)
                raise AirflowError(f"no DAG '{dag_id}' after {patience:.0f} s\n{reasons}", 404)
            time.sleep(0.5)

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run the DAG."""
        self.patch(f"dags/{quote(dag_id)}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, object], run_id: str | None = None) -> str:
        """Start a run as the form of the user interface does; returns the run's id."""
        body: dict[str, object] = {"conf": dict(conf), "logical_date": None}
        if run_id is not None:
            body["dag_run_id"] = run_id
        return str(self.post(f"dags/{quote(dag_id)}/dagRuns", body)["dag_run_id"])

    def clear(self, dag_id: str, run_id: str) -> None:
        """Let all tasks of a run be done again."""
        body = {"dry_run": False, "only_failed": False}
        self.post(f"dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}/clear", body)

    def run_state(self, dag_id: str, run_id: str) -> str:
        """queued, running, success or failed."""
        return str(self.get(f"dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}")["state"])

    def failed_tasks(self, dag_id: str, run_id: str) -> list[str]:
        """Tasks of the run that failed."""
        path = f"dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}/taskInstances"
        found = self.get(path)["task_instances"]
        return [str(item["task_id"]) for item in found if item["state"] in ("failed", "upstream_failed")]

    def _sign_in(self) -> None:
        answer = self._send("POST", f"{self.url}/auth/token", json=self._account)
        if not answer.ok:
            text = f"Airflow at {self.url} does not let us in: {answer.text[:300]}"
            raise AirflowError(text, answer.status_code)
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        if "Authorization" not in self._session.headers:
            self._sign_in()
        url = f"{self.url}/api/v2/{path}"
        answer = self._send(method, url, **arguments)
        if answer.status_code == 401:
            self._sign_in()
            answer = self._send(method, url, **arguments)
        if not answer.ok:
            text = f"Airflow refused {method} {path} ({answer.status_code}): {answer.text[:1000]}"
            raise AirflowError(text, answer.status_code)
        return answer.json() if answer.content else None

    def _send(self, method: str, url: str, **arguments: Any) -> requests.Response:
        try:
            return self._session.request(method, url, timeout=TIMEOUT, **arguments)
        except requests.RequestException as error:
            raise AirflowError(f"Airflow at {self.url} does not answer: {type(error).__name__}") from None
