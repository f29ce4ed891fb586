"""Artifacts stay after an attempt that succeeded, whole, and nothing else does."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.agent.lab import ZOO, Site, bundle, evaluation, singles, stop, until

ARTIST = (
    ZOO
    + '''
    def draw(self, params, request):
        """Writes files; fails at the first attempts, or waits."""
        folder = request["artifacts"]
        before = os.listdir(folder)
        os.makedirs(os.path.join(folder, "figures"))
        with open(os.path.join(folder, "figures", params["name"]), "w") as figure:
            figure.write("#" * 1000)
        open(params["note"], "a").write("x")
        if len(open(params["note"]).read()) <= params.get("fail", 0):
            open(os.path.join(folder, "half"), "w").close()
            raise RuntimeError("not yet")
        time.sleep(params.get("s", 0))
        metrics = {"m": [0.1] * params.get("numbers", 1)}
        return {"status": params.get("status", "ok"), "fitness": [float(len(before))], "metrics": metrics}

    def tear_down(self, params, request):
        os.rmdir(request["artifacts"])
        return {"status": "ok", "fitness": [1.0]}
'''
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.open(ARTIST)
    return made


def draw(tmp_path: Path, **more: object) -> dict[str, object]:
    return {"do": "draw", "name": "one.svg", "note": str(tmp_path / "note"), **more}


def kept(site: Site) -> list[str]:
    """Files below artifacts/."""
    top = site.folder / "artifacts"
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())


def test_they_stay_after_success(site: Site, tmp_path: Path) -> None:
    """Those of the attempt that succeeded, and not what an earlier one had begun."""
    site.work_off(singles([draw(tmp_path, fail=1)]))
    assert site.final()["0.0.0"].fitness == [0.0]
    assert kept(site) == ["0.0.0/figures/one.svg"]
    assert list((site.folder / "scratch").iterdir()) == []


@pytest.mark.parametrize("change", [{"fail": 9}, {"status": "infeasible"}, {"numbers": 65500}])
def test_nothing_stays_without_success(site: Site, tmp_path: Path, change: dict[str, object]) -> None:
    site.work_off(singles([draw(tmp_path, **change)]))
    assert site.final()["0.0.0"].status != "ok"
    assert not (site.folder / "artifacts").exists()


def test_an_evaluation_that_keeps_nothing_has_no_folder(site: Site) -> None:
    site.work_off(singles([{"x": 1}, {"do": "tear_down"}, {"do": "fail"}]))
    assert not (site.folder / "artifacts").exists()


def test_an_evaluation_that_runs_again_replaces_them(site: Site, tmp_path: Path) -> None:
    """As after a lost results file; the key of a test on a held-out task is a folder's name too."""
    for number, name in enumerate(["one.svg", "two.svg"]):
        again = {**evaluation(0, draw(tmp_path, name=name)), "key": "-1.0.0"}
        site.work_off([bundle(number, [again])])
    assert kept(site) == ["-1.0.0/figures/two.svg"]


def test_a_worker_that_dies_leaves_nothing_half_done(site: Site, tmp_path: Path) -> None:
    site.put(singles([draw(tmp_path, s=60)]))
    worker = site.start_worker()
    try:
        until((tmp_path / "note").exists)
        worker.send_signal(signal.SIGUSR1)
        worker.wait(20)
    finally:
        stop(worker)
    assert not (site.folder / "artifacts").exists()
    assert list((site.folder / "scratch").iterdir()) == []
