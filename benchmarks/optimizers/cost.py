"""What an optimizer costs: CPU time of ask, tell and a round trip of the state, and the bytes of the state.

    python -m benchmarks.optimizers.cost --results cost.jsonl
    python -m benchmarks.optimizers.cost --show cost.jsonl

Ours only. Every cell is a process of its own, on a sphere function: some generations to warm up, then the
means over some more. Cells of more than `--largest` numbers per generation (population times dimension), of
too much memory or time are left out; what a smaller population or dimension could not do is not tried.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

import optimizers
from benchmarks.optimizers.pool import ONE_THREAD, numbers, read
from benchmarks.optimizers.runs import Row
from benchmarks.optimizers.table import markdown
from optimizers import OptimizerError
from optimizers.base import Evaluated, Optimizer
from optimizers.space import Float, Space

P = ParamSpec("P")
T = TypeVar("T")
POPULATIONS = (10, 100, 1000, 10_000)
DIMENSIONS = (10, 100, 1000, 10_000, 100_000)
WARM_UP = 2
LEAST = 0.3
"""CPU seconds: the clock of CPU time may be as coarse as 10 ms."""


def measure(name: str, dimension: int, population: int, generations: int, seconds: float) -> Row:
    """One cell: means over at least `generations`, and over more of them until `LEAST` seconds are measured;
    large cells end after `seconds`, with at least one generation."""
    space = Space({"x": Float(-5.0, 5.0, shape=(dimension,))})
    kind = optimizers.get(name)
    objectives = 2 if kind.capabilities.objectives == "multi" else 1
    optimizer: Optimizer = kind(space, objectives, {}, 1)
    times: dict[str, list[float]] = {"ask": [], "tell": [], "save": [], "load": []}
    size, begin = 0, time.process_time()
    for generation in range(WARM_UP + 50 * generations):
        measured = sum(sum(values) for values in times.values()) / 1000
        enough = len(times["ask"]) >= generations and measured > LEAST
        if enough or (generation > WARM_UP and time.process_time() - begin > seconds):
            break
        asked, ask = _timed(optimizer.ask, population)
        told = _evaluated(optimizer, [(one.id, np.array(one.params["x"])) for one in asked])
        _, tell = _timed(optimizer.tell, told)
        data, save = _timed(optimizer.state)
        optimizer, load = _timed(kind.from_state, data, space, objectives, optimizer.options)
        size = len(data)
        if generation >= WARM_UP:
            for key, value in zip(times, (ask, tell, save, load), strict=True):
                times[key].append(value)
    row: Row = {key: round(float(np.mean(values)), 4) for key, values in times.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {**row, "bytes": size, "generations": len(times["ask"]), "peak_mb": peak}


def _timed(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, float]:
    """What it returns, and its CPU time in ms."""
    begin = time.process_time()
    returned = call(*args, **kwargs)
    return returned, 1000 * (time.process_time() - begin)


def _evaluated(optimizer: Optimizer, asked: list[tuple[int, np.ndarray]]) -> list[Evaluated]:
    told = []
    for individual, x in asked:
        losses = (float(x @ x), float((x - 1) @ (x - 1)))[: optimizer.n_objectives]
        measures = {name: np.tanh(x[None, :10]) for name in optimizer.measures(optimizer.options)}
        told.append(Evaluated(individual, losses, measures=measures))
    return told


def in_process(name: str, dimension: int, population: int, given: argparse.Namespace) -> Row:
    """`measure` in a new process; a row with "refused" says why there is nothing."""
    cell = [name, str(dimension), str(population)]
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--cell", *cell]
    for option in ("generations", "seconds", "memory", "cpu_limit"):
        command += ["--" + option.replace("_", "-"), str(getattr(given, option))]
    row: Row = {"kind": "cost", "algorithm": name, "dimension": dimension, "population": population}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=20 * given.cpu_limit,
            env={**os.environ, **ONE_THREAD},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {**row, "refused": f"more than {20 * given.cpu_limit:.0f} s"}
    if done.returncode == -signal.SIGXCPU:
        return {**row, "refused": f"more than {given.cpu_limit:.0f} s of CPU time"}
    if done.returncode:
        return {**row, "refused": (done.stderr.strip().splitlines() or ["killed"])[-1][:200]}
    return {**row, **json.loads(done.stdout)}


def one_cell(given: argparse.Namespace) -> None:
    """The child: prints the cell's figures as JSON."""
    os.nice(19)
    resource.setrlimit(resource.RLIMIT_AS, (int(given.memory * 2**30),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(given.cpu_limit), int(given.cpu_limit) + 5))
    name, dimension, population = given.cell
    try:
        row = measure(name, int(dimension), int(population), given.generations, given.seconds)
    except OptimizerError as error:
        sys.exit(str(error))
    print(json.dumps(row))


def show(rows: Sequence[Row]) -> str:
    """Markdown: per optimizer and cell, ms of ask + tell, ms of saving + loading, and the state's size."""
    cells = sorted({(row["dimension"], row["population"]) for row in rows})
    head = ["optimizer", *[f"D {dimension:,}, n {population:,}" for dimension, population in cells]]
    lines = []
    for name in sorted({row["algorithm"] for row in rows}):
        own = {(row["dimension"], row["population"]): row for row in rows if row["algorithm"] == name}
        lines.append([name, *[_cell(own.get(cell)) for cell in cells]])
    return markdown(head, lines)


def _cell(row: Row | None) -> str:
    if row is None or "refused" in row:
        return "–"
    times = f"{row['ask'] + row['tell']:.3g} + {row['save'] + row['load']:.3g} ms"
    return f"{times} · {readable(row['bytes'])}"


def readable(size: float) -> str:
    """Bytes with three digits: 12.3 kB."""
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizers", nargs="+", default=optimizers.names())
    parser.add_argument("--dimensions", type=numbers, default=list(DIMENSIONS))
    parser.add_argument("--populations", type=numbers, default=list(POPULATIONS))
    parser.add_argument("--largest", type=int, default=10_000_000, help="population times dimension")
    parser.add_argument("--generations", type=int, default=5, help="at least, after the warm-up")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="CPU time after which no generation begins"
    )
    parser.add_argument("--cpu-limit", type=float, default=120.0, help="CPU seconds that a cell may take")
    parser.add_argument("--memory", type=float, default=6.0, help="GB of address space that a cell may take")
    parser.add_argument("--results", type=Path, default=Path("cost.jsonl"))
    parser.add_argument("--show", type=Path, help="print the table of this file")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.cell:
        one_cell(given)
        return
    if given.show:
        print(show(read(given.show)))
        return
    rows = read(given.results)
    there = {(row["algorithm"], row["dimension"], row["population"]): row for row in rows}
    given.results.parent.mkdir(parents=True, exist_ok=True)
    with given.results.open("a", encoding="utf-8") as out:
        for name in given.optimizers:
            beyond: list[tuple[int, int]] = []
            for dimension in given.dimensions:
                for population in given.populations:
                    if dimension * population > given.largest:
                        continue
                    if any(dimension >= d and population >= p for d, p in beyond):
                        continue
                    row = there.get((name, dimension, population))
                    if row is None:
                        row = in_process(name, dimension, population, given)
                        out.write(json.dumps(row) + "\n")
                        out.flush()
                    if "refused" in row:
                        beyond.append((dimension, population))
                        print(f"{name}, D {dimension}, n {population}: {row['refused']}", file=sys.stderr)


if __name__ == "__main__":
    main()
