"""One poller per site: what it asks, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from l2l_tasks import dag_watcher
from l2l_tasks.dag_watcher import PoolStatus, SiteWatcher, back_off
from l2l_tasks.errors import SitePermanentError, SiteTransientError, SiteUnknown
from l2l_tasks.steps.wait import WaitRequest

Answer = Callable[[Sequence[Mapping[str, Any]]], Mapping[str, PoolStatus]]


class Site:
    """Answers as it is told to, and notes what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[list[Mapping[str, Any]]] = []
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def poll(self, campaigns: Sequence[Mapping[str, Any]], wait: float) -> Mapping[str, PoolStatus]:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.asked.append(list(campaigns))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            threading.Event().wait(min(wait, 0.01))
            return answer(campaigns)
        finally:
            with self._lock:
                self.at_once -= 1


def left(todo: int, running: int = 0, **more: Any) -> Answer:
    status = {"known": True, "todo": todo, "running": running, "workers": [], "rejected": None, **more}
    return lambda campaigns: {c["campaign"]: status for c in campaigns}


def failing(error: Exception) -> Answer:
    def answer(_campaigns: Sequence[Mapping[str, Any]]) -> Mapping[str, PoolStatus]:
        raise error

    return answer


def request(campaign: str, target: int = 0) -> WaitRequest:
    return WaitRequest(campaign, "lab", 4, target)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_watcher, "FIRST_BACK_OFF", 0.01)
    monkeypatch.setattr(dag_watcher, "PAUSE", 0.0)


def watch(site: Site, *requests: WaitRequest) -> list[PoolStatus | BaseException]:
    async def all_of_them() -> list[PoolStatus | BaseException]:
        watcher = SiteWatcher("lab", site.poll, 0.02)
        waits = [watcher.wait(one) for one in requests]
        return await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 20)

    return asyncio.run(all_of_them())


def test_all_campaigns_of_a_site_are_one_question() -> None:
    site = Site(left(3), left(0))
    statuses = watch(site, *(request(f"c{i}") for i in range(50)))
    assert all(status["todo"] == 0 for status in statuses if isinstance(status, dict))
    assert len(statuses) == 50
    assert [len(asked) for asked in site.asked] == [50, 50]
    assert site.most_at_once == 1


def test_waits_until_what_runs_is_done_too() -> None:
    site = Site(left(2, 2), left(0, 3), left(0, 2), left(0, 1))
    watch(site, request("c", target=2))
    assert len(site.asked) == 3


def test_no_answer_changes_nothing() -> None:
    """Lost replies, a site that is down, our own mistakes: the question is asked again."""
    unknown = failing(SiteUnknown("connection lost"))
    site = Site(unknown, failing(SiteTransientError("down")), failing(KeyError("bug")), unknown, left(0))
    (status,) = watch(site, request("c"))
    assert isinstance(status, dict)
    assert len(site.asked) == 5


def test_a_scheduler_that_does_not_answer_changes_nothing() -> None:
    """Even with `rejected` set: it is not known whether workers are there."""
    site = Site(left(4, 0, known=False, rejected="?"), left(0))
    (status,) = watch(site, request("c"))
    assert isinstance(status, dict)


def test_a_campaign_that_the_answer_does_not_name_waits_on() -> None:
    site = Site(lambda campaigns: {"a": left(0)(campaigns)["a"]}, left(0))
    statuses = watch(site, request("a"), request("b"))
    assert all(isinstance(status, dict) for status in statuses)
    assert [{c["campaign"] for c in asked} for asked in site.asked] == [{"a", "b"}, {"b"}]


def test_a_site_that_refuses_fails_every_campaign_there() -> None:
    site = Site(failing(SitePermanentError("the key was revoked")))
    errors = watch(site, request("a"), request("b"))
    assert [str(error) for error in errors] == ["the key was revoked"] * 2
    assert all(isinstance(error, SitePermanentError) for error in errors)


def test_workers_that_are_refused_fail_only_their_campaign() -> None:
    def answer(campaigns: Sequence[Mapping[str, Any]]) -> Mapping[str, PoolStatus]:
        fine = left(0)(campaigns)
        return {**fine, "bad": {**fine["bad"], "todo": 4, "rejected": "invalid partition"}}

    good, bad = watch(Site(answer), request("good"), request("bad"))
    assert isinstance(good, dict)
    assert isinstance(bad, SitePermanentError)
    assert "invalid partition" in str(bad)


def test_refused_workers_are_no_matter_while_others_work() -> None:
    worker = {"state": "RUNNING"}
    site = Site(left(4, 1, rejected="too many jobs", workers=[worker]), left(0))
    (status,) = watch(site, request("c"))
    assert isinstance(status, dict)


def test_a_stopped_campaign_is_not_waited_for() -> None:
    (status,) = watch(Site(left(7, stopped=True)), request("c"))
    assert isinstance(status, dict)
    assert status["todo"] == 7


def test_who_is_cancelled_is_not_asked_about_any_more() -> None:
    async def scenario() -> Site:
        site = Site(left(1))
        watcher = SiteWatcher("lab", site.poll, 0.02)
        first = asyncio.create_task(watcher.wait(request("first")))
        second = asyncio.create_task(watcher.wait(request("second")))
        while len(site.asked) < 2:
            await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        asked = len(site.asked)
        while len(site.asked) < asked + 3:
            await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await asyncio.sleep(0.05)  # the poll under way ends, and no further one begins
        asked = len(site.asked)
        await asyncio.sleep(0.1)
        assert len(site.asked) == asked
        return site

    site = asyncio.run(scenario())
    assert {c["campaign"] for c in site.asked[0]} == {"first", "second"}
    assert {c["campaign"] for c in site.asked[-1]} == {"second"}


def test_two_tries_of_one_task_are_one_question() -> None:
    site = Site(left(3), left(0))
    watch(site, request("c", target=0), request("c", target=1))
    assert site.asked[0] == [{"campaign": "c", "workers": 4, "target": 1}]


def test_back_off_grows_to_five_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag_watcher, "FIRST_BACK_OFF", 5.0)
    delays = [back_off(n) for n in range(1, 2000)]
    assert 2.5 <= delays[0] <= 5
    assert all(150 <= delay <= 300 for delay in delays[7:])
