"""The `wait` task's trigger against a real site of this machine and a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent, TriggerEvent
from sqlalchemy import text

from l2l_tasks import dag_names, steps, triggers
from l2l_tasks.context import Context, open_context
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.store import campaigns
from l2l_tasks.triggers import WaitTrigger
from tests.dag.campaign_files import REPOSITORY, campaign
from tests.support.local_site import LocalSite
from tests.support.postgres import Database

DAG_ID, RUN_ID = "probe", "manual__1"


@pytest.fixture
def ctx(database: Database, local_site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    """Connections of the tasks; the triggerer's own are forgotten before and after."""
    assert local_site.name == "testsite"
    monkeypatch.setenv("L2L_DATABASE_URL", database.app_url)
    monkeypatch.setattr(triggers, "_connections", None)
    monkeypatch.setattr(triggers, "_watchers", {})
    monkeypatch.setattr(triggers, "_waiting", {})
    made = open_context()
    yield made
    made.close()
    if triggers._connections is not None:
        triggers._connections.close()


def begin(ctx: Context, **changes: Any) -> str:
    spec = CampaignSpec.model_validate(campaign(DAG_ID, site="testsite", **changes))
    return steps.begin(ctx, dag_names.origin(DAG_ID, RUN_ID), spec, REPOSITORY, "test")


def status(ctx: Context, campaign_id: str) -> tuple[str, str | None]:
    with ctx.engine.begin() as connection:
        row = campaigns.get(connection, campaign_id)
    return row.status, row.reason


async def first_event(trigger: WaitTrigger) -> TriggerEvent:
    async for event in trigger.run():
        return event
    raise AssertionError("the trigger ended without an event")


def fire(trigger: WaitTrigger, seconds: float = 60.0) -> TriggerEvent:
    return asyncio.run(asyncio.wait_for(first_event(trigger), seconds))


def test_it_can_be_made_again_from_its_arguments() -> None:
    """This is how a restarted triggerer goes on; nothing secret is among them."""
    path, arguments = WaitTrigger("d", "r", "d-00000001", "7").serialize()
    assert path == f"{WaitTrigger.__module__}.{WaitTrigger.__qualname__}"
    assert arguments == {"dag_id": "d", "run_id": "r", "campaign": "d-00000001", "generation": "7"}
    assert WaitTrigger(**arguments).serialize() == (path, arguments)


def test_it_waits_for_the_workers_of_its_own_campaign(ctx: Context) -> None:
    campaign_id = begin(ctx)
    steps.submit(ctx, campaign_id, 0)
    assert isinstance(fire(WaitTrigger(DAG_ID, "another")), TaskFailedEvent), "it began no campaign"
    assert isinstance(fire(WaitTrigger(DAG_ID, RUN_ID, "probe-00000000")), TaskFailedEvent), (
        "unknown campaign"
    )
    assert isinstance(fire(WaitTrigger("other", RUN_ID, campaign_id)), TaskFailedEvent), (
        "another DAG's campaign"
    )
    assert isinstance(fire(WaitTrigger(DAG_ID, RUN_ID)), TaskSuccessEvent)
    assert steps.collect(ctx, campaign_id, 0)
    assert steps.update(ctx, campaign_id, 0).proceed
    # Told: there is nothing to wait for any more, whoever asks.
    assert isinstance(fire(WaitTrigger(DAG_ID, RUN_ID)), TaskSuccessEvent)
    assert isinstance(fire(WaitTrigger(DAG_ID, "another", campaign_id, "0")), TaskSuccessEvent)


def test_two_campaigns_share_one_watcher(ctx: Context) -> None:
    ids = []
    for i in range(2):
        spec = CampaignSpec.model_validate(campaign(DAG_ID, site="testsite", seed=i))
        ids.append(steps.begin(ctx, dag_names.origin(DAG_ID, f"run{i}"), spec, REPOSITORY, "test"))
        steps.submit(ctx, ids[i], 0)

    async def both() -> list[TriggerEvent]:
        waits = [first_event(WaitTrigger(DAG_ID, f"run{i}")) for i in range(2)]
        return await asyncio.wait_for(asyncio.gather(*waits), 60)

    assert [type(event) for event in asyncio.run(both())] == [TaskSuccessEvent, TaskSuccessEvent]
    assert list(triggers._watchers) == ["testsite"]


def test_a_paused_campaign_fails_its_wait(ctx: Context) -> None:
    """Else the retry after a refusal of the site would end as a success."""
    campaign_id = begin(ctx, optimizee={"name": "sphere", "options": {"dimension": 2, "run_time": 60}})
    steps.submit(ctx, campaign_id, 0)
    steps.pause(ctx, campaign_id, "by hand", "test")
    assert isinstance(fire(WaitTrigger(DAG_ID, RUN_ID)), TaskFailedEvent)
    assert status(ctx, campaign_id) == ("paused", "by hand")
    steps.stop(ctx, campaign_id, "test", "enough")
    assert isinstance(fire(WaitTrigger(DAG_ID, RUN_ID)), TaskSuccessEvent)


def test_a_site_that_is_gone_pauses_the_campaign(ctx: Context, local_site: LocalSite) -> None:
    campaign_id = begin(ctx, optimizee={"name": "sphere", "options": {"dimension": 2, "run_time": 60}})
    steps.submit(ctx, campaign_id, 0)
    profile = local_site.work.parent / "sites" / "testsite.yaml"
    kept = profile.read_text()
    profile.unlink()
    assert isinstance(fire(WaitTrigger(DAG_ID, RUN_ID)), TaskFailedEvent)
    profile.write_text(kept)
    state, reason = status(ctx, campaign_id)
    assert state == "paused"
    assert "no site profile 'testsite'" in str(reason)


def test_a_database_that_is_away_is_waited_for(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign_id = begin(ctx)
    steps.submit(ctx, campaign_id, 0)
    monkeypatch.setattr(triggers, "back_off", lambda _failures: 0.05)
    look = WaitTrigger._look
    failures = [0]

    def away_at_first(self: WaitTrigger) -> Any:
        failures[0] += 1
        if failures[0] <= 3:
            with triggers.shared_connections().engine.begin() as connection:
                connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return look(self)

    monkeypatch.setattr(WaitTrigger, "_look", away_at_first)
    assert isinstance(fire(WaitTrigger(DAG_ID, RUN_ID)), TaskSuccessEvent)
    assert failures[0] > 3
    assert status(ctx, campaign_id)[0] == "running"


class Wait:
    """A trigger that waits, as one try of a task, and is killed by a user."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, attempt: int = 1) -> None:
        self.trigger = WaitTrigger(DAG_ID, RUN_ID)
        monkeypatch.setattr(self.trigger, "_task_instance", SimpleNamespace(try_number=attempt))
        self._patch = monkeypatch

    async def begin(self) -> None:
        self.task = asyncio.create_task(first_event(self.trigger))
        while self.trigger._place is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

    async def cancel(self) -> None:
        """What a restart of the triggerer does."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.trigger.cleanup()

    async def kill(self, task_state: str | None) -> None:
        async def state() -> str | None:
            return task_state

        # Airflow's answer; the question itself is part of the end-to-end tests.
        self._patch.setattr(self.trigger, "_task_state", state)
        await self.cancel()
        await self.trigger.on_kill()


@pytest.fixture
def slow(ctx: Context) -> str:
    """A campaign whose evaluations take longer than any test."""
    campaign_id = begin(ctx, optimizee={"name": "sphere", "options": {"dimension": 2, "run_time": 600}})
    steps.submit(ctx, campaign_id, 0)
    return campaign_id


def live(ctx: Context, campaign_id: str) -> int:
    request = [{"campaign": campaign_id, "workers": 0, "target": 0}]
    found = ctx.site("testsite").poll(request, wait=0)[campaign_id]
    return len(found["workers"])


def test_marking_the_wait_as_failed_cancels_the_jobs(
    ctx: Context, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert live(ctx, slow) > 0

    async def scenario() -> None:
        wait = Wait(monkeypatch)
        await wait.begin()
        await wait.kill("failed")

    asyncio.run(scenario())
    assert status(ctx, slow) == ("stopped", "the wait of generation 0 was marked as failed in Airflow")
    assert live(ctx, slow) == 0


def test_repeated_cancellations_do_not_interrupt_the_stop(
    ctx: Context, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow 3.3.2 cancels a trigger once a second until it has ended, on_kill included."""

    async def scenario() -> None:
        wait = Wait(monkeypatch)
        await wait.begin()
        killing = asyncio.create_task(wait.kill("failed"))
        while wait.task.cancelling() == 0 or not wait.task.done():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        while not killing.done():
            killing.cancel()
            await asyncio.sleep(0.01)

    asyncio.run(scenario())
    assert status(ctx, slow)[0] == "stopped"
    assert live(ctx, slow) == 0


def test_nothing_else_cancels_jobs(ctx: Context, slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a restart of the triggerer nor a clear (the task is on its way again) nor a success by hand."""

    async def scenario() -> None:
        wait = Wait(monkeypatch)
        await wait.begin()
        await wait.cancel()
        for attempt, state in enumerate([None, "scheduled", "deferred", "success"], start=2):
            wait = Wait(monkeypatch, attempt)
            await wait.begin()
            await wait.kill(state)

    asyncio.run(scenario())
    assert status(ctx, slow)[0] == "running"
    assert live(ctx, slow) > 0


def test_an_old_try_cannot_cancel_the_jobs_of_the_new_one(
    ctx: Context, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a clear Airflow kills the old trigger when the new one has begun already."""

    async def scenario() -> None:
        old, new = Wait(monkeypatch, 1), Wait(monkeypatch, 2)
        await old.begin()
        await new.begin()
        await old.kill("failed")
        await new.cancel()

    asyncio.run(scenario())
    assert status(ctx, slow)[0] == "running"
    assert live(ctx, slow) > 0


def test_a_generation_that_is_over_cannot_stop_the_campaign(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = begin(ctx)

    async def scenario() -> None:
        wait = Wait(monkeypatch)
        await wait.begin()
        await wait.task
        assert await asyncio.to_thread(steps.collect, ctx, campaign_id, 0)
        await asyncio.to_thread(steps.update, ctx, campaign_id, 0)
        await wait.kill("failed")

    steps.submit(ctx, campaign_id, 0)
    asyncio.run(scenario())
    assert status(ctx, campaign_id)[0] == "running"
