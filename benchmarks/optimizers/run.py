"""BBOB: how many of COCO's targets each algorithm reaches within a budget.

    python -m benchmarks.optimizers.run --algorithms 'own:*' pycma:cma --results bbob.jsonl

An algorithm that does not look at the budget is run once and read off at every budget.
"""

from __future__ import annotations

from benchmarks.optimizers import pool, problems
from benchmarks.optimizers.adapters import Algorithm
from benchmarks.optimizers.runs import Job

DEFAULT = ("own:*", "pycma:*", "cmaes:*", "pymoo:*", "scipy:de", "l2l:*")
SLOW = ("own:bayesian", "own:tpe")
"""Ours that take more than about a millisecond per evaluation: left out of the large tables by default."""


def batches(text: str) -> list[int]:
    return [0 if part == "default" else int(part) for part in text.split(",")]


def plan(
    algorithms: list[str],
    functions: list[int],
    dimensions: list[int],
    instances: list[int],
    budgets: list[int],
    sizes: list[int],
    cpu_limit: float = 0.0,
) -> list[Job]:
    """All runs, instance by instance, so that an interrupted benchmark has compared all algorithms alike."""
    jobs = []
    for instance in instances:
        for dimension in dimensions:
            for batch in sizes:
                for name in algorithms:
                    alone = Algorithm.parse(name).uses_budget
                    for read_at in [(b,) for b in sorted(budgets)] if alone else [tuple(sorted(budgets))]:
                        jobs += [
                            Job("bbob", name, f, dimension, instance, batch, read_at, "", cpu_limit)
                            for f in functions
                        ]
    return jobs


def main() -> None:
    parser = pool.common(__doc__.splitlines()[0], DEFAULT, "bbob.jsonl", SLOW)
    parser.add_argument("--functions", type=pool.numbers, default=list(problems.FUNCTIONS), help="1-24")
    parser.add_argument("--dimensions", type=pool.numbers, default=[2, 5, 10, 20])
    parser.add_argument("--budgets", type=pool.numbers, default=[100, 1000], help="evaluations / dimension")
    parser.add_argument("--batches", type=batches, default=[0, 64], help="`default` or points at a time")
    given = parser.parse_args()
    jobs = plan(
        pool.chosen(given),
        given.functions,
        given.dimensions,
        given.instances,
        given.budgets,
        given.batches,
        given.cpu_limit,
    )
    pool.start(given, jobs)


if __name__ == "__main__":
    main()
