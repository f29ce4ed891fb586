"""Names by which a campaign and its DAG runs find each other. Each is a function of what it names."""

from __future__ import annotations

ORIGIN = "airflow:"


def origin(dag_id: str, run_id: str) -> str:
    """What began the campaign of a DAG run: unique, so that beginning twice gives one campaign."""
    return f"{ORIGIN}{dag_id}/{run_id}"


def first_run(origin: str) -> tuple[str, str] | None:
    """(DAG id, run id) of the DAG run that began a campaign, or None when something else did."""
    if not origin.startswith(ORIGIN):
        return None
    dag_id, _, run_id = origin.removeprefix(ORIGIN).partition("/")
    return dag_id, run_id


def run_id(campaign_id: str, generation: int) -> str:
    """Run id of a later generation: the same for every attempt to trigger it."""
    return f"{campaign_id}__g{generation:05d}"
