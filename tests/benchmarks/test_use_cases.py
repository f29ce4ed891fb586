"""The table of the use cases: its campaigns are valid, and the page shows what was recorded."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import optimizees
from benchmarks.use_cases import held_out, run, table
from benchmarks.use_cases.cases import CAMPAIGNS, CASES, Case
from l2l_tasks import validation
from l2l_tasks.settings import REPOSITORY

WITHOUT_MODEL = {"command", "l2l"}  # they run programs of their users
PAGE = REPOSITORY / "docs" / "use-cases.md"


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_every_case_is_a_campaign_that_can_begin(case: Case, random: bool) -> None:
    ready = validation.build(case.spec(3, random=random), CAMPAIGNS)
    assert ready.spec.seed == 3
    assert ready.spec.budget.generations == case.generations
    assert (ready.spec.optimizer.name == "random") == random


def test_every_model_has_a_row() -> None:
    shown = {case.spec(1).optimizee.reference for case in CASES.values()}
    assert shown == set(optimizees.names()) - WITHOUT_MODEL


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.known is not None], ids=lambda c: c.name)
def test_known_parameters_are_some_of_the_space(case: Case) -> None:
    space = validation.build(case.spec(1), CAMPAIGNS).space
    assert case.known is not None
    assert space.encode({**space.default(), **case.known}).shape == (space.dimension,)


def test_a_row_has_a_reference() -> None:
    assert [case.name for case in CASES.values() if not case.reference and case.known is None] == []


def test_what_the_results_have_is_not_run_again(tmp_path: Path) -> None:
    jobs = run.plan([CASES["bandits"], CASES["sphere"]], [1, 2])
    assert [job.key for job in jobs] == [
        ("bandits", "search", 1),
        ("sphere", "search", 1),
        ("bandits", "random", 1),
        ("sphere", "random", 1),
        ("bandits", "known", 1),
        ("bandits", "search", 2),
        ("sphere", "search", 2),
    ]
    file = tmp_path / "results.jsonl"
    assert run.missing(jobs, run.read(file)) == jobs
    rows = [{"case": "bandits", "kind": kind, "seed": 1} for kind in ("search", "known")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run.missing(jobs, run.read(file)) == [jobs[1], jobs[2], jobs[3], jobs[5], jobs[6]]


def test_hypervolume_is_the_area_that_a_front_dominates() -> None:
    assert run.volume([[0.5, 0.2], [0.1, 0.8], [-0.1, 0.9]]) == pytest.approx(0.5 * 0.2 + 0.1 * 0.6)


def test_held_out_tasks_are_evaluated_in_the_other_python() -> None:
    default, good = optimizees.load("bandits", {}).space().default(), {"bonus": 0.2}
    before, after = held_out.evaluate(sys.executable, "bandits", {}, [default, {**default, **good}], 20)
    assert len(before) == len(after) == 20
    regrets = [sum(reply["fitness"][0] for reply in replies) / 20 for replies in (before, after)]
    assert regrets[1] < regrets[0] / 2


def row(kind: str, seed: int, reached: float, test: float | None, not_ok: int = 0) -> run.Row:
    return {
        "case": "brunel",
        "kind": kind,
        "seed": seed,
        "reached": reached,
        "median": 0.75,
        "test": test,
        "test_infeasible": int(test is None),
        "evaluations": 64,
        "not_ok": not_ok,
        "cpu_seconds": 60.0,
    }


def test_a_line_of_the_table() -> None:
    rows = [row("search", 1, 0.1, 0.2), row("search", 2, 0.3, 0.25), row("search", 3, 0.00002, None)]
    cells = table.figures(CASES["brunel"], [*rows, row("random", 1, 0.5, 0.625, not_ok=16)])
    assert cells[1:] == (
        "0.75, 25 % infeasible",
        "0.5; held out **0.62**",
        "0.1 (2e−5 to 0.3); held out **0.23 (0.2 to 0.25)**, 1 infeasible",
        "about 0.05 to 0.1",
        "64",
        "1",
    )


def test_the_page_shows_the_results() -> None:
    text, rows = PAGE.read_text(encoding="utf-8"), run.read(run.RESULTS)
    for case in CASES.values():
        for cells in (table.figures(case, rows), table.texts(case)):
            assert f"| {' | '.join(cells)} |" in text, f"print the tables again: {case.name} differs"


def test_links_of_the_page_lead_somewhere() -> None:
    links = [case.title.partition("](")[2].partition(")")[0] for case in CASES.values() if "](" in case.title]
    assert [link for link in links if not (PAGE.parent / link).is_file()] == []
