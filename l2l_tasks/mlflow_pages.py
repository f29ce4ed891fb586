"""Addresses of MLflow's pages (no MLflow in here)."""

from __future__ import annotations

from l2l_tasks import settings

# MLflow's pages are made for chat applications unless the address asks for those of experiments.
VIEW = "workflowType=machine_learning"


def run_page(run_id: str | None) -> str:
    """Page of a run; empty when there is none or MLflow's address is not known.

    MLflow finds a run by its id, whatever the experiment in the address; its short form `#/runs/ID` would
    lose the view on the way.
    """
    base = settings.value("L2L_MLFLOW_URL") or settings.value("MLFLOW_TRACKING_URI") or ""
    if not run_id or not base.startswith("http"):
        return ""
    return f"{base.rstrip('/')}/#/experiments/-/runs/{run_id}?{VIEW}"
