"""Campaigns of all use cases, five seeds each, and beside them random search and parameters from elsewhere.

    python -m benchmarks.use_cases.run [--cases brunel ants] [--seeds 1 2] [--results results.jsonl] [--list]

A campaign goes through the same steps as `l2l run`. One JSON line each; what the file has already is not run
again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection

from benchmarks.use_cases import held_out
from benchmarks.use_cases.cases import CAMPAIGNS, CASES, Case
from l2l_tasks import runner
from l2l_tasks.context import Context, open_context
from l2l_tasks.errors import UserError
from l2l_tasks.settings import REPOSITORY
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.store import campaigns, generations, individuals
from l2l_tasks.store.individuals import Individual
from optimizees import load
from optimizers.pareto import hypervolume

RESULTS = Path(__file__).with_name("results.jsonl")
SEEDS = (1, 2, 3, 4, 5)
SEARCH, RANDOM, KNOWN = "search", "random", "known"
Row = dict[str, Any]
Params = Mapping[str, Any]


@dataclass(frozen=True)
class Job:
    """One line of the results: a campaign (search), the same by random search, or known parameters tested."""

    case: Case
    kind: str
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is called in the results."""
        return self.case.name, self.kind, self.seed


def plan(cases: Iterable[Case], seeds: Sequence[int]) -> list[Job]:
    """Seed by seed, so that what is interrupted has as many of each case; the others with the first seed."""
    cases = list(cases)
    jobs = [Job(case, SEARCH, seed) for seed in seeds for case in cases]
    others = [Job(case, RANDOM, seeds[0]) for case in cases]
    others += [Job(case, KNOWN, seeds[0]) for case in cases if case.known is not None]
    return [*jobs[: len(cases)], *others, *jobs[len(cases) :]]


def read(path: Path) -> list[Row]:
    """The rows of a results file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def missing(jobs: Iterable[Job], rows: Iterable[Row]) -> list[Job]:
    """The jobs that the results lack."""
    there = {(row["case"], row["kind"], row["seed"]) for row in rows}
    return [job for job in jobs if job.key not in there]


def execute(ctx: Context, job: Job) -> Row:
    """Run a campaign to its end and evaluate what it recommends on held-out tasks.

    Raises:
        UserError: somebody stopped the campaign.
    """
    spec = job.case.spec(job.seed, random=job.kind == RANDOM)
    if job.kind == KNOWN:
        params = {**load(spec.optimizee.reference, spec.optimizee.options).space().default()}
        found = _tested(ctx, spec, job.case, [{**params, **(job.case.known or {})}])
    else:
        found = _campaign(ctx, spec, job.case)
    return {"case": job.case.name, "kind": job.kind, "seed": job.seed, **found, "commit": _commit()}


def _campaign(ctx: Context, spec: CampaignSpec, case: Case) -> Row:
    begin = time.monotonic()
    campaign = runner.run(ctx, spec, CAMPAIGNS, who="benchmark")
    seconds = time.monotonic() - begin
    with ctx.engine.begin() as connection:
        row = campaigns.get(connection, campaign)
        if row.status != "finished":
            raise UserError(f"campaign {campaign} is {row.status} ({row.reason}): nothing was recorded")
        history = generations.history(connection, campaign)
        found, recommended = _outcome(connection, campaign, history)
    return {
        **found,
        **(_tested(ctx, spec, case, recommended) if case.tests else {}),
        "generations": len(history),
        "evaluations": row.evaluations_total,
        "not_ok": row.evaluations_failed + row.evaluations_infeasible,
        "cpu_seconds": round(sum(summary["evaluations"]["cpu_seconds"] for summary in history), 2),
        "wall_seconds": round(seconds, 1),
        "code": row.code_hash[:12],
    }


def _outcome(connection: Connection, campaign: str, history: Sequence[Row]) -> tuple[Row, list[Params]]:
    """Fitness of the best individual and the median of all; and the parameters that are recommended.

    With several objectives hypervolume above 0 takes the place of the fitness, the front that of the best.
    """
    told = [one for n in range(len(history)) for one in individuals.told_in(connection, campaign, n)]
    last = history[-1]
    if "front" in last:
        front = {entry["index"] for entry in last["front"]}
        members = [one for one in told if one.index in front]
        reached = volume([one.fitness for one in members if one.fitness is not None])
        values = [0.0 if one.fitness is None else volume([one.fitness]) for one in told]
        return {"reached": reached, "median": statistics.median(values)}, [one.params for one in members]
    reached = last["progress"]["best"]["fitness"][0]
    return {"reached": reached, "median": _median(told, reached)}, [last["recommended"]]


def _median(told: Sequence[Individual], best: float) -> float | None:
    """Median fitness, those without one counted as the worst; None when they are the larger part."""
    values = [one.fitness[0] for one in told if one.fitness is not None]
    ordered = sorted(values, reverse=best == max(values))
    return ordered[len(told) // 2] if len(ordered) > len(told) // 2 else None


def volume(fitness: Sequence[Sequence[float]]) -> float:
    """Hypervolume of maximised objectives above 0."""
    losses = -np.array(fitness, dtype=float)
    return hypervolume(losses, np.zeros(losses.shape[1]))


def _tested(ctx: Context, spec: CampaignSpec, case: Case, params: Sequence[Params]) -> Row:
    """Parameters on held-out tasks: `test`, and how many of these evaluations were infeasible."""
    name, options = spec.optimizee.reference, spec.optimizee.options
    optimizee = load(name, options)
    python = ctx.profile(spec.site).environment(optimizee.environment).python
    replies = held_out.evaluate(python, name, options, params, case.tests)
    feasible = [[reply for reply in one if reply["status"] == "ok"] for one in replies]
    infeasible = sum(map(len, replies)) - sum(map(len, feasible))
    if len(optimizee.objectives) > 1:
        means = [np.mean([reply["fitness"] for reply in one], axis=0) for one in feasible if one]
        return {"test": volume(means), "front": len(means), "test_infeasible": infeasible}
    values = [r["metrics"][case.metric] if case.metric else r["fitness"][0] for r in feasible[0]]
    return {"test": float(np.mean(values)) if values else None, "test_infeasible": infeasible}


def _commit() -> str:
    """The code's version, with `+` when files were changed since."""
    git = ["git", "-C", str(REPOSITORY)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True)
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to append to (JSON lines)")
    parser.add_argument("--list", action="store_true", help="only print what is missing")
    given = parser.parse_args()
    jobs = missing(plan([CASES[name] for name in given.cases], given.seeds), read(given.results))
    if given.list:
        for job in jobs:
            print(*job.key)
        return
    ctx = open_context()
    try:
        for job in jobs:
            row = execute(ctx, job)
            with given.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), file=sys.stderr, flush=True)
    finally:
        ctx.close()


if __name__ == "__main__":
    main()
