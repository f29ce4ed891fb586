"""Memory beyond the allocation costs its own evaluation only, and nothing outlives the worker."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from l2l_tasks.agent import oversight
from l2l_tasks.agent.results import ResultLine
from l2l_tasks.agent.scheduler import processes
from tests.agent.lab import ZOO, Site, bundle, evaluation, singles, stop, until

MIB = 2**20
GREEDY = (
    ZOO
    + '''
    def take(self, params, request):
        """Holds so many MiB for a while; keeps them, if asked to."""
        print("takes", params["mib"], flush=True)
        taken = [bytearray(b"x" * 2**20) for _ in range(params["mib"])]
        if params.get("keep"):
            self.kept = getattr(self, "kept", []) + taken
        time.sleep(params["s"])
        return {"status": "ok", "fitness": [1.0], "metrics": {"pid": os.getpid()}}

    def share(self, params, request):
        """As many processes hold the same pages."""
        taken = bytearray(b"x" * 2**20 * params["mib"])
        for _ in range(params["processes"]):
            if os.fork() == 0:
                time.sleep(params["s"])
                os._exit(0)
        time.sleep(params["s"])
        return {"status": "ok", "fitness": [1.0]}

    def others(self, params, request):
        """What it starts takes the memory, in a session of its own."""
        code = "import time; x = bytearray(b'x' * 2**20 * %d); time.sleep(60)" % params["mib"]
        subprocess.run([sys.executable, "-c", code], start_new_session=True)

    def leave(self, params, request):
        """Leaves two processes behind, each in a session of its own."""
        started = subprocess.Popen(["sleep", "600"], start_new_session=True)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
        if params["then"] == "fail":
            raise ValueError("after all")
        return {"status": "ok", "fitness": [1.0]}
'''
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    for pids in left(made).values():  # if a test fails
        processes.send(pids, signal.SIGKILL)


def left(site: Site) -> dict[str, list[int]]:
    """Live processes that evaluators of the site started."""
    found = processes.by_environment(oversight.MARK)
    return {mark: pids for mark, pids in found.items() if mark.startswith(str(site.folder))}


def with_memory(mebibytes: int) -> dict[str, Any]:
    return {"scheduler": {"kind": "local", "memory": f"{mebibytes}M"}}


def failed_for_memory(line: ResultLine) -> str:
    """The message."""
    assert line.error is not None
    assert (line.status, line.error["kind"]) == ("failed", "memory")
    return line.error["message"]


@pytest.mark.parametrize("how", ["take", "others"])
def test_too_much_memory(site: Site, how: str) -> None:
    """The message has the sizes, the last lines are there, and the next evaluation is not affected."""
    site.open(GREEDY, attempts=1, **with_memory(200))
    greedy = evaluation(0, {"do": how, "mib": 250, "s": 60})
    site.work_off([bundle(0, [greedy, evaluation(1, {"x": 3})])])
    final = site.final()
    message = failed_for_memory(final["0.0.0"])
    assert re.search(r"held \d+ MiB of memory, and the worker has 200 MiB", message)
    assert final["0.0.0"].error is not None
    assert ("takes 250" in final["0.0.0"].error["tail"]) == (how == "take")
    assert final["1.0.0"].fitness == [9.0]
    assert not left(site)


def test_only_the_greediest_pays(site: Site) -> None:
    """Of those that run at once; the memory counts together."""
    site.open(GREEDY, attempts=1, slots=2, **with_memory(250))
    modest, greedy = ({"do": "take", "mib": mib, "s": s} for mib, s in ((80, 4), (160, 60)))
    site.work_off(singles([modest, greedy]))
    final = site.final()
    assert final["0.0.0"].status == "ok"
    assert "the most of all in its worker" in failed_for_memory(final["1.0.0"])


def test_shared_memory_counts_once(site: Site) -> None:
    """Six processes with the same 60 MiB are no 360."""
    site.open(GREEDY, attempts=1, **with_memory(250))
    (line,) = site.work_off(singles([{"do": "share", "mib": 60, "processes": 5, "s": 3}]))
    assert line.status == "ok"


def test_an_evaluation_does_not_pay_for_those_before_it(site: Site) -> None:
    """An optimizee that keeps some memory each time: whose turn it is when there is no more runs again."""
    site.open(GREEDY, attempts=1, **with_memory(200))
    little = {"do": "take", "mib": 40, "s": 0.6, "keep": True}
    site.work_off([bundle(0, [evaluation(n, little) for n in range(7)])])
    final = site.final()
    assert [line.status for line in final.values()] == ["ok"] * 7
    assert {line.attempt for line in final.values()} == {0}
    assert len({line.metrics["pid"] for line in final.values()}) > 1


@pytest.mark.parametrize("then", ["fail", "succeed"])
def test_what_is_left_behind_ends_with_the_worker(site: Site, then: str) -> None:
    site.open(GREEDY, attempts=1)
    site.work_off(singles([{"do": "leave", "then": then}]))
    assert not left(site)


def test_what_a_failure_leaves_behind_ends_soon(site: Site) -> None:
    """While the worker goes on."""
    site.open(GREEDY, attempts=1, linger=60.0)
    site.put(singles([{"do": "leave", "then": "fail"}]))
    worker = site.start_worker()
    try:
        until(site.results)
        until(lambda: not left(site))
        assert worker.poll() is None
    finally:
        stop(worker)


MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("environment", "scheduler", "expected"),
    [
        ({}, {}, MACHINE),
        ({}, {"memory": None}, MACHINE),
        ({}, {"memory": "300M"}, 300 * MIB),
        ({}, {"memory": "1G"}, 1024 * MIB),
        ({}, {"memory": "900000000M"}, MACHINE),
        ({"SLURM_MEM_PER_NODE": "100"}, {"memory": "300M"}, 100 * MIB),
        ({"SLURM_MEM_PER_NODE": "0"}, {}, MACHINE),
        ({"SLURM_MEM_PER_CPU": "50", "SLURM_CPUS_ON_NODE": "4"}, {}, 200 * MIB),
    ],
)
def test_allocated(environment: Mapping[str, str], scheduler: Mapping[str, Any], expected: int) -> None:
    """Slurm knows best, then the campaign; nobody has more than the machine."""
    assert oversight.allocated(environment, scheduler) == expected
