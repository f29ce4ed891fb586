"""Airflow's scheduler, with what the tasks need imported already: `python -m infra.stack.scheduler [OPTION]`.

The scheduler's executor forks the processes that run the tasks. A campaign's tasks run for fractions of a
second, but importing what they use takes seconds of a core; imported here, it is paid once and its memory is
shared.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys

# The project's own modules bring the large libraries along: SQLAlchemy, NumPy, MLflow, Matplotlib ...
MODULES = (
    "l2l_tasks.dag",
    "l2l_tasks.steps",
    "l2l_tasks.site.transport.ssh",
    "l2l_tasks.site.transport.local",
    "l2l_tasks.tracking",
    "l2l_tasks.tracking.drain",
    "l2l_tasks.tracking.artifacts",
    "optimizers.cma.cmaes",
    "optimizers.population.genetic",
)


def preload() -> None:
    """Import the modules. One that cannot be imported fails in the tasks that need it, with their own log."""
    # Threads do not survive a fork; NumPy's would be made at import.
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    for name in MODULES:
        try:
            importlib.import_module(name)
        except Exception as error:
            print(f"scheduler: {name} is not preloaded: {type(error).__name__}: {error}", flush=True)
    if before is None:
        del os.environ["OPENBLAS_NUM_THREADS"]
    else:
        os.environ["OPENBLAS_NUM_THREADS"] = before
    gc.collect()
    gc.freeze()  # the collector of a forked process would otherwise copy every page that it looks at


def main() -> None:
    """Become `airflow scheduler`."""
    preload()
    sys.argv = ["airflow", "scheduler", *sys.argv[1:]]
    importlib.import_module("airflow.__main__").main()


if __name__ == "__main__":
    main()
