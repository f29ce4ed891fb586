"""Whether the stack's services answer, which says more than that their processes exist."""

from __future__ import annotations

from collections.abc import Mapping

import requests

from infra import postgres
from infra.stack import ports
from infra.stack.launch import accepts
from infra.stack.layout import Layout

# Airflow's own name of a component -> ours
_AIRFLOW = {"scheduler": "scheduler", "triggerer": "triggerer", "dag_processor": "dag-processor"}
TIMEOUT = 10.0  # seconds for one answer


def check(layout: Layout) -> dict[str, str]:
    """Component -> "healthy" or what is wrong, for every component that serves."""
    cluster, chosen = postgres.load(layout.postgres), ports.load(layout)
    result = {"postgres": "healthy" if accepts(cluster, "l2l_app", "l2l") else "no connection"}
    answer = _get(f"http://127.0.0.1:{chosen.airflow}/api/v2/monitor/health")
    result["api-server"] = answer if isinstance(answer, str) else "healthy"
    for theirs, ours in _AIRFLOW.items():
        result[ours] = "not known: the API server does not answer"
        if not isinstance(answer, str):
            result[ours] = str((answer.json().get(theirs) or {}).get("status") or "no heartbeat yet")
    answer = _get(f"http://127.0.0.1:{chosen.mlflow}/health")
    result["mlflow"] = answer if isinstance(answer, str) else "healthy"
    return result


def unhealthy(report: Mapping[str, str]) -> dict[str, str]:
    """The part of a report that is not well."""
    return {name: state for name, state in report.items() if state != "healthy"}


def _get(url: str) -> requests.Response | str:
    """The answer, or why there is none."""
    try:
        with requests.Session() as session:
            session.trust_env = False  # a proxy has no business on loopback
            answer = session.get(url, timeout=TIMEOUT)
    except requests.ConnectionError:
        return "no connection"
    except requests.RequestException as error:
        return type(error).__name__
    return answer if answer.ok else f"HTTP status {answer.status_code}"
