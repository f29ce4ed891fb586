"""Checkpoints outlive attempts and workers, are inherited, and go when nobody needs them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from l2l_tasks.agent import checkpoints
from l2l_tasks.agent.files import LineWriter
from l2l_tasks.agent.reconcile import Death
from l2l_tasks.agent.results import StartedLine, build_line
from l2l_tasks.agent.settle import settle
from tests.agent.lab import CAMPAIGN, ZOO, Site, bundle, evaluation, singles, stop, until

LEARNER = (
    ZOO
    + '''
    def learn(self, params, request):
        """Counts its attempts and generations; fails at the first attempt, or waits to be interrupted."""
        own = os.path.join(request["checkpoint"], "attempts")
        attempts = 1 + (int(open(own).read()) if os.path.exists(own) else 0)
        open(own, "w").write(str(attempts))
        if attempts == 1:
            if params["first"] == "fail":
                raise RuntimeError("only the first time")
            time.sleep(60)
        age = 0
        if request["inherited"]:
            age = 1 + int(open(os.path.join(request["inherited"], "age")).read())
        open(os.path.join(request["checkpoint"], "age"), "w").write(str(age))
        return {"status": "ok", "fitness": [float(age)], "metrics": {"attempts": attempts}}
'''
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def kept(site: Site) -> list[str]:
    """Keys of the evaluations that have a checkpoint."""
    return sorted(path.name for path in (site.folder / "checkpoints").iterdir())


def test_a_failed_attempt_leaves_its_checkpoint_to_the_next(site: Site) -> None:
    site.open(LEARNER)
    site.work_off(singles([{"do": "learn", "first": "fail"}]))
    assert site.final()["0.0.0"].metrics == {"attempts": 2.0}
    assert kept(site) == ["0.0.0"]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGKILL])
def test_a_worker_that_ends_leaves_it_to_another(site: Site, number: signal.Signals) -> None:
    """Its walltime is over, or it dies without a word."""
    site.open(LEARNER)
    site.put(singles([{"do": "learn", "first": "wait"}]))
    worker = site.start_worker()
    try:
        until(lambda: (site.folder / "checkpoints" / "0.0.0" / "attempts").exists())
        worker.send_signal(number)
        worker.wait(20)
    finally:
        stop(worker)
    if number == signal.SIGKILL:  # as reconciliation does
        for path in (site.pool.running / "P1_0_0").iterdir():
            path.rename(site.pool.todo / path.name)
    second = site.start_worker("P2")
    try:
        assert second.wait(60) == 0
    finally:
        stop(second)
    assert site.final()["0.0.0"].metrics == {"attempts": 2.0}


def test_a_learner_goes_on_with_its_parents(site: Site) -> None:
    """At the same task and repeat; with none where the parent left nothing."""
    site.open(LEARNER)
    learn = {"do": "learn", "first": "fail"}
    site.work_off([bundle(0, [evaluation(0, learn), evaluation(1, learn, parent=0)])])
    third = {**evaluation(2, learn, parent=1), "key": "2.0.0"}
    other = {**evaluation(3, learn, parent=1), "key": "3.1.0"}
    site.work_off([bundle(1, [third, other])])
    assert {key: line.fitness for key, line in site.final().items()} == {
        "0.0.0": [0.0],
        "1.0.0": [1.0],
        "2.0.0": [2.0],
        "3.1.0": [0.0],
    }


def test_folders_in_which_nothing_was_written_do_not_stay(site: Site) -> None:
    site.open()
    site.work_off(singles([{"x": 1}, {"do": "fail"}]))
    assert kept(site) == []


def test_old_checkpoints_are_removed(site: Site) -> None:
    """Only those of individuals below the one that is named; other files are not ours."""
    site.open()
    for key in ("8.0.0", "9.1.2", "10.0.0", "11.0.0"):
        checkpoints.prepare(site.folder, key, None)
        (site.folder / "checkpoints" / key / "weights").write_text("1")
    (site.folder / "checkpoints" / "notes").touch()
    request = {"campaign": CAMPAIGN, "bundles": [], "workers": 0, "forget_before": 0}
    site.call("submit", **request)
    assert len(kept(site)) == 5
    site.call("submit", **request, checkpoints_from=10)
    assert kept(site) == ["10.0.0", "11.0.0", "notes"]


def test_tests_on_held_out_tasks(site: Site) -> None:
    """Guards their negative individuals: old checkpoints go, theirs stay while they run, and no longer."""
    site.open(LEARNER)
    learn = {"do": "learn", "first": "fail"}
    site.work_off([bundle(0, [evaluation(0, learn), {**evaluation(1, learn, parent=0), "key": "-2.0.0"}])])
    assert {key: line.fitness for key, line in site.final().items()} == {"0.0.0": [0.0], "-2.0.0": [1.0]}
    assert kept(site) == ["0.0.0"]
    checkpoints.prepare(site.folder, "-3.0.0", None)
    checkpoints.forget(site.folder, 1)
    assert kept(site) == ["-3.0.0"]


def test_a_test_whose_worker_died_leaves_none(site: Site) -> None:
    """When no attempt is left; those of the others stay."""
    site.open()
    site.pool.register("P1_0_0")
    made = [{**evaluation(n, {"x": 1}), "key": key} for n, key in enumerate(("-1.0.0", "4.0.0"))]
    site.put([bundle(n, [one]) for n, one in enumerate(made)])
    writer = LineWriter(site.folder / "results" / "P1_0_0.ndjson")
    for one in made:
        writer.append(build_line(StartedLine(one["key"], 0, "g00000-00000", 1.0)))
        checkpoints.prepare(site.folder, one["key"], None)
        (site.folder / "checkpoints" / one["key"] / "weights").write_text("1")
        assert site.pool.claim("P1_0_0") is not None
    writer.close()
    settle(site.folder, site.pool, "P1_0_0", Death("FAILED", True), site.config(attempts=1))
    assert sorted(site.final()) == ["-1.0.0", "4.0.0"]
    assert kept(site) == ["4.0.0"]


@pytest.mark.parametrize("parent", [-1, 1.0, "0", True])
def test_a_wrong_parent_is_refused(site: Site, parent: object) -> None:
    site.open()
    bundles = [bundle(0, [evaluation(1, {"x": 1}, parent=parent)])]
    reply = site.ask("submit", campaign=CAMPAIGN, bundles=bundles, workers=0, forget_before=0)
    assert reply["ok"] is False
