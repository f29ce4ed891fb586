"""One poller per site for all campaigns that wait for it.

Lives in the triggerer's event loop: however many campaigns wait, a site sees one connection and one question
at a time. Knows nothing of Airflow.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from l2l_tasks.errors import SitePermanentError, SiteTransientError

if TYPE_CHECKING:
    from l2l_tasks.steps import WaitRequest

logger = logging.getLogger(__name__)

PoolStatus = Mapping[str, Any]
Poll = Callable[[Sequence[Mapping[str, Any]], float], Mapping[str, PoolStatus]]
"""poll(campaigns, wait) -> pool status by campaign; blocks, at most about `wait` seconds."""

# Seconds. The first look after something changed is short, so that quick generations are quick; while
# nothing changes, looks become as rare as the site's profile asks for.
FIRST_WAIT = 1.0
GROWTH = 1.6
PAUSE = 0.3
FIRST_BACK_OFF = 5.0
LONGEST_BACK_OFF = 300.0


@dataclass(eq=False)
class _Waiting:
    request: WaitRequest
    done: asyncio.Future[PoolStatus]


class SiteWatcher:
    """Waits for evaluations at one site.

    Args:
        site: name of the site (for messages).
        poll: the question to the site.
        interval: longest time between two questions, seconds.
    """

    def __init__(self, site: str, poll: Poll, interval: float) -> None:
        self.site = site
        self._poll = poll
        self._interval = interval
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._changed = False
        # A thread of its own: a poll that hangs must not take those that the triggerer needs.
        self._thread = ThreadPoolExecutor(1, f"watch-{site}")

    async def wait(self, request: WaitRequest) -> PoolStatus:
        """Return when at most `request.target` evaluations are left at the site, or it was stopped there.

        No answer, or one that does not know, changes nothing: the question is asked again, ever more rarely.

        Raises:
            SitePermanentError: the site refuses, for this campaign or for all; a person has to act.
        """
        entry = _Waiting(request, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._changed = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"watch {self.site}")
        try:
            return await entry.done
        finally:
            self._waiting.remove(entry)

    async def _run(self) -> None:
        failures, wait = 0, FIRST_WAIT
        loop = asyncio.get_running_loop()
        while self._pending():
            if self._changed:
                self._changed, wait = False, min(FIRST_WAIT, self._interval)
            try:
                statuses = await loop.run_in_executor(self._thread, self._poll, self._asked(), wait)
            except SitePermanentError as error:
                self._refuse_all(error)
                continue
            except Exception as error:
                failures += 1
                delay = back_off(failures)
                # Anything that is not a fault of the site is a mistake of ours: keep its traceback.
                logger.warning(
                    "site %s gave no answer (%s time in a row), asking again in %.0f s: %s",
                    self.site, failures, delay, error, exc_info=not isinstance(error, SiteTransientError),
                )  # fmt: skip
                await asyncio.sleep(delay)
                continue
            if failures:
                logger.info("site %s answers again", self.site)
            failures = 0
            for entry in self._pending():
                self._settle(entry, statuses.get(entry.request.campaign))
            wait = min(wait * GROWTH, self._interval)
            await asyncio.sleep(min(PAUSE, self._interval))

    def _pending(self) -> list[_Waiting]:
        return [entry for entry in self._waiting if not entry.done.done()]

    def _asked(self) -> list[dict[str, Any]]:
        """Each campaign once, also when an old and a new try of a task overlap."""
        asked: dict[str, dict[str, Any]] = {}
        for entry in self._pending():
            request = entry.request
            known = asked.setdefault(
                request.campaign,
                {"campaign": request.campaign, "workers": request.workers, "target": request.target},
            )
            known["target"] = max(known["target"], request.target)
        return list(asked.values())

    def _settle(self, entry: _Waiting, status: PoolStatus | None) -> None:
        if status is None:
            return
        left = status["todo"] + status["running"]
        if left <= entry.request.target or status.get("stopped"):
            entry.done.set_result(status)
            self._changed = True
        elif status.get("rejected") and status.get("known") and not status.get("workers"):
            entry.done.set_exception(
                SitePermanentError(
                    f"the scheduler of site {self.site} refuses the workers: {status['rejected']}. "
                    "Mend `resources` in the campaign or the site profile, then resume the campaign."
                )
            )

    def _refuse_all(self, error: SitePermanentError) -> None:
        for entry in self._pending():
            entry.done.set_exception(SitePermanentError(str(error)))


def back_off(failures: int) -> float:
    """Seconds until the next question after some failures in a row: doubling, with jitter, at most 5 min."""
    longest = min(LONGEST_BACK_OFF, FIRST_BACK_OFF * 2.0 ** min(failures - 1, 20))
    return longest * random.uniform(0.5, 1.0)
