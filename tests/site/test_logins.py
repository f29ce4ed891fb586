"""The gate of logins under a simulated clock: budget, back-off, circuit, and a state file that is shared."""

from __future__ import annotations

import stat
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2l_tasks.errors import SitePermanentError, SiteTransientError
from l2l_tasks.site.transport.logins import HOUR, LoginGate

DAY = 86_400.0


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def gate(folder: Path, clock: Clock, per_hour: int = 3) -> LoginGate:
    return LoginGate(folder, "test", per_hour, clock=clock, jitter=lambda: 1.0)


@settings(max_examples=60, deadline=None)
@given(
    per_hour=st.integers(1, 5),
    steps=st.lists(st.tuples(st.floats(0, 2000), st.sampled_from(["ok", "failed"])), max_size=40),
)
def test_never_more_logins_in_any_hour_than_the_budget(per_hour: int, steps: list[tuple[float, str]]) -> None:
    """Whatever happens when: each window of 3600 s holds at most the budget, failures included."""
    clock, admitted = Clock(), []
    with tempfile.TemporaryDirectory() as folder:
        for pause, outcome in steps:
            clock.now += pause
            fresh = gate(Path(folder), clock, per_hour)  # every process reads the file anew
            try:
                fresh.admit()
            except SiteTransientError:
                continue
            admitted.append(clock.now)
            if outcome == "ok":
                fresh.succeeded()
            else:
                fresh.failed("the connection was refused")
    for end in admitted:
        assert sum(1 for t in admitted if end - HOUR < t <= end) <= per_hour


def test_pauses_double_up_to_the_longest_and_a_success_ends_them(tmp_path: Path) -> None:
    clock = Clock()
    one = gate(tmp_path, clock, per_hour=100)
    pauses = []
    for _ in range(12):
        one.admit()
        pauses.append(one.failed("refused"))
        with pytest.raises(SiteTransientError, match="refused; retry at"):
            one.admit()
        clock.now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    one.admit()
    one.succeeded()
    one.admit()
    assert one.failed("refused") == 1


def test_jitter_spreads_the_pauses(tmp_path: Path) -> None:
    """Machines that failed together must not come back together."""
    one = LoginGate(tmp_path, "test", 100, clock=Clock())
    pauses = []
    for _ in range(8):
        pauses.append(one.failed("refused"))
        one.reset()
    assert len(set(pauses)) == 8
    assert all(0.5 <= pause <= 1.5 for pause in pauses)


def test_a_refusal_stops_every_process_until_reset(tmp_path: Path) -> None:
    clock = Clock()
    one, other = gate(tmp_path, clock), gate(tmp_path, clock)
    one.admit()
    one.refused("the site did not accept the key")
    clock.now += 30 * DAY
    with pytest.raises(SitePermanentError, match=r"stopped: the site did not accept the key.*--reset"):
        other.admit()
    other.reset()
    one.admit()


def test_reset_does_not_give_back_the_budget(tmp_path: Path) -> None:
    """The site has counted those logins, whatever a person has mended since."""
    clock = Clock()
    one = gate(tmp_path, clock)
    for _ in range(3):
        one.admit()
    one.reset()
    with pytest.raises(SiteTransientError, match=r"budget of 3 logins.*in 3600 s"):
        one.admit()
    clock.now += HOUR
    one.admit()
    assert one.read().total == 4


def test_a_clock_that_was_set_back_does_not_block_for_long(tmp_path: Path) -> None:
    clock = Clock()
    one = gate(tmp_path, clock)
    for _ in range(3):
        one.admit()
    one.failed("refused")
    clock.now -= 365 * DAY
    one.admit()


def test_damaged_state_stops_instead_of_forgetting(tmp_path: Path) -> None:
    """Forgetting would give a full budget to a machine that may have used it up."""
    (tmp_path / "logins.json").write_text("{")
    with pytest.raises(SitePermanentError, match=r"logins\.json is damaged"):
        gate(tmp_path, Clock()).admit()


def test_one_login_at_a_time(tmp_path: Path) -> None:
    """The lock excludes other openings of the same folder, and says so at the deadline."""
    one, other, order = gate(tmp_path, Clock()), gate(tmp_path, Clock()), []
    with one.lock(time.monotonic()):
        with (
            pytest.raises(SiteTransientError, match="another process of this machine still logs in"),
            other.lock(time.monotonic() + 0.1),
        ):
            order.append("never")
        thread = threading.Thread(target=lambda: _hold(other, order))
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert stat.S_IMODE((tmp_path / "login.lock").stat().st_mode) == 0o600


def _hold(other: LoginGate, order: list[str]) -> None:
    with other.lock(time.monotonic() + 10):
        order.append("second")
