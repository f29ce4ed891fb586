"""What parsing costs Airflow: the DAG files with many campaigns, and one task's share of it.

    python benchmarks/dag_parsing.py [--campaigns 100] [--repeats 5]

Prints one JSON line: seconds, each the median over fresh processes (which also serialise the DAGs, as
Airflow's DAG processor does). `airflow` is the import of airflow.sdk, which is paid with any DAG file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

CAMPAIGN = """\
name: campaign-{i}
description: Campaign {i} of the benchmark.
optimizee: {{name: rastrigin, options: {{dimension: 10, noise: 0.1}}}}
optimizer: {{name: cmaes, options: {{}}}}
tasks: {{per_individual: 4, repeats: 2}}
budget: {{generations: 500, evaluations: 100000}}
site: local
resources: {{cpus: 4, memory: 8G, time: 4h}}
execution: {{batch: 32, linger: 10m, timeout: 30m}}
tags: [benchmark]
"""

PROGRAM = """
import json, os, runpy, sys, time
start = time.perf_counter()
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, Param, get_parsing_context
imported = time.perf_counter()
dags = runpy.run_path(sys.argv[1])
parsed = time.perf_counter()
from airflow.sdk import DAG as kind
from airflow.serialization.serialized_objects import DagSerialization
found = [value for name, value in dags.items() if isinstance(value, kind) and name == value.dag_id]
again = time.perf_counter()
for dag in found:
    DagSerialization.to_dict(dag)
print(json.dumps([len(found), imported - start, parsed - imported, time.perf_counter() - again]))
"""


def measure(dag_file: str, folder: Path, only: str | None = None) -> tuple[int, float, float, float]:
    """(DAGs, seconds to import Airflow, to run the DAG file, to serialise its DAGs) in a fresh process."""
    environment = {
        **os.environ,
        "L2L_CAMPAIGNS": str(folder),
        "PYTHONPATH": str(REPOSITORY),
        "AIRFLOW_HOME": str(folder / "airflow"),
    }
    if only is not None:  # what Airflow sets in the process that runs a task
        environment |= {"_AIRFLOW_PARSING_CONTEXT_DAG_ID": only, "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "submit"}
    command = [sys.executable, "-c", PROGRAM, str(REPOSITORY / "dags" / dag_file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    dags, airflow, parse, serialise = json.loads(done.stdout.splitlines()[-1])
    return int(dags), float(airflow), float(parse), float(serialise)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--campaigns", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(arguments.campaigns):
            (folder / f"campaign-{i}.yaml").write_text(CAMPAIGN.format(i=i))
        measure("campaigns.py", folder)  # warms the disk cache and the compiled files
        whole = [measure("campaigns.py", folder) for _ in range(arguments.repeats)]
        errors = [measure("campaign_errors.py", folder) for _ in range(arguments.repeats)]
        one = [measure("campaigns.py", folder, "campaign-7") for _ in range(arguments.repeats)]
    if {dags for dags, *_ in whole} != {arguments.campaigns} or {dags for dags, *_ in one} != {1}:
        raise SystemExit(f"expected {arguments.campaigns} DAGs and 1 DAG, got {whole} and {one}")
    result = {
        "campaigns": arguments.campaigns,
        "repeats": arguments.repeats,
        "airflow": statistics.median(row[1] for row in whole),
        "all_dags": statistics.median(row[2] for row in whole),
        "serialise_all": statistics.median(row[3] for row in whole),
        "errors_file": statistics.median(row[2] for row in errors),
        "one_dag_for_a_task": statistics.median(row[2] for row in one),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }
    print(json.dumps({key: round(v, 4) if isinstance(v, float) else v for key, v in result.items()}))


if __name__ == "__main__":
    main()
