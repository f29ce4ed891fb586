"""Campaigns, events, and the overview."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from l2l_tasks.errors import UserError
from l2l_tasks.store import campaigns, evaluations, events, workers
from l2l_tasks.store.workers import WorkerRow
from tests.store import build


def test_a_campaign_comes_back_as_created(connection: Connection) -> None:
    made = build.campaign(
        connection, origin="airflow:sphere/run1", spec={"a": [1, None, "ü"]}, seed=2**63 - 1
    )
    assert made.id.startswith("sphere-test-")
    assert len(made.id) == len("sphere-test-") + 8
    assert made == campaigns.get(connection, made.id) == campaigns.find(connection, "airflow:sphere/run1")
    assert (made.status, made.staged, made.next_generation, made.mlflow_run_id) == ("running", False, 0, None)
    assert made.spec == {"a": [1, None, "ü"]}
    assert made.seed == 2**63 - 1


def test_one_origin_makes_one_campaign(connection: Connection) -> None:
    """A repeated start (a retried task) must not start a second campaign."""
    first = build.campaign(connection, origin="cli/1")
    second = build.campaign(connection, origin="cli/1", name="other", seed=99)
    assert second == first
    assert [event.kind for event in events.recent(connection, first.id, 10)] == ["created"]


def test_two_at_once_with_one_origin_make_one_campaign(engine: Engine) -> None:
    """The second waits for the first to commit and then finds its campaign."""
    ids: list[str] = []

    def create() -> None:
        with engine.begin() as own:
            ids.append(build.campaign(own, origin="same").id)

    with engine.begin() as mine:
        first = build.campaign(mine, origin="same").id
        thread = threading.Thread(target=create)
        thread.start()
        _wait_until_blocked(engine)
    thread.join(30)
    assert ids == [first]


def _wait_until_blocked(engine: Engine) -> None:
    """Until some connection to this database waits for a lock."""
    query = sa.text("""
        SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()
    """)
    for _ in range(3000):
        with engine.connect() as look:
            if look.scalar(query):
                return
        threading.Event().wait(0.01)
    raise AssertionError("nobody waits for the lock")


@pytest.mark.parametrize("name", ["", "Sphere", "a b", "-a", "a/b", "ä", "a\n"])
def test_a_name_that_cannot_be_an_id_is_refused(connection: Connection, name: str) -> None:
    with pytest.raises(UserError, match="small letters"):
        build.campaign(connection, name=name)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_does_not_fit_is_refused(connection: Connection, seed: int) -> None:
    with pytest.raises(UserError, match="seed"):
        build.campaign(connection, seed=seed)


def test_an_unknown_campaign_is_the_users_error(connection: Connection) -> None:
    for call in (campaigns.get, campaigns.lock, campaigns.set_staged):
        with pytest.raises(UserError, match="no campaign 'none-00000000'"):
            call(connection, "none-00000000")
    assert campaigns.find(connection, "nobody") is None


def test_status_changes_are_kept_as_events(connection: Connection) -> None:
    made = build.campaign(connection)
    assert campaigns.set_status(connection, made.id, "paused", "key refused", who="collect")
    assert not campaigns.set_status(connection, made.id, "paused", "key refused", who="collect")
    paused = campaigns.get(connection, made.id)
    assert (paused.status, paused.reason, paused.ended_at) == ("paused", "key refused", None)
    assert campaigns.set_status(connection, made.id, "stopped", who="alice")
    assert campaigns.get(connection, made.id).ended_at is not None
    assert campaigns.set_status(connection, made.id, "running", who="alice")
    again = campaigns.get(connection, made.id)
    assert (again.status, again.reason, again.ended_at) == ("running", None, None)
    seen = [(e.kind, e.who, e.detail.get("to")) for e in events.recent(connection, made.id, 3)]
    assert seen == [
        ("status", "alice", "running"),
        ("status", "alice", "stopped"),
        ("status", "collect", "paused"),
    ]


def test_an_unknown_status_is_refused(connection: Connection) -> None:
    made = build.campaign(connection)
    with pytest.raises(ValueError, match="running, paused, stopped, finished"):
        campaigns.set_status(connection, made.id, "dead", who="x")


def test_small_setters(connection: Connection) -> None:
    made = build.campaign(connection)
    campaigns.set_mlflow_run(connection, made.id, "run1")
    campaigns.set_staged(connection, made.id)
    changed = campaigns.get(connection, made.id)
    assert (changed.mlflow_run_id, changed.staged) == ("run1", True)


def test_events_of_no_campaign_and_what_text_cannot_hold(connection: Connection) -> None:
    """A message of a site may hold bytes that PostgreSQL refuses; the event must be written all the same."""
    made = build.campaign(connection)
    events.add(connection, None, "upgrade", {"text": "a\0b\ud800"}, who="o\0wner")
    events.add(connection, made.id, "x", {}, who="me")
    (found,) = events.recent(connection, None, 5)
    assert (found.kind, found.who, found.detail) == ("upgrade", "o\ufffdwner", {"text": "a\ufffdb\ufffd"})
    assert [event.kind for event in events.recent(connection, made.id, 1)] == ["x"]


def test_listing_shows_totals_newest_first(engine: Engine) -> None:
    with engine.begin() as connection:
        old = build.campaign(connection)
    with engine.begin() as connection:
        new = build.campaign(connection)
        build.ask(connection, new.id, 0, range(4))
        results = [build.result(0), build.result(1), build.failure(2, final=True)]
        evaluations.ingest(connection, new.id, results)
        build.tell(connection, new.id, 0, [0, 1])
        build.ask(connection, new.id, 1, [4])
        running = WorkerRow("1_0_0", "1", 0, 0, "RUNNING", cpus=4, started=0.0)
        waiting = WorkerRow("1_1_0", "1", 1, 0, "PENDING")
        ended = WorkerRow("1_2_0", "1", 2, 0, "COMPLETED", cpus=2, started=100.0, ended=110.0)
        workers.upsert(connection, new.id, [running, waiting, ended])
    with engine.begin() as connection:
        first, second = campaigns.listing(connection)
    assert (first.id, second.id) == (new.id, old.id)
    assert (first.generation, first.generations_told, first.told_at is not None) == (1, 1, True)
    done = (first.evaluations_done, first.evaluations_ok, first.evaluations_failed, first.evaluations_total)
    assert done == (3, 2, 1, 5)
    assert (first.live_workers, first.waiting_workers) == (1, 1)
    assert first.core_seconds > 20
    assert (second.generation, second.live_workers, second.core_seconds) == (None, 0, 0)
