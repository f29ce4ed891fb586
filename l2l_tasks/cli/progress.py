"""What `l2l run` shows while a campaign runs: a line per generation, and a moving line for the present."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.status import Status
from rich.text import Text

from l2l_tasks.held_out import in_words

LINES_SHOWN, LINE_CHARS = 5, 200
COLUMNS = f"{'gen':>5} {'best':>12} {'median':>12} {'best so far':>12} {'ok':>5} {'bad':>4} {'s':>7}"


class Display:
    """Shows a runner's progress; on something that is not a terminal only the lines."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._status = Status("beginning", console=self.console)
        self._campaign = ""
        self._ended = False
        self._explained: set[str] = set()
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()
        if error is not None and self._campaign and not self._ended:
            self.console.print(f"paused; go on with: l2l resume {self._campaign}", markup=False)

    def show(self, event: str, detail: dict[str, Any]) -> None:
        """Take in one event of the runner."""
        if event == "begun":
            self._campaign = detail["campaign"]
            self.console.print(f"campaign {self._campaign}", style="bold", markup=False)
            self.console.print(COLUMNS, markup=False)
        elif event == "waiting":
            self._status.update(Text(waiting_line(detail)))
        elif event == "told":
            seconds, self._since = time.monotonic() - self._since, time.monotonic()
            if detail["told"]:
                self.console.print(told_line(detail, seconds), markup=False)
            for test in detail.get("tests", ()):  # none in those told by earlier releases
                self.console.print(test_line(test), markup=False)
        elif event == "failed" and detail["kind"] not in self._explained:  # once is enough
            self._explained.add(detail["kind"])
            self.console.print(failure_page(detail), style="red", markup=False, soft_wrap=True)
        elif event == "tracking":
            self.console.print(
                f"MLflow: {detail['error']} (the campaign goes on)", style="yellow", markup=False
            )
        elif event == "ended":
            self._ended = True
            self.console.print(f"{self._campaign} ended: {detail['reason']}", style="bold", markup=False)


def waiting_line(detail: dict[str, Any]) -> str:
    """What the site does at present."""
    workers = detail.get("workers", [])
    running = sum(worker.get("state") == "RUNNING" for worker in workers)
    waits = next((w.get("reason") for w in workers if w.get("state") == "PENDING" and w.get("reason")), None)
    text = (
        f"generation {detail['generation']}: {detail['todo']} evaluations wait, {detail['running']} run; "
        f"{running} of {len(workers)} workers run"
    )
    if detail.get("rejected"):
        return f"{text}; the scheduler refuses: {detail['rejected']}"
    if not detail.get("known", True):
        return f"{text}; the scheduler does not answer"
    return f"{text}; queue: {waits}" if waits and not running else text


def failure_text(detail: dict[str, Any]) -> str:
    """What most of a generation's unsuccessful evaluations ended with."""
    message = " ".join(detail["message"].split())
    kind = f"{detail['kind']}: " if detail["kind"] else ""
    return f"{detail['evaluations']} of {detail['of_all']}: {kind}{message}"


def failure_page(detail: dict[str, Any]) -> str:
    """`failure_text`, and the last lines that one of these evaluations printed."""
    head = "some evaluations failed" if detail["ok"] else "no evaluation succeeded"
    return "\n".join([f"{head}: {failure_text(detail)}", *last_lines(detail)])


def last_lines(detail: dict[str, Any]) -> list[str]:
    """Which evaluation a failure is shown of, and the last lines of its output, indented."""
    lines = [line.rstrip() for line in (detail["tail"] or "").splitlines() if line.strip()]
    shown = [f"      | {line[:LINE_CHARS]}" for line in lines[-LINES_SHOWN:]]
    said = "its last lines:" if shown else "it printed nothing"
    return [f"    evaluation {detail['key']} (individual.task.repeat); {said}", *shown]


def told_line(detail: dict[str, Any], seconds: float) -> str:
    """One finished generation; numbers of the first objective."""
    fitness, best = detail["fitness"], detail["progress"]["best"]
    so_far = None if best is None else best["fitness"][0]
    status = detail["status"]
    bad = sum(number for name, number in status.items() if name != "ok")
    return (
        f"{detail['generation']:>5} {_number(fitness['best'])} {_number(fitness['median'])} "
        f"{_number([so_far] if so_far is not None else [])} {status.get('ok', 0):>5} {bad:>4} {seconds:>7.1f}"
    )


def test_line(test: dict[str, Any]) -> str:
    """One test on held-out tasks; numbers of the first objective."""
    return f"test  after {test['after']} generations: {in_words(test['fitness'], test['low'], test['high'])}"


def _number(values: list[float]) -> str:
    return f"{values[0]:>12.5g}" if values else f"{'-':>12}"
