"""What `l2l run` shows, and the small formats of the tables."""

from __future__ import annotations

import io
import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from l2l_tasks.cli.overrides import parse
from l2l_tasks.cli.progress import COLUMNS, Display, told_line, waiting_line
from l2l_tasks.cli.views import ago, eta, print_found
from l2l_tasks.errors import SpecError, UserError
from l2l_tasks.store.campaigns import Overview

TOLD: dict[str, Any] = {
    "generation": 3,
    "told": 8,
    "status": {"ok": 6, "failed": 1, "infeasible": 1},
    "fitness": {"best": [0.25, 9.0], "median": [1.5, 9.0], "mean": [2.0, 9.0], "std": [0.1, 0.1]},
    "progress": {
        "evaluations": 32,
        "best": {"index": 4, "params": {}, "fitness": [0.125, 1.0]},
        "stagnant": 0,
    },
}
FAILED = {
    "evaluations": 3,
    "of_all": 8,
    "ok": 0,
    "kind": "exception",
    "message": "ValueError:\n[/x] no",
    "key": "12.0.1",
    "tail": "".join(f"[line {n}]\n\n" for n in range(9)),
}
WAITING: dict[str, Any] = {"generation": 0, "todo": 5, "running": 2, "known": True, "workers": []}


def test_a_generation_is_one_line_under_its_columns() -> None:
    line = told_line(TOLD, 12.34)
    assert line.split() == ["3", "0.25", "1.5", "0.125", "6", "2", "12.3"]
    assert len(line) == len(COLUMNS)


def test_a_generation_without_any_result_is_shown_too() -> None:
    nothing = {
        **TOLD,
        "status": {"failed": 8},
        "fitness": {"best": [], "median": []},
        "progress": {"evaluations": 8, "best": None, "stagnant": 1},
    }
    assert told_line(nothing, 1.0).split() == ["3", "-", "-", "-", "0", "8", "1.0"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, "5 evaluations wait, 2 run; 0 of 0 workers run"),
        ({"workers": [{"state": "PENDING", "reason": "Priority"}]}, "0 of 1 workers run; queue: Priority"),
        ({"workers": [{"state": "RUNNING", "reason": None}]}, "1 of 1 workers run"),
        ({"known": False}, "the scheduler does not answer"),
        ({"rejected": "invalid account"}, "the scheduler refuses: invalid account"),
    ],
)
def test_the_present_says_what_is_waited_for(change: dict[str, Any], text: str) -> None:
    assert waiting_line({**WAITING, **change}).endswith(text)


@pytest.mark.parametrize("terminal", [True, False])
def test_the_display_takes_every_event(terminal: bool) -> None:
    """On a terminal and in a file; texts with brackets are no markup."""
    out = io.StringIO()
    with Display(Console(file=out, force_terminal=terminal, width=120, highlight=False)) as display:
        display.show("begun", {"campaign": "a-00000000"})
        display.show("waiting", {**WAITING, "rejected": "[/red] partition"})
        display.show("told", TOLD)
        display.show("failed", FAILED)
        display.show("failed", FAILED)
        display.show("tracking", {"error": "no server [/x]"})
        display.show("ended", {"campaign": "a-00000000", "reason": "all 4 generations done"})
    for text in ("a-00000000", told_line(TOLD, 0.0).strip()[:20], "no server [/x]", "all 4 generations done"):
        assert text in out.getvalue()
    assert out.getvalue().count("no evaluation succeeded: 3 of 8: exception: ValueError: [/x] no") == 1


def test_failures_name_an_evaluation_and_its_last_lines() -> None:
    """Every kind once, also where others succeed."""
    out = io.StringIO()
    with Display(Console(file=out, width=60, highlight=False)) as display:
        for change in ({}, {"ok": 1}, {"ok": 1, "kind": "crash", "message": "SIGSEGV", "tail": None}):
            display.show("failed", {**FAILED, **change})
    shown = [f"      | [line {n}]" for n in range(4, 9)]
    assert out.getvalue().splitlines() == [
        "no evaluation succeeded: 3 of 8: exception: ValueError: [/x] no",
        "    evaluation 12.0.1 (individual.task.repeat); its last lines:",
        *shown,
        "some evaluations failed: 3 of 8: crash: SIGSEGV",
        "    evaluation 12.0.1 (individual.task.repeat); it printed nothing",
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_whoever_is_interrupted_is_told_how_to_go_on(error: type[BaseException]) -> None:
    out = io.StringIO()

    def interrupted() -> None:
        with Display(Console(file=out, width=120)) as display:
            display.show("begun", {"campaign": "a-00000000"})
            raise error

    with pytest.raises(error):
        interrupted()
    assert "l2l resume a-00000000" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s ago"), (59, "59 s ago"), (300, "5 min ago"), (7200, "2 h ago"), (3 * 86400, "3 d ago")],
)
def test_ages_are_short(seconds: int, text: str) -> None:
    now = datetime(2025, 1, 10, tzinfo=UTC)
    assert ago(now - timedelta(seconds=seconds), now) == text
    assert ago(None) == "-"


def test_changes_are_yaml() -> None:
    assert parse(["a.b=3", "c=[1, x]", "d=", "e=x=y", "f='1'"]) == {
        "a.b": 3, "c": [1, "x"], "d": None, "e": "x=y", "f": "1",
    }  # fmt: skip


def test_all_wrong_changes_are_named() -> None:
    with pytest.raises(SpecError) as caught:
        parse(["novalue", "=3", "a=[1", "b=1"])
    assert len(caught.value.problems) == 3


def test_status_says_when_the_budget_will_be_used() -> None:
    """At the pace so far: 4 generations took 4 minutes, 6 are left, one minute has passed since."""
    now = datetime.now(UTC)
    row: dict[str, Any] = {field.name: None for field in fields(Overview)}
    row |= {"status": "running", "generations_told": 4, "generations_budget": 10}
    row |= {"created_at": now - timedelta(minutes=5), "told_at": now - timedelta(minutes=1)}
    assert eta(Overview(**row)) == "5 min"
    assert eta(Overview(**{**row, "status": "paused"})) == "-"
    assert eta(Overview(**{**row, "generations_budget": None})) == "-"
    assert eta(Overview(**{**row, "generations_told": 0, "told_at": None})) == "-"


def test_what_was_found_is_shown_whole() -> None:
    """Several objectives: their front by name; what the optimizer recommends; who broke which constraint."""
    front = [{"index": i, "fitness": [float(i), -0.5 * i]} for i in range(25)]
    last = {
        **TOLD,
        "objectives": ["error", "cost"],
        "recommended": {"x": 0.75},
        "violated": {"power": 4},
        "diagnostics": {"hypervolume": 1.23456789, "first_order/x": 0.5},
        "front": front,
    }
    console = Console(file=io.StringIO(), width=100)
    print_found(console, last)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert re.search(r"individual +error +cost\n +0 +0 +-?0\n +1 +1 +-0.5\n", shown)
    assert "and 5 more" in shown
    for text in ("best in error", "x: 0.75", "power: 4", "hypervolume: 1.23457", "first_order/x: 0.5"):
        assert text in shown
