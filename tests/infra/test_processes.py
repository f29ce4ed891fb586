"""Ending process sessions: all of the session, nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.stack import processes

# A leader with a child in a process group of its own (as Airflow makes them) and one in a session of its own
# (as workers of the local site are); all of them ignore SIGTERM.
FAMILY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def child(leave):
    pid = os.fork()
    if pid == 0:
        leave()
        time.sleep(300)
    return pid
print(child(lambda: os.setpgid(0, 0)), child(os.setsid), flush=True)
time.sleep(300)
"""


class Family:
    """The leader of a session with one child that stays in it and one that leaves it."""

    def __init__(self) -> None:
        self.leader = subprocess.Popen(
            [sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.leader.stdout is not None
        self.inside, self.outside = map(int, self.leader.stdout.readline().split())
        while self.outside not in processes.members(self.outside):
            time.sleep(0.01)

    @property
    def session(self) -> int:
        return self.leader.pid

    def end(self) -> None:
        for session in (self.session, self.outside):
            processes.end_session(session)
        self.leader.wait()


@pytest.fixture
def family() -> Iterator[Family]:
    made = Family()
    yield made
    made.end()


def test_ends_all_of_the_session_and_nothing_else(family: Family) -> None:
    """Process groups inside the session end with it; a process that left the session lives on."""
    assert set(processes.members(family.session)) == {family.session, family.inside}
    assert processes.end_session(family.session) == []
    assert processes.members(family.session) == []
    assert processes.start_time(family.outside) is not None


def test_ends_what_a_killed_leader_has_left(family: Family, tmp_path: Path) -> None:
    """The record of a session is enough to end its orphans."""
    record = tmp_path / "x.session"
    processes.record(record, family.session)
    family.leader.kill()
    family.leader.wait()
    assert processes.members(family.session) == [family.inside]
    assert processes.end_recorded(record, signal.SIGTERM)
    assert processes.members(family.session) == []
    assert not record.exists()


def test_a_leader_that_ignores_the_polite_signal_is_killed(family: Family, tmp_path: Path) -> None:
    record = tmp_path / "x.session"
    processes.record(record, family.session)
    assert processes.end_recorded(record, signal.SIGTERM, patience=0.5)
    assert processes.members(family.session) == []


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}])
def test_a_stranger_with_the_same_number_is_left_alone(
    family: Family, tmp_path: Path, change: dict[str, object]
) -> None:
    """After a reboot, or when the number has been given to another process since, nothing is killed."""
    record = tmp_path / "x.session"
    processes.record(record, family.session)
    record.write_text(json.dumps({**json.loads(record.read_text()), **change}))
    assert not processes.end_recorded(record, signal.SIGKILL)
    assert processes.start_time(family.session) is not None


@pytest.mark.parametrize("text", [None, "", "{"])
def test_a_missing_or_torn_record_ends_nothing(tmp_path: Path, text: str | None) -> None:
    record = tmp_path / "x.session"
    if text is not None:
        record.write_text(text)
    assert not processes.end_recorded(record, signal.SIGKILL)
