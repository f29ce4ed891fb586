"""One run of one algorithm on one function: pure functions of a job, so that any process can do it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.optimizers import problems
from benchmarks.optimizers.adapters import Adapter, Task, UnsupportedError, load, make
from optimizers.individuals import FloatArray

Row = dict[str, Any]
Disturb = Callable[[FloatArray, np.random.Generator], FloatArray]

NOISES: Mapping[str, Disturb] = {
    "none": lambda gaps, chance: gaps,  # noqa: ARG005
    "additive": lambda gaps, chance: gaps + chance.standard_normal(len(gaps)),
    "multiplicative": lambda gaps, chance: gaps * np.exp(chance.standard_normal(len(gaps))),
    "fail10": lambda gaps, chance: np.where(chance.random(len(gaps)) < 0.1, np.inf, gaps),
    "fail30": lambda gaps, chance: np.where(chance.random(len(gaps)) < 0.3, np.inf, gaps),
}
"""What becomes of gaps f - f_opt before they are told; infinity: the evaluation failed."""


@dataclass(frozen=True)
class Job:
    """A run, and the budgets (evaluations per dimension, ascending) at which it is read.

    Attributes:
        problem: a BBOB function's number, or the name of a function of several objectives.
        batch: 0: the algorithm's own.
        noise: one of NOISES; "" in the noiseless benchmark.
        cpu_limit: the run ends after so many CPU seconds; 0: no limit.
    """

    kind: str
    algorithm: str
    problem: int | str
    dimension: int
    instance: int
    batch: int
    budgets: tuple[int, ...]
    noise: str = ""
    cpu_limit: float = 0.0

    def keys(self) -> list[str]:
        """What names each of the rows that it will give."""
        return [row_key({**asdict(self), "budget": budget}) for budget in self.budgets]


def row_key(row: Mapping[str, Any]) -> str:
    """What a row is about, as a text."""
    names = ("kind", "algorithm", "problem", "dimension", "instance", "batch", "budget", "noise")
    return "/".join(str(row[name]) for name in names)


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        seconds: CPU time of ask and tell.
        ended: why before the budget was spent; "" when it was.
        lowest: the lowest loss told, and its point.
    """

    evaluations: int = 0
    seconds: float = 0.0
    ended: str = ""
    lowest: tuple[float, FloatArray] | None = None
    recommended: FloatArray | None = None


def drive(adapter: Adapter, job: Job, budget: int, evaluate: Callable[[FloatArray], FloatArray]) -> Outcome:
    """Ask and tell until `budget` evaluations are spent. `evaluate` gives losses (m, objectives).

    Of a last generation that is too large, only the first points are evaluated, and nothing is told.
    """
    done = Outcome()
    begin = time.process_time()
    try:
        while done.evaluations < budget:
            if job.cpu_limit and time.process_time() - begin > job.cpu_limit:
                done.ended = f"CPU limit after {done.evaluations} evaluations"
                break
            at = time.process_time()
            points = adapter.ask(min(adapter.batch, budget - done.evaluations))
            done.seconds += time.process_time() - at
            if not len(points):
                done.ended = f"nothing left after {done.evaluations} evaluations"
                break
            if not np.isfinite(points).all():
                done.ended = f"points that are not finite after {done.evaluations} evaluations"
                break
            left = budget - done.evaluations
            losses = evaluate(points[:left])
            done.evaluations += len(losses)
            best = int(np.argmin(losses[:, 0]))
            if math.isfinite(losses[best, 0]) and (done.lowest is None or losses[best, 0] < done.lowest[0]):
                done.lowest = (float(losses[best, 0]), points[best].copy())
            if len(points) <= left:
                at = time.process_time()
                adapter.tell(points, losses)
                done.seconds += time.process_time() - at
        done.recommended = adapter.recommend()
    except Exception as error:  # another library's mistake is a result, too
        done.ended = f"{type(error).__name__} after {done.evaluations} evaluations: {error}"[:200]
    finally:
        adapter.close()
    return done


def run(job: Job) -> list[Row]:
    """The job's rows, one per budget; none when the algorithm is not for it."""
    try:
        return _multi_objective(job) if job.kind == "multi" else _one_objective(job)
    except UnsupportedError:
        return []


def _one_objective(job: Job) -> list[Row]:
    function, dimension, instance = int(job.problem), job.dimension, job.instance
    seed = problems.seed(function, dimension, instance)
    budget = job.budgets[-1] * dimension
    start = problems.start(function, dimension, instance)
    bbob = problems.BBOB(function, dimension, instance)
    progress = problems.Progress()
    chance = np.random.default_rng([9, seed])
    shift = 0.0 if job.noise else bbob.optimum

    def evaluate(points: FloatArray) -> FloatArray:
        gaps = bbob(points)
        progress.add(gaps)
        told = NOISES[job.noise](gaps, chance) if job.noise else gaps + shift
        return told[:, None]

    load(job.algorithm)
    before = time.process_time()
    task = Task(dimension, problems.LOW, problems.HIGH, start, seed, budget, job.batch or None)
    adapter = make(job.algorithm, task)
    done = drive(adapter, job, budget, evaluate)
    cpu = time.process_time() - before
    rows = []
    for each in job.budgets:
        spent = each * dimension
        row = _row(job, each, done, cpu, spent)
        if job.noise:
            row["true_gap"] = _true_gap(bbob, done)
        else:
            row["reached"] = progress.reached(spent)
            row["area"] = round(progress.area(spent, dimension), 5)
            if spent >= budget:
                row["gap"] = progress.best if math.isfinite(progress.best) else None
        rows.append(row)
    return rows


def _true_gap(bbob: problems.BBOB, done: Outcome) -> float | None:
    """What the recommended point is truly worth."""
    point = done.recommended
    if point is None or not np.isfinite(point).all():
        point = None if done.lowest is None else done.lowest[1]
    return None if point is None else float(bbob(point[None])[0])


def _multi_objective(job: Job) -> list[Row]:
    problem = problems.MULTI[str(job.problem)]
    seed = problems.seed(1000 + list(problems.MULTI).index(str(job.problem)), job.dimension, job.instance)
    told: list[FloatArray] = []

    def evaluate(points: FloatArray) -> FloatArray:
        losses = problem.evaluate(points)
        told.append(losses)
        return losses

    load(job.algorithm)
    before = time.process_time()
    budget = job.budgets[-1]
    middle = np.full(problem.dimension, (problem.low + problem.high) / 2)
    task = Task(
        problem.dimension,
        problem.low,
        problem.high,
        middle,
        seed,
        budget,
        job.batch or None,
        problem.objectives,
    )
    done = drive(make(job.algorithm, task), job, budget, evaluate)
    cpu = time.process_time() - before
    losses = np.concatenate(told) if told else np.empty((0, problem.objectives))
    rows = []
    for each in job.budgets:
        volume = problems.hypervolume(losses[:each], problem.reference)
        rows.append({**_row(job, each, done, cpu, each), "hypervolume": round(volume, 6)})
    return rows


def _row(job: Job, budget: int, done: Outcome, cpu: float, spent: int) -> Row:
    """What all rows have. `evaluations` and the times are the whole run's; `ended` is this budget's."""
    described = asdict(job)
    del described["budgets"], described["cpu_limit"]
    return {
        **described,
        "budget": budget,
        "evaluations": done.evaluations,
        "seconds": round(done.seconds, 4),
        "cpu": round(cpu, 4),
        "ended": done.ended if done.evaluations < spent else "",
    }
