"""Drives one generation and kills itself with SIGKILL at a chosen commit. Run by test_kill.py.

usage: kill_child.py ORIGIN SPEC GENERATION LOG STEP NUMBER before|after
       kill_child.py ORIGIN SPEC GENERATION LOG - 0 -      (undisturbed; prints the commits of each step)

LOG is `log` or `nolog`: importing MLflow takes two seconds, so only what is about logging pays for it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from l2l_tasks import steps
from l2l_tasks.context import Context, open_context
from l2l_tasks.spec import load


class Killer:
    """Counts the commits of each step and dies at one of them."""

    def __init__(self, ctx: Context, step: str, number: int, side: str) -> None:
        self.wanted = (step, number, side)
        self.step, self.count = "begin", 0
        self.seen: list[list[Any]] = []
        dialect = ctx.engine.dialect
        commit = dialect.do_commit

        def do_commit(connection: Any) -> None:
            self.count += 1
            self.seen.append([self.step, self.count])
            self._maybe_die("before")
            commit(connection)
            self._maybe_die("after")

        dialect.do_commit = do_commit  # type: ignore[method-assign]

    def enter(self, step: str) -> None:
        self.step, self.count = step, 0

    def _maybe_die(self, side: str) -> None:
        if self.wanted == (self.step, self.count, side):
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    origin, path, generation, log, step, number, side = sys.argv[1:]
    ctx = open_context()
    killer = Killer(ctx, step, int(number), side)
    killer.enter("begin")
    campaign = steps.begin(ctx, origin, load(Path(path)), Path(path).parent, "test")
    g = int(generation)
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
    if log == "log":
        killer.enter("log")
        steps.log(ctx, campaign, False)
    print(json.dumps({"campaign": campaign, "commits": killer.seen}))


if __name__ == "__main__":
    main()
