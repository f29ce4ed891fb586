"""Drives generations in forked processes that kill themselves with SIGKILL at a chosen commit.

Reads JSON lines on stdin, {"origin", "spec", "generation", "kill": [step, number, side] or null}; forks a
process that does this generation; answers with a line {"signal", "status", "commits": [[step, number]...]}.
It forks so that Python, SQLAlchemy and MLflow are imported once, not a hundred times.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import l2l_tasks.tracking.drain  # noqa: F401  (imported before the first fork)
from l2l_tasks import steps
from l2l_tasks.context import Context, open_context
from l2l_tasks.spec_file import load


class Killer:
    """Counts the commits of each step and dies at one of them."""

    def __init__(self, ctx: Context, wanted: list[Any] | None, report: int) -> None:
        self.wanted, self.report = wanted, report
        self.step, self.count = "begin", 0
        dialect = ctx.engine.dialect
        commit = dialect.do_commit

        def do_commit(connection: Any) -> None:
            self.count += 1
            os.write(self.report, f"{json.dumps([self.step, self.count])}\n".encode())
            self._maybe_die("before")
            commit(connection)
            self._maybe_die("after")

        dialect.do_commit = do_commit  # type: ignore[method-assign, assignment]

    def enter(self, step: str) -> None:
        self.step, self.count = step, 0

    def _maybe_die(self, side: str) -> None:
        if self.wanted == [self.step, self.count, side]:
            os.kill(os.getpid(), signal.SIGKILL)


def drive(job: dict[str, Any], report: int) -> None:
    """All five steps of one generation."""
    ctx = open_context()
    killer = Killer(ctx, job["kill"], report)
    path, g = Path(job["spec"]), job["generation"]
    campaign = steps.begin(ctx, job["origin"], load(path), path.parent, "test")
    killer.enter("submit")
    steps.submit(ctx, campaign, g)
    while True:
        killer.enter("wait")
        request = steps.remaining_target(ctx, campaign, g)
        if request is not None:
            asked = {"campaign": campaign, "workers": request.workers, "target": request.target}
            ctx.site(request.site).poll([asked], wait=5)
        killer.enter("collect")
        if steps.collect(ctx, campaign, g):
            break
    killer.enter("update")
    steps.update(ctx, campaign, g)
    killer.enter("log")
    steps.log(ctx, campaign, False)


def forked(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            drive(job, writing)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as stream:
        commits = [json.loads(line) for line in stream]
    _, status = os.waitpid(child, 0)
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return {"signal": killed, "status": status, "commits": commits}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(forked(json.loads(line))), flush=True)
