"""The `wait` task: a trigger that ends it when a generation can be collected. No worker slot is held.

Runs in the triggerer. Everything it knows is in its arguments and in PostgreSQL, so that a restarted
triggerer begins it again where it was; its arguments hold no secrets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

from l2l_tasks import dag_campaign
from l2l_tasks.dag_campaign import Place
from l2l_tasks.dag_watcher import PoolStatus, SiteWatcher, back_off
from l2l_tasks.errors import SitePermanentError, SiteTransientError, UserError

if TYPE_CHECKING:
    from l2l_tasks.context import Context as Connections
    from l2l_tasks.steps import WaitRequest

# Seconds after which the campaign is looked up again while the site is silent: it may have been stopped.
LOOK_AGAIN = 60.0
STOP_TRIES = 3
# Airflow's default for `[triggerer] on_kill_timeout` is 30 s. What takes longer goes on in the background.
KILL_SECONDS = 25.0

# One per triggerer process: this is what makes one connection serve all campaigns of a site.
_connections: Connections | None = None
_watchers: dict[str, tuple[asyncio.AbstractEventLoop, SiteWatcher]] = {}
# Which try waits for a campaign now: (generation, DAG run, try). Of two tries that overlap after a clear,
# only the newest may cancel jobs.
_waiting: dict[str, tuple[int, str, int]] = {}
# Keeps tasks alive: the event loop itself holds them only weakly.
_stopping: set[asyncio.Task[None]] = set()


def shared_connections() -> Connections:
    """This process's connections, opened at first use (blocks: call it in a thread)."""
    global _connections
    if _connections is None:
        from l2l_tasks.context import open_context

        _connections = open_context()
    return _connections


async def watcher(site: str) -> SiteWatcher:
    """This process's one watcher of a site."""
    loop = asyncio.get_running_loop()
    known = _watchers.get(site)
    if known is None or known[0] is not loop:
        client = (await asyncio.to_thread(shared_connections)).site(site)
        # Another trigger may have been quicker while this one waited for the thread.
        known = _watchers.get(site)
        if known is None or known[0] is not loop:
            known = (loop, SiteWatcher(site, client.poll, client.profile.poll_interval))
            _watchers[site] = known
    return known[1]


class WaitTrigger(BaseTrigger):
    """Ends its task when the site has finished what the generation needs.

    Succeeds also when there is nothing to wait for: the generation is told, or the campaign has ended (the
    steps after it then do nothing). Fails when a person has to act; the campaign is then paused, and a
    paused one fails too, so that a retry does not make a refusal look like a success.

    Args:
        dag_id: the campaign's DAG.
        run_id: the DAG run.
        campaign: campaign id from the run's conf; "" in the run that began the campaign.
        generation: generation from the run's conf.
    """

    def __init__(self, dag_id: str, run_id: str, campaign: str = "", generation: str = "0") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.run_id = run_id
        self.campaign = campaign
        self.generation = generation
        self._place: Place | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "l2l_tasks.triggers.WaitTrigger",
            {
                "dag_id": self.dag_id,
                "run_id": self.run_id,
                "campaign": self.campaign,
                "generation": self.generation,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        failures = 0
        while True:
            try:
                request = await asyncio.to_thread(self._look)
                if request is None:
                    self.log.info("nothing to wait for")
                    yield TaskSuccessEvent()
                    return
                status = await self._wait(request)
                if status is not None:
                    self.log.info("site %s: %s", request.site, describe(status))
                    yield TaskSuccessEvent()
                    return
                failures = 0
            except (UserError, SitePermanentError) as error:
                await self._pause(str(error))
                yield TaskFailedEvent()
                return
            except Exception as error:
                # The database or a site profile may be away for a while. Ending the task here would say
                # something about the evaluations, and nothing is known about them.
                failures += 1
                delay = back_off(failures)
                self.log.warning("cannot look (%s), looking again in %.0f s", error, delay, exc_info=True)
                await asyncio.sleep(delay)

    def _look(self) -> WaitRequest | None:
        """What to wait for, from PostgreSQL."""
        from l2l_tasks import steps

        ctx = shared_connections()
        conf = {"campaign": self.campaign, "generation": self.generation}
        place = dag_campaign.find(ctx, self.dag_id, self.run_id, conf)
        if place is None:
            raise UserError(
                f"DAG run {self.run_id} of {self.dag_id} has not begun a campaign: run its submit"
            )
        request = steps.remaining_target(ctx, place.campaign, place.generation)
        if request is None:
            row = dag_campaign.campaign_row(ctx, place.campaign)
            if row.status == "paused":
                raise UserError(f"campaign {row.id} is paused: {row.reason}")
        if self._place is None:
            self._place = place
            _waiting[place.campaign] = max(self._fence(place), _waiting.get(place.campaign, (-1, "", -1)))
            if request is not None:
                self.log.info(
                    "campaign %s generation %s: waiting until %s evaluations are left at site %s",
                    place.campaign, place.generation, request.target, request.site,
                )  # fmt: skip
        return request

    async def _wait(self, request: WaitRequest) -> PoolStatus | None:
        """The pool's status when the wait is over; None after a while of waiting."""
        site = await watcher(request.site)
        try:
            return await asyncio.wait_for(site.wait(request), LOOK_AGAIN)
        except TimeoutError:
            return None

    def _fence(self, place: Place) -> tuple[int, str, int]:
        attempt = 0 if self.task_instance is None else self.task_instance.try_number
        return (place.generation, self.run_id, attempt)

    async def _pause(self, reason: str) -> None:
        self.log.error("%s", reason)
        if self._place is None:
            return
        from l2l_tasks import steps

        campaign = self._place.campaign
        try:
            ctx = await asyncio.to_thread(shared_connections)
            await asyncio.to_thread(steps.pause, ctx, campaign, reason, "airflow")
        except Exception:
            self.log.exception("campaign %s could not be marked as paused", campaign)
        self.log.error("campaign %s is paused; when that is mended: l2l resume %s", campaign, campaign)

    async def on_kill(self) -> None:
        """Stop the campaign when a user marked its wait as failed, and never otherwise.

        Airflow calls this also for a clear (which means: do it again) and for a task marked as successful
        (the evaluations are still wanted), so the task's state is asked for. A restart of Airflow does not
        come here at all.

        Airflow 3.3.2 repeats the cancellation every second until the trigger has ended, which would
        interrupt this method as often: what it does runs in a task of its own.
        """
        stopping = asyncio.create_task(self._stop_if_failed())
        _stopping.add(stopping)
        stopping.add_done_callback(_stopping.discard)
        clock = asyncio.get_running_loop().time
        deadline = clock() + KILL_SECONDS
        while not stopping.done() and clock() < deadline:
            try:
                await asyncio.wait([stopping], timeout=deadline - clock())
            except asyncio.CancelledError:
                continue

    async def _stop_if_failed(self) -> None:
        place = self._place
        if place is None or _waiting.get(place.campaign) != self._fence(place):
            self.log.info("not the current wait of its campaign: no job is cancelled")
            return
        state = await self._task_state()
        if state != "failed":
            self.log.info("the task is %s, not failed: no job is cancelled", state or "cleared")
            return
        for attempt in range(1, STOP_TRIES + 1):
            try:
                stopped = await asyncio.to_thread(self._stop, place)
            except SiteTransientError as error:
                self.log.warning(
                    "site did not confirm that the jobs are cancelled (%s/%s): %s", attempt, STOP_TRIES, error
                )
                await asyncio.sleep(3)
            else:
                self.log.info(
                    "campaign %s: %s",
                    place.campaign,
                    "stopped, jobs cancelled" if stopped else "has moved on",
                )
                return
        self.log.error("jobs of campaign %s may still run: l2l stop %s", place.campaign, place.campaign)

    def _stop(self, place: Place) -> bool:
        """Stop the campaign if this generation is its current one; whether it was."""
        from l2l_tasks import steps
        from l2l_tasks.store import generations

        # Connections of its own: those of the watcher may be in the middle of a poll.
        with dag_campaign.connections() as ctx:
            with ctx.engine.begin() as connection:
                last = generations.last(connection, place.campaign)
            if last is None or last.number != place.generation or last.told_at is not None:
                return False
            reason = f"the wait of generation {place.generation} was marked as failed in Airflow"
            steps.stop(ctx, place.campaign, "airflow", reason)
        return True

    async def _task_state(self) -> str | None:
        """State of this task as Airflow has it now; None when it is cleared or gone."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        task_id = str(self.task_id)
        states: Mapping[str, Mapping[str, Any]] = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=self.dag_id, task_ids=[task_id], run_ids=[self.run_id]
        )
        state = states.get(self.run_id, {}).get(task_id)
        return None if state is None else str(getattr(state, "value", state))


def describe(status: PoolStatus) -> str:
    """A pool status in words."""
    workers = status.get("workers") or []
    states: dict[str, int] = {}
    for worker in workers:
        states[worker["state"]] = states.get(worker["state"], 0) + 1
    listed = ", ".join(f"{n} {state.lower()}" for state, n in sorted(states.items())) or "none"
    text = f"{status['todo']} evaluations to do, {status['running']} running; workers: {listed}"
    if not status.get("known", True):
        text += " (the scheduler did not answer)"
    if status.get("rejected"):
        text += f"; the scheduler refused more: {status['rejected']}"
    return text + ("; stopped" if status.get("stopped") else "")
