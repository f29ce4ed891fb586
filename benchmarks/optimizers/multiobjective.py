"""Several objectives: hypervolume of all that was evaluated, ours beside pymoo's NSGA-II and NSGA-III.

    python -m benchmarks.optimizers.multiobjective --results multi.jsonl

The same measure for all: the volume that the non-dominated ones of the first so many evaluations dominate,
whatever an algorithm keeps of them.
"""

from __future__ import annotations

from benchmarks.optimizers import pool, problems
from benchmarks.optimizers.runs import Job


def main() -> None:
    parser = pool.common(__doc__.splitlines()[0], ("own:*", "pymoo:*"), "multi.jsonl")
    parser.add_argument("--problems", nargs="+", default=list(problems.MULTI), choices=list(problems.MULTI))
    parser.add_argument("--budgets", type=pool.numbers, default=[2500, 10000], help="evaluations")
    parser.add_argument("--batch", type=int, default=100, help="points at a time; 0: the algorithm's own")
    given = parser.parse_args()
    budgets = tuple(sorted(given.budgets))
    jobs = [
        Job("multi", name, p, problems.MULTI[p].dimension, i, given.batch, budgets, "", given.cpu_limit)
        for i in given.instances
        for name in pool.chosen(given, objectives=2)
        for p in given.problems
    ]
    pool.start(given, jobs)


if __name__ == "__main__":
    main()
