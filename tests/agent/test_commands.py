"""The controller's commands, through `agent.pyz call`, with workers that the local scheduler starts."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from l2l_tasks.agent import build, results
from l2l_tasks.agent.results import ResultLine, StartedLine
from l2l_tasks.site import archive
from tests.agent.lab import CAMPAIGN, TOKEN, Site, bundle, evaluation, singles, until


def pythons() -> list[str]:
    """Ours, and the oldest one that the agent promises to run on if it is installed."""
    found = [sys.executable]
    for folder in os.environ["PATH"].split(os.pathsep):
        python = os.path.join(folder, "python3.8")
        if os.access(python, os.X_OK) and not subprocess.run([python, "-V"], capture_output=True).returncode:
            return [*found, python]
    return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose campaign, if it was opened, is stopped at the end."""
    made = Site(tmp_path)
    yield made
    if (made.folder / "campaign.json").exists():
        assert made.call("stop", campaign=CAMPAIGN)["cancelled"] is True


def submit(site: Site, bundles: list[dict[str, Any]], workers: int = 2, forget: int = 0) -> dict[str, Any]:
    return site.call("submit", campaign=CAMPAIGN, bundles=bundles, workers=workers, forget_before=forget)


def poll(site: Site, wait: float = 0.0, target: int = 0, workers: int = 2) -> dict[str, Any]:
    asked = [{"campaign": CAMPAIGN, "workers": workers, "target": target}]
    status: dict[str, Any] = site.call("poll", campaigns=asked, wait=wait)["campaigns"][CAMPAIGN]
    return status


def finish(site: Site, workers: int = 2) -> dict[str, Any]:
    """Poll until nothing is left."""
    for _ in range(60):
        status = poll(site, wait=1.0, workers=workers)
        if not status["todo"] and not status["running"]:
            return status
    raise AssertionError(f"never finished: {status}")


@pytest.mark.parametrize("python", pythons())
def test_a_campaign_from_open_to_clean(tmp_path: Path, python: str) -> None:
    """Submit, wait, collect in small portions, archive, clean: every line arrives exactly once."""
    site = Site(tmp_path, python, processes=True)
    config = site.config()
    del config["agent"]  # the zipapp finds itself
    site.call("open", campaign=CAMPAIGN, config=config)
    status = submit(site, singles([{"x": n} for n in range(6)]))
    assert (status["known"], status["submitted"], status["rejected"]) == (True, 2, None)
    assert status["todo"] + status["running"] <= 6
    status = finish(site)
    assert (status["bundles"], status["uncertain"], status["stopped"]) == (0, 0, False)
    until(lambda: not site.pool.workers())
    offsets: dict[str, int] = {}
    text: dict[str, str] = {}
    more = True
    while more:
        reply = site.call("collect", campaign=CAMPAIGN, offsets=offsets, max_bytes=700)
        for file in reply["files"]:
            assert file["offset"] == offsets.get(file["file"], 0)
            assert file["data"].endswith("\n")
            text[file["file"]] = text.get(file["file"], "") + file["data"]
            offsets[file["file"]] = file["next"]
        more = reply["more"]
    lines = [results.parse_line(line) for t in text.values() for line in t.encode().splitlines()]
    found = {line.key: line.fitness for line in lines if isinstance(line, ResultLine)}
    assert found == {f"{n}.0.0": [float(n * n)] for n in range(6)}
    assert site.call("collect", campaign=CAMPAIGN, offsets=offsets, max_bytes=10**6)["files"] == []
    assert sorted(p.name for p in (site.folder / "results" / "archive").iterdir()) == sorted(text)
    assert submit(site, singles([{"x": 9}]))["submitted"] == 0  # known, done: nothing to do
    submit(site, [], forget=1)
    assert list(site.pool.done.iterdir()) == []
    site.call("stop", campaign=CAMPAIGN)
    site.call("clean", campaign=CAMPAIGN)
    site.call("clean", campaign=CAMPAIGN)
    assert list(site.folder.parent.iterdir()) == []


def test_submit_at_the_same_time(site: Site) -> None:
    """Eight controllers with one request: its evaluations are begun once, by no more workers than allowed."""
    site.processes = True
    site.open()
    bundles = singles([{"do": "sleep", "s": 0.1}] * 10)
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: submit(site, bundles), range(8)))
    assert sum(reply["submitted"] for reply in replies) == 2
    finish(site)
    assert len(site.final()) == 10
    assert set(Counter(line.key for line in site.lines() if isinstance(line, StartedLine)).values()) == {1}


def test_submit_killed_anywhere(site: Site) -> None:
    """SIGKILL at random moments, again and again, then once to the end: nothing lost, nothing double."""
    site.open(linger=1.0)
    bundles = singles([{"x": n} for n in range(30)])
    body = {"token": TOKEN, "work": str(site.work), "command": "submit", "campaign": CAMPAIGN}
    request = json.dumps({**body, "bundles": bundles, "workers": 2, "forget_before": 0}).encode()
    for _ in range(12):
        called = subprocess.Popen(
            [site.python, str(site.program), "call"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert called.stdin is not None
        called.stdin.write(request)
        called.stdin.close()
        time.sleep(random.uniform(0.05, 0.3))
        called.kill()
        called.wait()
    submit(site, bundles)
    finish(site)
    assert set(site.final()) == {f"{n}.0.0" for n in range(30)}
    assert set(Counter(line.key for line in site.lines() if isinstance(line, StartedLine)).values()) == {1}


def test_a_worker_that_is_killed_by_its_evaluation(site: Site) -> None:
    """FAILED by a signal: the victim loses an attempt and in the end fails; its neighbours are evaluated."""
    site.open()
    submit(
        site,
        [bundle(0, [evaluation(0, {"x": 2}), evaluation(1, {"do": "kill_worker"}), evaluation(2, {"x": 3})])],
    )
    finish(site)
    final = site.final()
    assert {key: line.fitness for key, line in final.items()} == {
        "0.0.0": [4.0],
        "1.0.0": None,
        "2.0.0": [9.0],
    }
    error = final["1.0.0"].error
    assert error is not None
    assert (error["kind"], final["1.0.0"].attempt) == ("worker_lost", 1)
    assert "SIGKILL" in error["message"]
    attempts = [
        line.attempt for line in site.lines() if isinstance(line, StartedLine) and line.key == "1.0.0"
    ]
    assert attempts == [0, 1]


def test_stop_and_resume(site: Site) -> None:
    """Stop cancels and keeps the work; nothing is started until resume; then it goes on."""
    site.open(linger=60.0)
    submit(site, singles([{"do": "sleep", "s": 60}, {"x": 2}]), workers=1)
    until(lambda: any(isinstance(line, StartedLine) for line in site.lines()))
    reply = site.ask("clean", campaign=CAMPAIGN)
    assert (reply["ok"], reply["error"]["kind"]) == (False, "user")
    assert site.call("stop", campaign=CAMPAIGN)["cancelled"] is True
    status = poll(site)
    assert (status["stopped"], status["workers"], status["running"]) == (True, [], 0)
    assert status["todo"] + len(site.final()) == 2
    assert submit(site, [])["submitted"] == 0
    (site.pool.todo / "g00000-00000").unlink()
    site.call("resume", campaign=CAMPAIGN)
    site.call("resume", campaign=CAMPAIGN)
    assert poll(site)["stopped"] is False
    finish(site)
    assert set(site.final()) == {"1.0.0"}


def test_wait_ends_at_the_target(site: Site) -> None:
    """Not only when everything is done."""
    site.open()
    submit(site, singles([{"x": 1}, {"x": 2}, {"do": "sleep", "s": 60}]), workers=3)
    status = poll(site, wait=60.0, target=1)
    assert status["todo"] + status["running"] == 1


def test_a_busy_machine_is_no_refusal(site: Site) -> None:
    """With all workers of the machine in use the campaign waits; nobody has to mend anything."""
    site.open(scheduler={"kind": "local", "max_workers": 1}, linger=0.0)
    other = "other-0123abcd"
    site.call(
        "open", campaign=other, config=site.config(campaign=other, job_name=f"l2l-{other}", linger=60.0)
    )
    hold = bundle(0, [evaluation(0, {"do": "sleep", "s": 60})])
    site.call("submit", campaign=other, bundles=[hold], workers=1, forget_before=0)
    try:
        status = submit(site, singles([{"x": 1}]))
        assert (status["submitted"], status["rejected"]) == (0, None)
        assert "in use" in status["limited"]
    finally:
        site.call("stop", campaign=other)
    assert poll(site)["submitted"] == 1
    finish(site)


def test_workers_that_cannot_start(site: Site) -> None:
    """A set-up line that fails: after a few workers the campaign is told, with their output."""
    setup = ["echo no such module: nest", "exit 5"]
    site.open(scheduler={"kind": "local", "max_workers": 4, "setup": setup})
    submit(site, singles([{"x": n} for n in range(4)]))
    until(lambda: poll(site)["rejected"])
    status = poll(site)
    assert (status["workers"], status["submitted"], status["todo"]) == ([], 0, 4)
    assert "no such module: nest" in status["rejected"]
    site.open()
    assert submit(site, [])["rejected"] is None
    finish(site)
    assert len(site.final()) == 4


def test_a_scheduler_that_does_not_answer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """UNKNOWN: the work is kept, no worker is submitted, none is taken for dead."""
    site.open(scheduler={"kind": "slurm"})
    site.pool.register("7_0_0")
    try:
        monkeypatch.setenv("PATH", str(site.work))  # there is no squeue
        status = submit(site, singles([{"x": 1}]))
    finally:
        (site.folder / "campaign.json").unlink()  # nothing to stop
    assert (status["known"], status["submitted"], status["todo"]) == (False, 0, 1)
    assert site.pool.workers() == ["7_0_0"]
    assert not (site.folder / "reconcile.json").exists()


def test_a_campaign_whose_code_was_removed(site: Site) -> None:
    """Guards against purged scratch file systems: workers would start and fail every evaluation."""
    site.open()
    shutil.rmtree(site.work / "code")
    request_ = {"campaign": CAMPAIGN, "bundles": [], "workers": 1, "forget_before": 0}
    assert site.ask("submit", **request_)["error"]["kind"] == "not_open"
    site.stage()
    assert site.ask("submit", **request_)["ok"]


def test_a_campaign_that_is_not_there(site: Site) -> None:
    """Lost with the file system, or never opened: said so, and other campaigns are still polled."""
    reply = site.ask("submit", campaign=CAMPAIGN, bundles=[], workers=1, forget_before=0)
    assert reply["error"]["kind"] == "not_open"
    assert "open it again" in reply["error"]["message"]
    site.open()
    names = [CAMPAIGN, "gone-00000000"]
    asked = [{"campaign": name, "workers": 1, "target": 0} for name in names]
    found = site.call("poll", campaigns=asked, wait=60.0)["campaigns"]
    assert {name: (one["missing"], one["known"]) for name, one in found.items()} == {
        CAMPAIGN: (False, True),
        "gone-00000000": (True, False),
    }


@pytest.mark.parametrize(
    ("command", "request_", "kind", "message"),
    [
        ("destroy", {}, "internal", "unknown command"),
        ("stop", {"campaign": "../../etc-00000000"}, "internal", "wrong campaign id"),
        ("stage", {"code": "../x"}, "internal", "fingerprint"),
        ("stage", {"code": "0" * 64, "archive": "%%%"}, "transient", "stage it again"),
        ("open", {"campaign": CAMPAIGN, "config": {}}, "internal", "wrong campaign"),
        ("poll", {"campaigns": [{"campaign": CAMPAIGN, "workers": -1, "target": 0}]}, "internal", "workers"),
    ],
)
def test_wrong_requests(site: Site, command: str, request_: dict[str, Any], kind: str, message: str) -> None:
    """An error in words, with who can act; nothing happens outside of the work folder."""
    error = site.ask(command, **request_)["error"]
    assert error["kind"] == kind
    assert message in error["message"]


def test_wrong_configurations(site: Site) -> None:
    """Found when the campaign is opened: nothing is left behind that a worker could stumble over."""
    good = site.config()
    changes: list[dict[str, Any]] = [
        {"slots": 0},
        {"objectives": True},
        {"scheduler": {"kind": "pbs"}},
        {"limits": {}},
        {"linger": -1},
    ]
    for change in changes:
        config: dict[str, Any] = {**good, **change}
        assert site.ask("open", campaign=CAMPAIGN, config=config)["ok"] is False
    assert not (site.folder / "campaign.json").exists()


def test_no_request_no_reply(site: Site) -> None:
    """Without a token there is nothing to answer to."""
    for request in (b"", b"{}", b'{"token": "x y"}', b"[1]"):
        argv = [site.python, str(site.program), "call"]
        ran = subprocess.run(argv, input=request, capture_output=True, check=False)
        assert (ran.returncode, ran.stdout) == (2, b"")


def test_probe(site: Site) -> None:
    """What a site is, and what is wrong with it."""
    reply = site.call("probe", python=site.python, write=True, scheduler={"kind": "local", "max_workers": 3})
    assert (reply["writable"], reply["locks_ok"], reply["problems"]) == (True, True, [])
    assert reply["scheduler"]["max_submit"] == 3
    assert reply["disk_free_bytes"] > 0
    reply = site.call("probe", python="/no/such/python", scheduler={"kind": "pbs"})
    assert [("pbs" in text, "/no/such/python" in text) for text in reply["problems"]] == [
        (True, False),
        (False, True),
    ]
    assert not list(site.work.glob(".*"))


def test_stage_twice_and_damaged(site: Site) -> None:
    """Staging is idempotent; what is not what it says it is never gets a name."""
    sha = site.stage()
    assert site.call("stage", code=sha)["present"] is True
    assert site.stage() == sha
    assert site.call("stage", code="0" * 64)["present"] is False
    packed = base64.b64encode(archive.pack({"a.py": b"x"})).decode()
    error = site.ask("stage", code="0" * 64, archive=packed)["error"]
    assert "damaged" in error["message"]
    assert [path.name for path in (site.work / "code").iterdir()] == [sha]


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py"])
def test_an_archive_cannot_write_elsewhere(site: Site, name: str) -> None:
    """Paths that leave the folder, and links, are refused."""
    packed = base64.b64encode(archive.pack({name: b"x"})).decode()
    assert site.ask("stage", code="0" * 64, archive=packed)["error"]["kind"] == "user"
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    packed = base64.b64encode(raw.getvalue()).decode()
    assert site.ask("stage", code="0" * 64, archive=packed)["error"]["kind"] == "user"
    assert not list(site.work.parent.rglob("evil.py"))


def test_collect_with_torn_and_damaged_lines(site: Site) -> None:
    """A torn end waits while its worker lives, and is no reason to keep a file; junk is passed on."""
    site.open(limits={"line_bytes": 200, "depth": 8})
    results_folder = site.folder / "results"
    (results_folder / "7_0_0.ndjson").write_bytes(b"one\n\xfftwo\ntorn")
    (results_folder / "8_0_0.ndjson").write_bytes(b"y" * 500 + b"\nlast\n")
    site.pool.register("7_0_0")
    first = site.call("collect", campaign=CAMPAIGN, offsets={}, max_bytes=1000)
    data = {file["file"]: (file["data"], file["next"]) for file in first["files"]}
    assert data["7_0_0.ndjson"] == ("one\n?two\n", 9)
    assert data["8_0_0.ndjson"] == ("y" * 500 + "\nlast\n", 506)
    assert first["more"] is False
    site.call(
        "collect", campaign=CAMPAIGN, offsets={name: end for name, (_, end) in data.items()}, max_bytes=99
    )
    archived = [path.name for path in (results_folder / "archive").iterdir()]
    assert archived == ["8_0_0.ndjson"]
    site.pool.unregister("7_0_0")
    site.call("collect", campaign=CAMPAIGN, offsets={"7_0_0.ndjson": 9}, max_bytes=99)
    assert [path.name for path in results_folder.glob("*.ndjson")] == []


def test_a_line_without_end_does_not_block_a_file(site: Site) -> None:
    """Junk that is longer than any line is handed over in pieces, and what follows is still read."""
    site.open(limits={"line_bytes": 200, "depth": 8})
    (site.folder / "results" / "7_0_0.ndjson").write_bytes(b"y" * 1000 + b"\nlast\n")
    text, offset, more = "", 0, True
    while more:
        reply = site.call("collect", campaign=CAMPAIGN, offsets={"7_0_0.ndjson": offset}, max_bytes=150)
        text += "".join(file["data"] for file in reply["files"])
        offset, more = reply["files"][0]["next"], reply["more"]
    assert text == "y" * 1000 + "\nlast\n"


def test_the_zipapp_is_the_same_every_time() -> None:
    """Its name is its content: the same sources give the same file."""
    assert build.build() == build.build()
    assert build.name(b"x") == "2d711642b726b044.pyz"
