"""The MLflow run of a campaign. Every call may be repeated: the run looks the same afterwards."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

# The outbox is what retries: MLflow's own default would hold a task for minutes when the server is down.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
# A campaign tells nobody but its own server.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import requests
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from l2l_tasks import settings
from l2l_tasks.errors import TrackingError
from l2l_tasks.store.campaigns import Campaign
from l2l_tasks.tracking import artifacts, records
from l2l_tasks.tracking.records import GenerationRecord, safe_name

# MLflow refuses larger batches.
METRICS_PER_BATCH = 1000
ACCOUNT = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
MISSING = "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"

Ending = Literal["FINISHED", "KILLED", "FAILED"]


class Tracker:
    """A connection to one MLflow server.

    Errors of the server and of the way to it are raised as TrackingError.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        for name in ACCOUNT:  # MLflow looks only into the environment
            if value := settings.value(name):
                os.environ[name] = value
        self._client = MlflowClient(tracking_uri=uri)

    def ensure_run(self, campaign: Campaign, existing_run_id: str | None) -> str:
        """The campaign's run, created and described unless it is there.

        Args:
            campaign: the campaign as stored.
            existing_run_id: the run that the store knows. If MLflow has lost it, another is created.

        Returns:
            Id of the run. Two processes at once could create two: the caller holds the campaign's
            tracking lock.
        """
        with self._asking(f"the run of campaign {campaign.id}"):
            run = self._known(existing_run_id) or self._search(campaign) or self._create(campaign)
            # The parameters are logged last: where there are some, the description is complete.
            if not run.data.params:
                self._describe(campaign, run.info.run_id)
            # A campaign that was stopped and goes on.
            if campaign.status == "running" and run.info.status != "RUNNING":
                self._client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)

    def log_batch(self, run_id: str, generations: Sequence[GenerationRecord]) -> None:
        """Log the metrics of some generations: one request per 1,000 numbers."""
        metrics = [
            Metric(name, value, r.told_at, r.generation)
            for r in generations
            for name, value in r.metrics.items()
        ]
        metrics += [
            Metric(name, value, r.told_at, step) for r in generations for name, value, step in r.points
        ]
        with self._asking(f"metrics of run {run_id}"):
            for start in range(0, len(metrics), METRICS_PER_BATCH):
                self._client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_BATCH])

    def log_population(self, run_id: str, record: GenerationRecord) -> None:
        """Store one generation's individuals as `population/g<generation>.parquet`."""
        data = artifacts.population_parquet(record.population, record.generation)
        self._put(run_id, f"population/g{record.generation:05d}.parquet", data)

    def log_best(self, run_id: str, record: GenerationRecord) -> None:
        """Store the best individual so far as `best_individual.json`."""
        text = json.dumps({"generation": record.generation, **(record.best or {})}, indent=2)
        self._put(run_id, "best_individual.json", text.encode())

    def log_plot(self, run_id: str, png: bytes) -> None:
        """Store the fitness plot as `fitness.png`."""
        self._put(run_id, "fitness.png", png)

    def log_learning(self, run_id: str, png: bytes) -> None:
        """Store the figure of the tests on held-out tasks as `held_out.png`."""
        self._put(run_id, "held_out.png", png)

    def log_sweep(
        self,
        campaign: Campaign,
        key: str,
        points: Sequence[tuple[str, float, int]],
        png: bytes,
        ended_at: int,
    ) -> None:
        """A run of its own for a sweep over numbers of training tasks, beside those of its campaigns.

        Args:
            campaign: one of them.
            key: of the sweep; the run that has it is written again.
            points: metric, value, number of training tasks (the step).
            png: the figure, stored as `learning_to_learn.png`.
            ended_at: when the last campaign ended, milliseconds since the epoch.
        """
        with self._asking(f"sweep {key}"):
            experiment = self._experiment(records.experiment_name(campaign))
            mine = f"tags.`{records.SWEEP_TAG}` = '{key}'"
            found = self._client.search_runs([experiment], mine, max_results=1)
            name = f"{campaign.name} over training tasks"
            run = (
                found[0]
                if found
                else self._client.create_run(experiment, ended_at, {records.SWEEP_TAG: key}, run_name=name)
            )
            metrics = [Metric(safe_name(metric), value, ended_at, step) for metric, value, step in points]
            self._client.log_batch(run.info.run_id, metrics=metrics)
        self._put(run.info.run_id, "learning_to_learn.png", png)
        self.finish(run.info.run_id, "FINISHED", ended_at)

    def finish(self, run_id: str, status: Ending, ended_at: int | None = None) -> None:
        """Close the run.

        Args:
            run_id: the run.
            status: how the campaign ended.
            ended_at: when, milliseconds since the epoch (default: now).
        """
        with self._asking(f"the end of run {run_id}"):
            self._client.set_terminated(run_id, status, ended_at)

    def _known(self, run_id: str | None) -> Run | None:
        if run_id is None:
            return None
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == MISSING:
                return None
            raise
        return run if run.info.lifecycle_stage == "active" else None

    def _search(self, campaign: Campaign) -> Run | None:
        experiment = self._client.get_experiment_by_name(records.experiment_name(campaign))
        if experiment is None:
            return None
        found = self._client.search_runs(
            [experiment.experiment_id], f"tags.`{records.CAMPAIGN_TAG}` = '{campaign.id}'", max_results=1
        )
        return found[0] if found else None

    def _create(self, campaign: Campaign) -> Run:
        experiment_id = self._experiment(records.experiment_name(campaign))
        started = int(campaign.created_at.timestamp() * 1000)
        tags = {records.CAMPAIGN_TAG: campaign.id}
        return self._client.create_run(experiment_id, started, tags, run_name=campaign.id)

    def _experiment(self, name: str) -> str:
        """Id of the experiment, made when there is none."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException as error:  # a campaign on the same problem was quicker
                found = self._client.get_experiment_by_name(name)
                if error.error_code != EXISTS or found is None:
                    raise
        return str(found.experiment_id)

    def _describe(self, campaign: Campaign, run_id: str) -> None:
        self._put(run_id, "spec.json", records.spec_text(campaign).encode())
        tags = records.tags(campaign, versions())
        params = records.params(campaign)
        self._client.log_batch(
            run_id,
            params=[Param(key, value) for key, value in params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )

    def _put(self, run_id: str, path: str, data: bytes) -> None:
        with self._asking(f"artifact {path} of run {run_id}"), tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(path).name
            file.write_bytes(data)
            self._client.log_artifact(run_id, str(file), str(Path(path).parent) if "/" in path else None)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except (MlflowException, requests.RequestException) as error:
            raise TrackingError(
                f"MLflow at {self.uri} did not take {what}: {str(error)[:500]}. "
                "Nothing is lost: the outbox keeps it until MLflow answers."
            ) from error


def versions() -> Mapping[str, str]:
    """Versions of what shapes a result: this project, its optimizers' libraries, Airflow, MLflow."""
    found = {}
    for package in ("l2l-airflow", "numpy", "scipy", "apache-airflow", "mlflow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout, or without Airflow
            continue
    return found
