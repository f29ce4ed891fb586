"""Runs jobs in processes of low priority, one BLAS thread each, and appends their rows to a results file.

What the file has already is not run again: an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from benchmarks.optimizers.adapters import expand
from benchmarks.optimizers.runs import Job, Row, row_key, run

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""For the environment of a process that has not imported numpy yet."""


def read(path: Path) -> list[Row]:
    """The rows of a results file; a last line that was cut off is left out."""
    rows: list[Row] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
    return rows


def missing(jobs: Sequence[Job], rows: Sequence[Row]) -> list[Job]:
    """The jobs of which at least one row is not there."""
    there = {row_key(row) for row in rows}
    return [job for job in jobs if not there.issuperset(job.keys())]


def execute(jobs: Sequence[Job], results: Path, processes: int, cpu_minutes: float = 0.0) -> None:
    """Run what is missing; begin nothing more once `cpu_minutes` (0: no limit) of CPU time are used."""
    rows = read(results)
    todo = missing(jobs, rows)
    print(f"{len(jobs)} runs, {len(todo)} of them to do", file=sys.stderr, flush=True)
    os.environ.update(ONE_THREAD)
    results.parent.mkdir(parents=True, exist_ok=True)
    there = {row_key(row) for row in rows}
    used, done, begin = 0.0, 0, time.monotonic()
    with (
        results.open("a", encoding="utf-8") as out,
        ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _lower) as pool,
    ):
        waiting = iter(todo)
        running: set[Future[list[Row]]] = set()
        more = True
        while running or more:
            while more and len(running) < 2 * processes:
                job = next(waiting, None)
                more = job is not None and not (cpu_minutes and used > 60 * cpu_minutes)
                if job is not None and more:
                    running.add(pool.submit(run, job))
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                if error := future.exception():
                    print(f"a run failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                    continue
                made = [row for row in future.result() if row_key(row) not in there]
                out.writelines(json.dumps(row) + "\n" for row in made)
                out.flush()
                used += made[0]["cpu"] if made else 0.0
                done += 1
                if done % 100 == 0:
                    wall = time.monotonic() - begin
                    print(
                        f"{done} of {len(todo)}: {used / 60:.1f} CPU minutes, {wall / 60:.1f} minutes",
                        file=sys.stderr,
                        flush=True,
                    )
    print(f"{done} runs done, {used / 60:.1f} CPU minutes", file=sys.stderr)


def _lower() -> None:
    os.nice(19)
    warnings.simplefilter("ignore")  # of the libraries, about what is recorded anyway


def _ended(*_: object) -> None:
    raise SystemExit("ended; the runs under way are not recorded")


def numbers(text: str) -> list[int]:
    """`1-3,7` as 1, 2, 3, 7."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def common(
    description: str, algorithms: Sequence[str], results: str, without: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """The arguments that all of these programs take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--algorithms", nargs="+", default=list(algorithms), help="library:algorithm, or library:* for all"
    )
    parser.add_argument("--without", nargs="+", default=list(without), help="algorithms left out")
    parser.add_argument("--instances", type=numbers, default=numbers("1-15"), help="which, also the seeds")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--cpu-minutes", type=float, default=0.0, help="begin no run after these; 0: no limit"
    )
    parser.add_argument("--cpu-limit", type=float, default=0.0, help="CPU seconds after which a run is ended")
    parser.add_argument("--results", type=Path, default=Path(results), help="file to append to (JSON lines)")
    parser.add_argument("--list", action="store_true", help="only print the algorithms and count the runs")
    return parser


def chosen(arguments: argparse.Namespace, objectives: int = 1) -> list[str]:
    """The algorithms that the arguments name."""
    left_out = expand(arguments.without, objectives)
    return [name for name in expand(arguments.algorithms, objectives) if name not in left_out]


def start(arguments: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """Run, or with --list say what would be run."""
    signal.signal(signal.SIGTERM, _ended)
    if arguments.list:
        for name in dict.fromkeys(job.algorithm for job in jobs):
            print(name, sum(job.algorithm == name for job in jobs), "runs")
        return
    execute(jobs, arguments.results, arguments.jobs, arguments.cpu_minutes)
