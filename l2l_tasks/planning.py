"""What a campaign does next: pure functions of what is stored, without any I/O.

Everything here is deterministic, so that the Airflow DAG and `l2l run` give the same individuals.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Direction = Literal["minimize", "maximize"]
Status = Literal["ok", "failed", "infeasible"]
Aggregation = str | Mapping[str, float]
"""`mean`, `median`, `worst`, or `{"quantile": share of the evaluations that are at least as good}`."""

_LARGEST_EXCESS = 1e300  # sums of these are finite


@dataclass(frozen=True)
class TaskPlan:
    """Which tasks an individual sees: `per_individual` tasks, each evaluated `repeats` times."""

    per_individual: int
    repeats: int
    fresh: bool

    @property
    def evaluations(self) -> int:
        """Evaluations per individual."""
        return self.per_individual * self.repeats

    def first(self, generation: int) -> int:
        """Task index that a generation begins with."""
        return generation * self.per_individual if self.fresh else 0

    def indices(self, generation: int, tasks: tuple[int, int] | None = None) -> list[int]:
        """Task indices of one generation: all its individuals see the same tasks, so they compare.

        `tasks` (first, number) chooses some of them.

        Raises:
            ValueError: there are not so many, or they are other tasks in every generation.
        """
        first, number = tasks or (0, self.per_individual)
        if tasks is not None and self.fresh:
            raise ValueError(f"tasks {first} to {first + number - 1} need tasks.fresh: false")
        if first < 0 or number < 1 or first + number > self.per_individual:
            raise ValueError(
                f"tasks {first} to {first + number - 1} need tasks.per_individual: {first + number} or more"
            )
        first += self.first(generation)
        return list(range(first, first + number))


def evaluation_seed(campaign_seed: int, individual: int, task: int, repeat: int) -> int:
    """Seed of one evaluation, in 1 … 2**31 - 1 (NEST refuses 0), a function of its place only."""
    text = f"{campaign_seed}/{individual}/{task}/{repeat}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") % (2**31 - 1) + 1


def optimizer_seed(campaign_seed: int, version: int) -> int:
    """Seed of the optimizer that a version of the specification brought: another one draws other points."""
    return campaign_seed if version == 1 else evaluation_seed(campaign_seed, version, -1, -1)


def bundle_name(generation: int, individual: int, offset: int, evaluations: int, size: int) -> str:
    """Name of the bundle that holds an evaluation. Those of tests come last in the order of names.

    Args:
        generation: the generation that asked.
        individual: index of the individual in the campaign, below 0 for tests.
        offset: position of the evaluation among those of its individual.
        evaluations: evaluations per individual.
        size: evaluations per bundle.

    The name depends on the evaluation's place only, never on what else is outstanding: putting a
    generation twice therefore writes the same bundles.
    """
    kind, place = ("", individual) if individual >= 0 else ("t", -individual - 1)
    return f"g{generation:05d}-{kind}{(place * evaluations + offset) // size:05d}"


def losses(fitness: Sequence[float], directions: Sequence[Direction]) -> tuple[float, ...]:
    """Fitness as optimizers see it: every objective is minimised."""
    return tuple(f if d == "minimize" else -f for f, d in zip(fitness, directions, strict=True))


def _mean(values: Sequence[float]) -> float:
    """The mean; finite also where the sum is not (the largest float is a popular penalty)."""
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return statistics.mean(values)  # in fractions: exact, and slow


def _median(values: Sequence[float]) -> float:
    """The median; finite also where the sum of the two in the middle is not."""
    low, high = statistics.median_low(values), statistics.median_high(values)
    middle = (low + high) / 2
    return middle if math.isfinite(middle) else low / 2 + high / 2


def _quantile(values: Sequence[float], share: float, direction: Direction) -> float:
    """The value that this share of the values are at least as good as (interpolated linearly)."""
    ordered = sorted(values, reverse=direction == "maximize")
    place = share * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    part = place - math.floor(place)
    return (1 - part) * below + part * above


def aggregate(
    values: Sequence[Sequence[float]], how: Aggregation, directions: Sequence[Direction]
) -> list[float]:
    """One fitness vector from those of an individual's evaluations (each: one value per objective)."""
    columns = zip(*values, strict=True)
    if not isinstance(how, str):
        return [_quantile(c, how["quantile"], d) for c, d in zip(columns, directions, strict=True)]
    if how == "mean":
        return [_mean(column) for column in columns]
    if how == "median":
        return [_median(column) for column in columns]
    if how == "worst":
        return [max(c) if d == "minimize" else min(c) for c, d in zip(columns, directions, strict=True)]
    raise ValueError(f"unknown aggregation {how!r}: mean, median, worst or a quantile")


@dataclass(frozen=True)
class Told:
    """An individual with its verdict, as the optimizer is told.

    `violation`: how far an infeasible one is from being feasible, > 0; None when that is not known.
    """

    index: int
    params: Mapping[str, Any]
    status: Status
    fitness: list[float] | None
    violation: float | None = None


def judge(
    index: int,
    params: Mapping[str, Any],
    evaluations: Iterable[tuple[str, Sequence[float] | None]],
    how: Aggregation,
    on_failure: str,
    directions: Sequence[Direction],
) -> Told:
    """Verdict on an individual all of whose evaluations are final.

    One infeasible evaluation makes it infeasible. One failed evaluation makes it `failed` (ranked
    last), or infeasible where the campaign says so: an average over what happened to survive would
    reward parameters that crash.
    """
    outcomes = list(evaluations)
    statuses = {status for status, _ in outcomes}
    if "infeasible" in statuses or ("failed" in statuses and on_failure == "infeasible"):
        return Told(index, params, "infeasible", None)
    if "failed" in statuses:
        return Told(index, params, "failed", None)
    return Told(index, params, "ok", aggregate([f for _, f in outcomes if f is not None], how, directions))


def excesses(
    metrics: Mapping[str, Sequence[float]], limits: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """By how much the means of metrics break their limits (`low`, `high`), in parts of the limit.

    Only those that do; a limit of 0 counts as 1.
    """
    found = {}
    for name, limit in limits.items():
        mean = _mean(metrics[name])
        beyond = [
            (sign * mean - sign * limit[side]) / (abs(limit[side]) or 1.0)
            for side, sign in (("low", -1.0), ("high", 1.0))
            if side in limit and sign * mean > sign * limit[side]
        ]
        if beyond:
            found[name] = min(max(beyond), _LARGEST_EXCESS)
    return found


def canonical(value: Any) -> str:
    """JSON text that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def told_sha256(previous: str | None, told: Sequence[Told]) -> str:
    """Fingerprint of the told sequence up to here: equal only if every generation was told the same."""
    rows = [
        [t.index, dict(t.params), t.status, t.fitness, *([] if t.violation is None else [t.violation])]
        for t in told
    ]
    return hashlib.sha256(canonical([previous, rows]).encode()).hexdigest()


@dataclass(frozen=True)
class Progress:
    """What a campaign has used and reached, carried from generation to generation.

    Attributes:
        evaluations: final evaluations so far.
        best: best individual so far (`index`, `params`, `fitness`).
        stagnant: generations since another individual became `best`.
    """

    evaluations: int = 0
    best: Mapping[str, Any] | None = None
    stagnant: int = 0

    def advance(self, best: Mapping[str, Any] | None, evaluations: int) -> Progress:
        """The progress after one more generation, with the best individual as it is seen now."""
        changed = best is not None and (self.best is None or best["index"] != self.best["index"])
        return Progress(self.evaluations + evaluations, best, 0 if changed else self.stagnant + 1)

    def to_json(self) -> dict[str, Any]:
        return {"evaluations": self.evaluations, "best": self.best, "stagnant": self.stagnant}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Progress:
        return cls(int(data["evaluations"]), data["best"], int(data["stagnant"]))


def best_of(
    before: Mapping[str, Any] | None, told: Sequence[Told], direction: Direction
) -> Mapping[str, Any] | None:
    """The best individual by the first objective, as `Progress.best`: `before` or one of those told."""
    sign = 1.0 if direction == "minimize" else -1.0
    best = before
    for t in told:
        if t.fitness is not None and (best is None or sign * t.fitness[0] < sign * best["fitness"][0]):
            best = {"index": t.index, "params": dict(t.params), "fitness": t.fitness}
    return best


@dataclass(frozen=True)
class Budget:
    """Limits of a campaign; None = no limit. Core-hours in hours, wall time in seconds."""

    generations: int | None = None
    evaluations: int | None = None
    core_hours: float | None = None
    wall_time: float | None = None
    target: float | None = None
    stagnation: int | None = None


@dataclass(frozen=True)
class Decision:
    """Whether a campaign goes on after a generation, and if not, why."""

    proceed: bool
    reason: str | None
    next_generation: int


def decide(
    budget: Budget,
    generation: int,
    progress: Progress,
    core_hours: float,
    wall_time: float,
    direction: Direction,
    done: str | None = None,
) -> Decision:
    """The decision after generation `generation` was told; `done`: why the optimizer has nothing left."""
    after = generation + 1
    best = None if progress.best is None else progress.best["fitness"][0]
    reached = (
        best is not None
        and budget.target is not None
        and (best <= budget.target if direction == "minimize" else best >= budget.target)
    )
    limits = [
        (reached, f"target fitness {budget.target} reached: {best}"),
        (budget.generations is not None and after >= budget.generations, f"all {after} generations done"),
        (
            budget.evaluations is not None and progress.evaluations >= budget.evaluations,
            f"{progress.evaluations} of {budget.evaluations} evaluations used",
        ),
        (
            budget.core_hours is not None and core_hours >= budget.core_hours,
            f"{core_hours:.2f} of {budget.core_hours} core-hours used",
        ),
        (
            budget.wall_time is not None and wall_time >= budget.wall_time,
            f"{wall_time:.0f} s of {budget.wall_time} s wall time used",
        ),
        (
            budget.stagnation is not None and progress.stagnant >= budget.stagnation,
            f"no better individual for {progress.stagnant} generations",
        ),
        (done is not None, f"the optimizer is done: {done}"),
    ]
    reason = next((text for hit, text in limits if hit), None)
    return Decision(reason is None, reason, after)


@dataclass(frozen=True)
class Statistics:
    """Fitness of one generation, one entry per objective (finite values of `ok` individuals only)."""

    best: list[float] = field(default_factory=list)
    median: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)


def describe(told: Sequence[Told], directions: Sequence[Direction]) -> Statistics:
    """Best, median, mean and standard deviation per objective; empty when nothing succeeded."""
    rows = [t.fitness for t in told if t.fitness is not None]
    if not rows:
        return Statistics()
    columns = list(zip(*rows, strict=True))
    return Statistics(
        [min(c) if d == "minimize" else max(c) for c, d in zip(columns, directions, strict=True)],
        [_median(c) for c in columns],
        [_mean(c) for c in columns],
        [statistics.pstdev(c) for c in columns],
    )
