"""The outbox against a real MLflow server: everything arrives once, whatever fails in between."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests
from mlflow import MlflowClient
from sqlalchemy import Engine, text

from l2l_tasks.errors import TrackingError
from l2l_tasks.store import campaigns, generations
from l2l_tasks.tracking import Tracker, drain
from tests.tracking.helpers import begin, tell, waiting


def run_of(engine: Engine, campaign_id: str) -> str:
    with engine.begin() as connection:
        run_id = campaigns.get(connection, campaign_id).mlflow_run_id
    assert run_id is not None
    return run_id


def points(uri: str, run_id: str, metric: str) -> list[tuple[int, int, float]]:
    history = MlflowClient(uri).get_metric_history(run_id, metric)
    return sorted((m.step, m.timestamp, m.value) for m in history)


def unsend(engine: Engine, campaign_id: str) -> None:
    """As if the process had died after sending and before noting it."""
    with engine.begin() as connection:
        statement = text("UPDATE l2l.outbox SET sent_at = NULL WHERE campaign_id = :id")
        connection.execute(statement, {"id": campaign_id})


def test_a_campaign_becomes_one_run_with_a_step_per_generation(
    engine: Engine, mlflow_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("L2L_AIRFLOW_URL", "http://localhost:8080/")
    campaign = begin(engine)
    payloads = [tell(engine, campaign.id, g) for g in range(3)]
    with engine.begin() as connection:
        campaigns.set_status(connection, campaign.id, "finished", "all 3 generations done", who="test")

    assert drain(engine, mlflow_server, campaign.id, final=True) == 0

    client = MlflowClient(mlflow_server)
    run_id = run_of(engine, campaign.id)
    run = client.get_run(run_id)
    experiment = client.get_experiment_by_name("sphere")
    assert experiment is not None
    assert run.info.experiment_id == experiment.experiment_id
    assert run.info.run_name == campaign.id
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.name"] == "cmaes"
    assert run.data.params["optimizee.options.dimension"] == "2"
    assert run.data.params["seed"] == "7"
    assert not {"description", "note", "tags"} & set(run.data.params), "prose is nothing to compare runs by"
    wanted = {
        "l2l.campaign": campaign.id,
        "l2l.site": "local",
        "l2l.optimizee": "sphere",
        "l2l.optimizer": "cmaes",
        "l2l.code_sha256": "c" * 64,
        "l2l.airflow": "http://localhost:8080/dags/probe/runs/manual__1",
        "tag.tests": "true",
        "mlflow.note.content": "A campaign of the tests.\n\nIs the note shown?",
    }
    assert wanted.items() <= run.data.tags.items()
    assert "l2l.version.numpy" in run.data.tags
    expected = [(p["generation"], p["told_at"], p["metrics"]["loss/best"]) for p in payloads]
    assert points(mlflow_server, run_id, "loss/best") == expected

    files = {a.path for a in client.list_artifacts(run_id)}
    assert files == {"spec.json", "best_individual.json", "fitness.png", "population"}
    best = json.loads(
        Path(client.download_artifacts(run_id, "best_individual.json", str(tmp_path))).read_text()
    )
    assert best == {"generation": 2, **payloads[2]["best"]}
    assert (
        Path(client.download_artifacts(run_id, "fitness.png", str(tmp_path))).read_bytes()[:4] == b"\x89PNG"
    )
    table = pq.read_table(client.download_artifacts(run_id, "population/g00001.parquet", str(tmp_path)))
    rows = table.to_pylist()
    assert [row["individual"] for row in rows] == [r["individual"] for r in payloads[1]["population"]]
    assert [row["fitness"] for row in rows] == [r["fitness"] for r in payloads[1]["population"]]
    assert [row["param.x"] for row in rows] == [r["params"]["x"] for r in payloads[1]["population"]]
    assert [json.loads(row["param.kind"]) for row in rows] == [3, "a", 3, "a"]
    with engine.begin() as connection:
        last = generations.last(connection, campaign.id)
    assert last is not None
    assert last.logged_at is not None


def test_sending_twice_changes_nothing(engine: Engine, mlflow_server: str) -> None:
    campaign = begin(engine)
    for generation in range(2):
        tell(engine, campaign.id, generation)
    drain(engine, mlflow_server, campaign.id)
    run_id = run_of(engine, campaign.id)
    before = points(mlflow_server, run_id, "loss/best")
    assert len(before) == 2

    unsend(engine, campaign.id)
    with engine.begin() as connection:  # nor is it known any more which run it was
        connection.execute(text("UPDATE l2l.campaigns SET mlflow_run_id = NULL"))
    drain(engine, mlflow_server, campaign.id)

    assert run_of(engine, campaign.id) == run_id
    assert points(mlflow_server, run_id, "loss/best") == before
    experiment = MlflowClient(mlflow_server).get_run(run_id).info.experiment_id
    found = MlflowClient(mlflow_server).search_runs([experiment], f"tags.`l2l.campaign` = '{campaign.id}'")
    assert [run.info.run_id for run in found] == [run_id]


def test_a_server_that_is_down_loses_nothing(engine: Engine, mlflow_server: str, closed_mlflow: str) -> None:
    campaign = begin(engine)
    tell(engine, campaign.id, 0)
    with pytest.raises(TrackingError, match="outbox keeps it"):
        drain(engine, closed_mlflow, campaign.id)
    tell(engine, campaign.id, 1)
    with pytest.raises(TrackingError, match=closed_mlflow):
        drain(engine, closed_mlflow, campaign.id)
    assert waiting(engine, campaign.id) == 2

    assert drain(engine, mlflow_server, campaign.id) == 0
    assert waiting(engine, campaign.id) == 0
    assert [step for step, _, _ in points(mlflow_server, run_of(engine, campaign.id), "loss/best")] == [0, 1]


def test_a_failure_half_way_is_made_good_without_doubled_points(
    engine: Engine, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metrics arrive, the way to the server breaks before the population does."""
    campaign = begin(engine)
    tell(engine, campaign.id, 0)
    drain(engine, mlflow_server, campaign.id)
    tell(engine, campaign.id, 1)
    send = requests.adapters.HTTPAdapter.send

    def cut(self: Any, request: Any, **kwargs: Any) -> Any:
        if request.method == "PUT":
            raise requests.ConnectionError("cut")
        return send(self, request, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(requests.adapters.HTTPAdapter, "send", cut)
        with pytest.raises(TrackingError):
            drain(engine, mlflow_server, campaign.id)
    assert waiting(engine, campaign.id) == 1
    run_id = run_of(engine, campaign.id)
    assert len(points(mlflow_server, run_id, "loss/best")) == 2

    assert drain(engine, mlflow_server, campaign.id) == 0
    assert len(points(mlflow_server, run_id, "loss/best")) == 2
    files = {a.path for a in MlflowClient(mlflow_server).list_artifacts(run_id, "population")}
    assert files == {"population/g00000.parquet", "population/g00001.parquet"}


def test_a_generation_costs_the_same_requests_whatever_its_population(
    engine: Engine, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    send = requests.adapters.HTTPAdapter.send

    def count(self: Any, request: Any, **kwargs: Any) -> Any:
        sent.append(f"{request.method} {request.path_url}")
        return send(self, request, **kwargs)

    requests_of = {}
    for population in (10, 1000):
        campaign = begin(engine, f"test:{population}")
        tell(engine, campaign.id, 0, population)
        drain(engine, mlflow_server, campaign.id)
        for generation in (1, 2):
            tell(engine, campaign.id, generation, population)
        drain(engine, mlflow_server, campaign.id)
        tell(engine, campaign.id, 3, population)
        sent.clear()
        with monkeypatch.context() as patch:
            patch.setattr(requests.adapters.HTTPAdapter, "send", count)
            drain(engine, mlflow_server, campaign.id)
        requests_of[population] = len(sent)
    assert requests_of[10] == requests_of[1000]
    assert 2 <= requests_of[10] <= 8, sent


def test_two_processes_at_once_make_one_run(engine: Engine, mlflow_server: str) -> None:
    campaign = begin(engine)
    for generation in range(2):
        tell(engine, campaign.id, generation)
    gate = threading.Barrier(4)

    def one() -> None:
        gate.wait()
        drain(engine, mlflow_server, campaign.id)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run_id = run_of(engine, campaign.id)
    client = MlflowClient(mlflow_server)
    experiment = client.get_run(run_id).info.experiment_id
    found = client.search_runs([experiment], f"tags.`l2l.campaign` = '{campaign.id}'")
    assert [run.info.run_id for run in found] == [run_id]
    assert len(points(mlflow_server, run_id, "loss/best")) == 2
    assert waiting(engine, campaign.id) == 0


def test_a_lost_run_is_made_anew(engine: Engine, mlflow_server: str) -> None:
    """Somebody deleted the run, or MLflow's database is gone: the campaign logs on."""
    campaign = begin(engine)
    tell(engine, campaign.id, 0)
    drain(engine, mlflow_server, campaign.id)
    lost = run_of(engine, campaign.id)
    MlflowClient(mlflow_server).delete_run(lost)
    tell(engine, campaign.id, 1)
    assert drain(engine, mlflow_server, campaign.id) == 0
    assert run_of(engine, campaign.id) != lost
    assert [step for step, _, _ in points(mlflow_server, run_of(engine, campaign.id), "loss/best")] == [1]


@pytest.mark.parametrize(("status", "expected"), [("stopped", "KILLED"), ("paused", "RUNNING")])
def test_the_run_ends_as_the_campaign_does(
    engine: Engine, mlflow_server: str, status: str, expected: str
) -> None:
    campaign = begin(engine)
    tell(engine, campaign.id, 0)
    with engine.begin() as connection:
        campaigns.set_status(connection, campaign.id, status, "because", who="test")
    drain(engine, mlflow_server, campaign.id, final=True)
    client = MlflowClient(mlflow_server)
    assert client.get_run(run_of(engine, campaign.id)).info.status == expected


def test_a_stopped_campaign_that_goes_on_has_an_open_run_again(engine: Engine, mlflow_server: str) -> None:
    campaign = begin(engine)
    tracker = Tracker(mlflow_server)
    run_id = tracker.ensure_run(campaign, None)
    tracker.finish(run_id, "KILLED")
    assert tracker.ensure_run(campaign, run_id) == run_id
    assert MlflowClient(mlflow_server).get_run(run_id).info.status == "RUNNING"
