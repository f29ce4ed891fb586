"""The decisions of reconciliation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2l_tasks.agent import reconcile, scheduler
from l2l_tasks.agent.reconcile import ABSENT_GRACE, Memory, find_dead, missing_workers
from l2l_tasks.agent.scheduler import WorkerState


def state(name: str, job: str = "7", index: int = 0, restart: int = 0) -> WorkerState:
    return WorkerState(job, index, restart, name, name)


@pytest.mark.parametrize(
    ("said", "dead", "own_fault"),
    [
        (scheduler.RUNNING, False, False),
        (scheduler.UNKNOWN, False, False),
        (scheduler.PENDING, True, False),  # it had a folder: it was requeued
        (scheduler.COMPLETED, True, False),
        (scheduler.FAILED, True, True),
        (scheduler.OUT_OF_MEMORY, True, True),
        (scheduler.NODE_FAIL, True, False),
        (scheduler.PREEMPTED, True, False),
        (scheduler.TIMEOUT, True, False),
        (scheduler.CANCELLED, True, False),
    ],
)
@pytest.mark.parametrize("from_accounting", [False, True])
def test_what_the_scheduler_says(said: str, dead: bool, own_fault: bool, from_accounting: bool) -> None:
    """Each state of a worker with a folder; accounting is believed about ends only."""
    states = [state(said)]
    ended, answer = (states, []) if from_accounting else ([], states)
    found, absent = find_dead(["7_0_0"], answer, ended, {}, 100.0)
    if from_accounting and not states[0].ended:
        assert (found, absent) == ({}, {"7_0_0": 100.0})
    else:
        assert [death.own_fault for death in found.values()] == ([own_fault] if dead else [])
        assert absent == {}


def test_absence_counts_after_the_grace_only() -> None:
    """One empty answer proves nothing; a worker that shows up again starts from zero."""
    dead, absent = find_dead(["7_0_0"], [], [], {}, 100.0)
    assert (dead, absent) == ({}, {"7_0_0": 100.0})
    dead, absent = find_dead(["7_0_0"], [], [], absent, 100.0 + ABSENT_GRACE - 1)
    assert (dead, absent) == ({}, {"7_0_0": 100.0})
    assert find_dead(["7_0_0"], [state("RUNNING")], [], absent, 130.0) == ({}, {})
    dead, absent = find_dead(["7_0_0"], [], [], absent, 100.0 + ABSENT_GRACE)
    assert [death.own_fault for death in dead.values()] == [False]
    assert absent == {}


def test_restarts_are_told_apart() -> None:
    """The first life of a restarted worker is over, the second is not; letters belong to the same life."""
    folders = ["7_0_0", "7_0_1", "7_0_1-b", "7_1_0"]
    states = [state("RUNNING", restart=1), state("RUNNING", index=1)]
    dead, absent = find_dead(folders, states, [], {}, 0.0)
    assert {worker: death.how for worker, death in dead.items()} == {"7_0_0": "requeued"}
    assert absent == {}


def test_accounting_is_asked_about_the_missing_only() -> None:
    """Job ids of folders that the answer says nothing about."""
    folders = ["7_0_0", "8_3_0", "L9_1_0-b", "x"]
    assert reconcile.missing_from(folders, [state("RUNNING")]) == {"8", "L9"}


@given(
    most=st.integers(0, 50),
    bundles=st.lists(st.integers(1, 8), max_size=30),
    busy=st.integers(0, 20),
    idle=st.integers(0, 20),
    slots=st.integers(1, 8),
    unclear=st.integers(0, 20),
)
def test_number_of_workers(
    most: int, bundles: list[int], busy: int, idle: int, slots: int, unclear: int
) -> None:
    """Never more than the limit or than can be busy, and some whenever work waits and nobody is there."""
    live = busy + idle
    missing = missing_workers(most, sum(bundles), len(bundles), busy, slots, live, unclear)
    assert missing >= 0
    assert missing == 0 or live + unclear + missing <= most
    assert missing <= len(bundles)
    assert missing * slots < sum(bundles) + slots
    if bundles and not live and not unclear and most:
        assert missing > 0


def test_an_unclear_submission() -> None:
    """It counts as on its way until a job turns up that nobody knows, or the grace is over."""
    memory = Memory(open=[{"time": 0.0, "n": 3}, {"time": 50.0, "n": 2}], jobs=["1"])
    reconcile.absorb(memory, [state("RUNNING", "1")], 60.0, 300.0)
    assert reconcile.uncertain(memory) == 5
    reconcile.absorb(memory, [state("RUNNING", "1"), state("PENDING", "2")], 61.0, 300.0)
    assert (reconcile.uncertain(memory), memory.jobs) == (2, ["1", "2"])
    reconcile.absorb(memory, [state("PENDING", "2")], 349.0, 300.0)
    assert reconcile.uncertain(memory) == 2
    reconcile.absorb(memory, [state("PENDING", "2")], 351.0, 300.0)
    assert reconcile.uncertain(memory) == 0


def test_a_refusal_is_not_repeated_at_every_look() -> None:
    """At once when asked to or when it was temporary, else after a pause."""
    refused = Memory(refusal={"time": 100.0, "message": "no", "temporary": False})
    assert [reconcile.may_submit(refused, now, False) for now in (101.0, 399.0, 401.0)] == [
        False,
        False,
        True,
    ]
    assert reconcile.may_submit(refused, 101.0, True)
    assert reconcile.may_submit(
        Memory(refusal={"time": 100.0, "message": "", "temporary": True}), 101.0, False
    )
    assert reconcile.may_submit(Memory(), 0.0, False)


def test_workers_that_fail_before_they_begin() -> None:
    """A few in a row and none at work; those that somebody was told about do not count again."""
    names = ["7_0_0", "7_1_0", "8_0_0"]
    assert not reconcile.is_failing(names[:2], Memory(), False)
    assert reconcile.is_failing(names, Memory(), False)
    assert not reconcile.is_failing(names, Memory(), True)
    assert not reconcile.is_failing(names, Memory(forgiven=["7_0_0"]), False)
