"""Noise and failures on BBOB, judged by the true value of the recommended point.

    python -m benchmarks.optimizers.noise --results noise.jsonl

What is told is f - f_opt with noise: additive N(0, 1), multiplicative exp(N(0, 1)), or 10 or 30 % failures.
"""

from __future__ import annotations

from benchmarks.optimizers import pool
from benchmarks.optimizers.run import SLOW
from benchmarks.optimizers.runs import NOISES, Job

DEFAULT = (
    *("own:*", "pycma:cma", "cmaes:cma", "cmaes:lra", "pymoo:ga", "pymoo:de", "pymoo:pso", "scipy:de"),
    *("l2l:ga", "l2l:ce-gauss", "l2l:face", "l2l:es", "l2l:nes", "l2l:sa"),
)
FUNCTIONS = (1, 8, 10, 15, 21)


def main() -> None:
    parser = pool.common(__doc__.splitlines()[0], DEFAULT, "noise.jsonl", SLOW)
    parser.add_argument("--functions", type=pool.numbers, default=list(FUNCTIONS))
    parser.add_argument("--dimensions", type=pool.numbers, default=[5, 20])
    parser.add_argument("--budget", type=int, default=300, help="evaluations / dimension")
    parser.add_argument("--batch", type=int, default=64, help="points at a time; 0: the algorithm's own")
    parser.add_argument("--noises", nargs="+", default=list(NOISES), choices=list(NOISES))
    given = parser.parse_args()
    jobs = [
        Job("noise", name, f, d, i, given.batch, (given.budget,), noise, given.cpu_limit)
        for i in given.instances
        for d in given.dimensions
        for name in pool.chosen(given)
        for noise in given.noises
        for f in given.functions
    ]
    pool.start(given, jobs)


if __name__ == "__main__":
    main()
