"""Whom the watchdog restarts, as a function of what it sees; which logs it removes."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from infra.stack.watchdog import Patience, forget_logs

NAMES = ["postgres", "api-server", "scheduler", "dag-processor", "triggerer", "mlflow"]
REPORTS = st.fixed_dictionaries({name: st.sampled_from(["healthy", "no connection"]) for name in NAMES})


def report(*ill: str) -> dict[str, str]:
    return {name: "no connection" if name in ill else "healthy" for name in NAMES}


def test_ill_for_long_enough_without_a_pause() -> None:
    """One healthy look starts the time anew; after a restart the component gets as long again."""
    patience = Patience(100.0)
    assert patience.look(report("triggerer"), 0.0) == []
    assert patience.look(report(), 90.0) == []
    assert patience.look(report("triggerer"), 95.0) == []
    assert patience.look(report("triggerer"), 194.0) == []
    assert patience.look(report("triggerer"), 195.0) == ["triggerer"]
    assert patience.look(report("triggerer"), 290.0) == []
    assert patience.look(report("triggerer"), 295.0) == ["triggerer"]


def test_without_the_api_server_nothing_is_known_about_the_others() -> None:
    patience = Patience(10.0)
    ill = report("api-server", "scheduler", "dag-processor", "triggerer")
    assert patience.look(ill, 0.0) == []
    assert patience.look(ill, 10.0) == ["api-server"]
    assert patience.look(report("scheduler"), 15.0) == []
    assert patience.look(report("scheduler"), 25.0) == ["scheduler"]


def test_without_postgres_nobody_is_restarted() -> None:
    patience = Patience(10.0)
    for now in (0.0, 10.0, 20.0):
        assert patience.look(report(*NAMES), now) == []


@given(st.lists(st.tuples(REPORTS, st.floats(0.0, 60.0)), max_size=30))
def test_never_the_healthy_never_early(looks: list[tuple[dict[str, str], float]]) -> None:
    """Whatever happens: only who is ill now, and was ill at every look since `seconds`, is restarted."""
    patience, now = Patience(50.0), 0.0
    seen: list[tuple[float, dict[str, str]]] = []
    for state, pause in looks:
        now += pause
        seen.append((now, state))
        for name in patience.look(state, now):
            assert name != "postgres"
            recent = [states for at, states in seen if at >= now - 50.0]
            assert all(states[name] != "healthy" for states in recent)
            assert seen[0][0] <= now - 50.0


def test_only_old_logs_are_removed(tmp_path: Path) -> None:
    """An old folder stays while it holds something, and nothing behind a link is touched."""
    logs, elsewhere = tmp_path / "logs", tmp_path / "elsewhere"
    old, new = logs / "dag_id=a" / "run_id=1", logs / "dag_id=a" / "run_id=2"
    for folder in (old, new, elsewhere, logs / "empty"):
        folder.mkdir(parents=True)
    for file in (old / "attempt=1.log", new / "attempt=1.log", new / "attempt=2.log", elsewhere / "kept.log"):
        file.write_text("x")
    (logs / "latest").symlink_to(elsewhere)
    for path in (new / "attempt=1.log", new, old / "attempt=1.log", elsewhere / "kept.log", logs / "empty"):
        os.utime(path, (1000.0, 1000.0))
    forget_logs(logs, 2000.0)
    assert [path.name for path in logs.rglob("*.log")] == ["attempt=2.log"]
    assert (logs / "latest" / "kept.log").exists()
    assert not (logs / "empty").exists()
    os.utime(old, (1000.0, 1000.0))
    forget_logs(logs, 2000.0)
    assert not old.exists()
    os.utime(logs, (1000.0, 1000.0))
    forget_logs(logs / "nowhere", 2000.0)
    assert logs.exists()
