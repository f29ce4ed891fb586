"""Evaluations of held-out tasks, in the Python that has the optimizee's simulator.

    python -m benchmarks.use_cases.held_out ANSWERS < REQUEST

The request is JSON: `optimizee` and `options`, and `requests` as a worker gives them to an optimizee. The
answers, a JSON list in the same order, go to a file, because simulators print. Python 3.8 and numpy suffice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optimizees import load

REPOSITORY = Path(__file__).resolve().parents[2]
TASK_SEED = 20_000  # of the held-out tasks: the same ones for every campaign of a case


def evaluate(
    python: str, optimizee: str, options: Mapping[str, Any], params: Sequence[Mapping[str, Any]], tests: int
) -> list[list[dict[str, Any]]]:
    """What each parameter set comes to on `tests` held-out tasks, each with a seed of its own.

    Returns:
        For each parameter set the replies of the optimizee, as `Optimizee.evaluate_json` gives them.

    Raises:
        subprocess.CalledProcessError: an evaluation failed; its message has been printed.
    """
    with tempfile.TemporaryDirectory() as scratch:
        tasks = [
            {"params": one, "task": {"split": "test", "index": i, "seed": TASK_SEED}, "seed": TASK_SEED + i}
            for one in params
            for i in range(tests)
        ]
        request = {
            "optimizee": optimizee,
            "options": dict(options),
            "requests": [{**task, "scratch": scratch} for task in tasks],
        }
        answers = Path(scratch) / "answers.json"
        subprocess.run(
            [python, "-m", "benchmarks.use_cases.held_out", str(answers)],
            input=json.dumps(request),
            text=True,
            stdout=subprocess.DEVNULL,
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            check=True,
        )
        replies = json.loads(answers.read_text(encoding="utf-8"))
    return [replies[start : start + tests] for start in range(0, len(replies), tests)]


def main() -> None:
    request = json.load(sys.stdin)
    made = load(request["optimizee"], request["options"])
    replies = [made.evaluate_json(one) for one in request["requests"]]
    Path(sys.argv[1]).write_text(json.dumps(replies), encoding="utf-8")


if __name__ == "__main__":
    main()
