"""Whatever an optimizee does, its worker lives on and a line says what happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from l2l_tasks.agent.pool import remove_tree
from l2l_tasks.agent.results import ResultLine
from tests.agent.lab import BAD_IMPORT, ZOO, Site, bundle, evaluation, running_processes, singles, until

HARMLESS = {"x": 3}

# What the optimizee does, the error kind, and what the message or the tail must contain.
FAILURES: list[tuple[dict[str, Any], str, str, str]] = [
    ({"do": "fail"}, "exception", "ValueError: this went wrong", "what was printed before"),
    ({"do": "system_exit"}, "exception", "SystemExit", "sys.exit(0)"),
    ({"do": "exit"}, "crash", "exit status 3", ""),
    ({"do": "segfault"}, "crash", "SIGSEGV", "Segmentation fault"),
    ({"do": "kill"}, "killed", "SIGKILL", ""),
    ({"do": "close_all"}, "crash", "ended with exit status", "Bad file descriptor"),
    ({"do": "write_to_pipes"}, "too_large", "bytes, at most", ""),
    ({"do": "reply", "value": "{'status': 'ok', 'fitness': [nan]}"}, "invalid", "fitness[0]", ""),
    ({"do": "reply", "value": "{'status': 'ok', 'fitness': [inf]}"}, "invalid", "fitness[0]", ""),
    ({"do": "reply", "value": "{'status': 'ok', 'fitness': ['1.0']}"}, "invalid", "fitness[0]", ""),
    ({"do": "reply", "value": "{'status': 'ok', 'fitness': [None]}"}, "invalid", "fitness[0]", ""),
    ({"do": "reply", "value": "{'status': 'ok', 'fitness': [True]}"}, "invalid", "fitness[0]", ""),
    ({"do": "reply", "value": "{'status': 'ok', 'fitness': [1.0, 2.0]}"}, "invalid", "1 numbers", ""),
    ({"do": "reply", "value": "{'status': 'ok', 'fitness': 1.0}"}, "invalid", "list", ""),
    ({"do": "reply", "value": "{'status': 'ok'}"}, "invalid", "no fitness", ""),
    ({"do": "reply", "value": "None"}, "invalid", "object", ""),
    ({"do": "reply", "value": "object"}, "invalid", "JSON", ""),
    ({"do": "reply", "value": "'x' * 10**6"}, "too_large", "1000002 bytes", ""),
    ({"do": "deep", "depth": 20}, "too_deep", "8 deep", ""),
    ({"do": "deep", "depth": 5000}, "too_deep", "deep", ""),
    ({"do": "raise_this", "error": "ValueError('\U0001f9e0' * 10**6)"}, "exception", "\U0001f9e0" * 9, ""),
    ({"do": "raise_this", "error": "ValueError('\\ud800\\0')"}, "exception", "\ufffd\ufffd", "\ufffd\ufffd"),
    ({"do": "raise_this", "error": "KeyboardInterrupt()"}, "exception", "KeyboardInterrupt", ""),
    ({"do": "raise_this", "error": "Mute()"}, "crash", "exit status 3", ""),
    ({"do": "recurse"}, "exception", "RecursionError", "in recurse"),
    ({"do": "garbage"}, "exception", "ValueError: after it", "half a line"),
    ({"do": "reply", "value": "{'status': 'ok', 'fitness': [10 ** 5000]}"}, "invalid", "JSON", ""),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ResultLine]:
    """All failures in one worker, each with a harmless evaluation behind it."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.open(attempts=1)
    wanted = [params for failure in FAILURES for params in (failure[0], HARMLESS)]
    site.work_off([bundle(i, [evaluation(i, p)]) for i, p in enumerate(wanted)])
    return site.final()


@pytest.mark.parametrize("number", range(len(FAILURES)))
def test_failure_is_contained(outcomes: dict[str, ResultLine], number: int) -> None:
    """A failing evaluation gets its kind and its reason; the one after it is not affected."""
    _, kind, message, tail = FAILURES[number]
    line, after = outcomes[f"{2 * number}.0.0"], outcomes[f"{2 * number + 1}.0.0"]
    assert line.error is not None
    assert (line.status, line.error["kind"], line.fitness) == ("failed", kind, None)
    assert message in line.error["message"]
    assert tail in line.error["tail"]
    assert (after.status, after.fitness) == ("ok", [9.0])


def test_a_hang_ends_at_the_timeout_with_all_its_processes(tmp_path: Path) -> None:
    """The whole process group goes, not only the evaluator."""
    site, note = Site(tmp_path), tmp_path / "group"
    site.open(attempts=1)
    lines = site.work_off(singles([{"do": "child", "file": str(note)}, HARMLESS], timeout=0.5))
    by_key = {line.key: line for line in lines}
    assert by_key["0.0.0"].error is not None
    assert by_key["0.0.0"].error["kind"] == "timeout"
    assert "0.5 s" in by_key["0.0.0"].error["message"]
    assert by_key["1.0.0"].status == "ok"
    assert not running_processes(int(note.read_text()))


def test_printing_does_no_harm(tmp_path: Path) -> None:
    """Plain output is not mistaken for a reply; output without end runs into the timeout, its end is kept."""
    site = Site(tmp_path)
    site.open(attempts=1)
    site.work_off(singles([{"do": "prints"}, {"do": "prints_for_ever"}, HARMLESS], timeout=3.0))
    final = site.final()
    assert final["0.0.0"].status == "ok"
    error = final["1.0.0"].error
    assert error is not None
    assert (error["kind"], len(error["tail"])) == ("timeout", 16384)
    assert final["2.0.0"].status == "ok"


@pytest.mark.parametrize(
    "wrong",
    [
        "sys.stdout.close()",
        "[stream.close() for stream in (sys.stdin, sys.stdout, sys.stderr)]",
        "[os.close(descriptor) for descriptor in range(3)]",
        "setattr(sys, 'stdout', None)",
        "setattr(sys, 'stderr', open(os.devnull, 'w')) or os.dup2(sys.stderr.fileno(), 2)",
    ],
)
def test_what_one_does_to_its_output_does_not_matter_to_the_next(tmp_path: Path, wrong: str) -> None:
    """In the same process: the next one prints, opens files and starts programs as always."""
    site = Site(tmp_path)
    site.open(attempts=1)
    spoil, identity = {"do": "spoil", "how": wrong}, {"do": "identity"}
    order = [spoil, identity, {"do": "speak"}, spoil, {"do": "speak"}, identity]
    site.work_off([bundle(0, [evaluation(n, params) for n, params in enumerate(order)])])
    final = [site.final()[f"{n}.0.0"] for n in range(len(order))]
    assert [line.status for line in final] == ["ok", "ok", "failed", "ok", "failed", "ok"]
    for line in (final[2], final[4]):
        assert line.error is not None
        assert line.error["message"] == "ValueError: after speaking"
        for said in ("printed", "written to stderr", "by a program"):
            assert said in line.error["tail"]
    assert final[1].metrics["calls"] == 2.0


def test_a_forked_child_does_not_answer_twice(tmp_path: Path) -> None:
    """Both processes return from evaluate_json; only the evaluator itself replies."""
    site = Site(tmp_path)
    site.open(attempts=1)
    site.work_off(singles([{"do": "fork"}, {"do": "fork"}, {"do": "fork"}]))
    fitness = [line.fitness for line in site.final().values()]
    assert sorted(fitness, key=str) == [[1.0], [2.0], [3.0]]


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (BAD_IMPORT, {}, "a_module_that_does_not_exist"),
        (ZOO, {"load": "1 / 0"}, "ZeroDivisionError"),
        (ZOO, {"load": "os._exit(4)"}, "exit status 4"),
        (ZOO, {"load": "time.sleep(60)"}, "not loaded within 1 s"),
        ("class Zoo:\n    pass\n", {}, "evaluate_json"),
        ("x = 1\n", {}, "no attribute 'Zoo'"),
    ],
)
def test_an_optimizee_that_cannot_be_loaded(
    tmp_path: Path, source: str, options: dict[str, str], message: str
) -> None:
    """Import errors, failing and hanging constructors: kind "import", with the reason."""
    site = Site(tmp_path)
    site.open(source, options=options, attempts=1, import_timeout=1.0)
    (line,) = site.work_off(singles([HARMLESS]))
    assert line.error is not None
    assert line.error["kind"] == "import"
    assert message in line.error["message"]


def test_missing_code_is_an_import_error(tmp_path: Path) -> None:
    """Code that was removed from the site is named."""
    site = Site(tmp_path)
    site.open(attempts=1)
    site.put(singles([HARMLESS]))
    remove_tree(site.work / "code")
    assert site.start_worker().wait(60) == 0
    (line,) = site.results()
    assert line.error is not None
    assert (line.error["kind"], "not at the site" in line.error["message"]) == ("import", True)


def test_own_failures_use_up_the_attempts(tmp_path: Path) -> None:
    """Each attempt has a line; only the last one is final; a success ends it early."""
    site = Site(tmp_path)
    site.open(attempts=3)
    site.work_off(singles([{"do": "fail"}, {"do": "once", "file": str(tmp_path / "once")}]))
    found = {
        k: [(x.attempt, x.status, x.final) for x in site.results() if x.key == k] for k in ("0.0.0", "1.0.0")
    }
    assert found["0.0.0"] == [(0, "failed", False), (1, "failed", False), (2, "failed", True)]
    assert found["1.0.0"] == [(0, "failed", False), (1, "ok", True)]


def test_infeasible_is_an_answer(tmp_path: Path) -> None:
    """It is final at once and carries its reason."""
    site = Site(tmp_path)
    site.open()
    value = "{'status': 'infeasible', 'reason': 'rates explode'}"
    (line,) = site.work_off(singles([{"do": "reply", "value": value}]))
    assert (line.status, line.final, line.fitness) == ("infeasible", True, None)
    assert line.error == {"kind": "infeasible", "message": "rates explode", "tail": ""}


def test_the_evaluator_stays_warm(tmp_path: Path) -> None:
    """Loading is paid once: consecutive evaluations run in one process."""
    site = Site(tmp_path)
    site.open()
    lines = site.work_off(singles([{"do": "identity"}] * 4))
    assert len({line.metrics["pid"] for line in lines}) == 1
    assert sorted(line.metrics["calls"] for line in lines) == [1.0, 2.0, 3.0, 4.0]


def test_what_an_optimizee_is_given(tmp_path: Path) -> None:
    """Seed, task, a scratch folder that is removed afterwards, and the deadline."""
    site = Site(tmp_path)
    site.open()
    (line,) = site.work_off(singles([{"do": "request"}], timeout=100.0))
    assert line.metrics["seed"] == 0.0
    assert (line.metrics["task"], line.metrics["here"]) == (5.0, 1.0)
    left = line.metrics["left"]
    assert isinstance(left, float)
    assert 0 < left <= 100
    assert list((site.folder / "scratch").iterdir()) == []


def test_each_evaluation_has_a_current_directory_of_its_own(tmp_path: Path) -> None:
    """What it writes there goes with it, and where it has gone to does not harm the next one."""
    site = Site(tmp_path)
    site.open()
    lines = site.work_off(singles([{"do": "litter"}] * 3))
    assert [line.fitness for line in lines] == [[1.0]] * 3
    assert len({line.metrics["pid"] for line in lines}) == 1
    assert not {"STOP", "junk", "deeper"} & {path.name for path in site.folder.iterdir()}
    assert (site.folder / "campaign.json").read_text() != ""


def test_any_text_can_be_logged_at_a_site_without_utf8(tmp_path: Path) -> None:
    """Guards against a worker that dies of the message of its optimizee."""
    site = Site(tmp_path)
    site.open(attempts=1)
    site.put(singles([{"do": "shout"}, HARMLESS]))
    worker = site.start_worker(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert worker.wait(60) == 0
    assert sorted(line.status for line in site.results()) == ["failed", "ok"]  # claimed in any order


def test_a_worker_that_is_killed_takes_its_evaluators_along(tmp_path: Path) -> None:
    """No evaluator goes on computing for a worker that is gone."""
    site, note = Site(tmp_path), tmp_path / "group"
    site.open()
    site.put(singles([{"do": "child", "file": str(note)}]))
    worker = site.start_worker()
    until(lambda: note.exists() and note.read_text())
    group = int(note.read_text())
    worker.kill()
    worker.wait()
    try:
        until(lambda: group not in running_processes(group))
    finally:
        os.killpg(group, signal.SIGKILL)  # its own child is left, which only a scheduler can find
