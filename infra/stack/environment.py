"""Environment variables of the stack's components. Secrets travel here, never on a command line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from infra import postgres
from infra.stack import credentials as keys
from infra.stack import lab, ports
from infra.stack.layout import REPOSITORY, Layout, write_private

ADMIN = "admin"
YOURS = "# Your own settings (AIRFLOW_CONN_..., L2L_SITES=...) below this line stay as they are."


def parallelism(cpus: int | None = None) -> int:
    """Airflow tasks at once. The executor forks all beforehand, and they only move rows: few are enough."""
    return max(4, min(8, 2 * (cpus or os.cpu_count() or 1)))


def shared(layout: Layout) -> dict[str, str]:
    """What tasks and programs outside the stack need to find PostgreSQL, MLflow, Airflow and the sites."""
    known, chosen, cluster = keys.load_or_make(layout), ports.load(layout), postgres.load(layout.postgres)
    mlflow = f"http://127.0.0.1:{chosen.mlflow}"
    connection = cluster.app_url.replace("postgresql+psycopg2://", "postgresql://", 1)
    return {
        "L2L_DATABASE_URL": cluster.app_url,
        "MLFLOW_TRACKING_URI": mlflow,
        "MLFLOW_TRACKING_USERNAME": ADMIN,
        "MLFLOW_TRACKING_PASSWORD": known.mlflow_password,
        "L2L_MLFLOW_URL": mlflow,
        "L2L_AIRFLOW_URL": f"http://127.0.0.1:{chosen.airflow}",
        "AIRFLOW_CONN_L2L_POSTGRES": connection,
        **_connections(layout),
    }


def write_env_file(layout: Layout) -> None:
    """`env` in the state folder (0600): `shared`, and what only a person or an administrator needs.

    Lines that a person has added stay, below a line that marks them.
    """
    known, cluster = keys.load_or_make(layout), postgres.load(layout.postgres)
    values = {
        **shared(layout),
        "L2L_DATABASE_OWNER_URL": cluster.owner_url,
        "L2L_AIRFLOW_USER": ADMIN,
        "L2L_AIRFLOW_PASSWORD": known.airflow_password,
    }
    head = "# Written by `make up`; holds passwords. The environment takes precedence over these lines.\n"
    ours = "".join(f"{name}={value}\n" for name, value in values.items())
    write_private(layout.env, head + ours + YOURS + "\n" + _added_lines(layout, values))


def _added_lines(layout: Layout, ours: Mapping[str, str]) -> str:
    """What a person has added to the env file, wherever it stands there."""
    managed = {*ours, lab.CONNECTION}
    lines = layout.env.read_text().splitlines() if layout.env.exists() else []
    place = lines.index(YOURS) if YOURS in lines else len(lines)
    before, after = lines[:place], lines[place + 1 :]
    added = [line for line in before if "=" in line and line.split("=", 1)[0].strip() not in managed]
    return "".join(f"{line}\n" for line in [*added, *after])


def write_config_files(layout: Layout) -> None:
    """Files that Airflow and MLflow want beside their environment, and the connections that there are now."""
    known = keys.load_or_make(layout)
    write_private(layout.connections, json.dumps(lab.connections()))
    write_private(_airflow_passwords(layout), json.dumps({ADMIN: known.airflow_password}))
    write_private(
        _mlflow_auth(layout),
        "[mlflow]\n"
        "default_permission = READ\n"
        f"database_uri = sqlite:///{layout.mlflow / 'accounts.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        # Checking a password takes as long as the request itself.
        "auth_cache_ttl_seconds = 60\n",
    )


def airflow(layout: Layout, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of Airflow's components and of its command line."""
    known, chosen, cluster = keys.load_or_make(layout), ports.load(layout), postgres.load(layout.postgres)
    url = f"http://127.0.0.1:{chosen.airflow}"
    settings = {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": str(parallelism()),
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
        "CORE__MAX_ACTIVE_RUNS_PER_DAG": "64",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "CORE__FERNET_KEY": known.fernet_key,
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(_airflow_passwords(layout)),
        "DATABASE__SQL_ALCHEMY_CONN": cluster.airflow_url,
        "API__HOST": "127.0.0.1",
        "API__PORT": str(chosen.airflow),
        "API__BASE_URL": url,
        "API__SECRET_KEY": known.api_secret_key,
        "API_AUTH__JWT_SECRET": known.jwt_secret,
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",  # each task starts that much earlier than with 1 s
        # Else a task's end is seen up to 5 s late, and short deferrals fail.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # What a killed scheduler left running is found and done again within a minute (default: 300 s).
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "WORKERS__MAX_FAILED_HEARTBEATS": "100",  # the API server may be restarted while tasks run
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "15",  # a new campaign file appears that quickly
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "15",
        "TRIGGERER__ON_KILL_TIMEOUT": "60",  # cancelling at a site takes an SSH command or two
        "STATE_STORE__DEFAULT_RETENTION_DAYS": "0",
        "LOGGING__BASE_LOG_FOLDER": str(layout.logs / "airflow"),
        "LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(layout.logs / "airflow" / "dag_processor"),
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    prefixed = {f"AIRFLOW__{name}": value for name, value in settings.items()}
    return {**_base(layout, inherited), **shared(layout), "AIRFLOW_HOME": str(layout.airflow), **prefixed}


def mlflow(layout: Layout, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of the MLflow server. It listens on loopback and asks for a password."""
    known, cluster = keys.load_or_make(layout), postgres.load(layout.postgres)
    return {
        **_base(layout, inherited),
        "MLFLOW_BACKEND_STORE_URI": cluster.mlflow_url,
        "MLFLOW_ARTIFACTS_DESTINATION": str(layout.mlflow / "artifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # saves a gigabyte
        "MLFLOW_FLASK_SERVER_SECRET_KEY": known.mlflow_secret_key,
        "MLFLOW_AUTH_CONFIG_PATH": str(_mlflow_auth(layout)),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": known.mlflow_password,
    }


def plain(layout: Layout, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a component that needs no secrets."""
    return _base(layout, inherited)


def _base(layout: Layout, inherited: Mapping[str, str]) -> dict[str, str]:
    """What the person's shell says, with this Python first and this repository importable."""
    ours = ("AIRFLOW_", "MLFLOW_", "_MLFLOW_", "SUPERVISOR_")
    kept = {name: value for name, value in inherited.items() if not name.startswith(ours)}
    kept |= {name: value for name, value in inherited.items() if name.startswith("AIRFLOW_CONN_")}
    binaries = Path(sys.executable).parent
    direct = ",".join(filter(None, [inherited.get("NO_PROXY"), "127.0.0.1", "localhost"]))
    return {
        **kept,
        "L2L_HOME": str(layout.home),
        "PYTHONPATH": str(REPOSITORY),
        "PATH": f"{binaries}{os.pathsep}{inherited.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MPLCONFIGDIR": str(layout.home / "matplotlib"),
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


def _connections(layout: Layout) -> dict[str, str]:
    found: dict[str, str] = json.loads(layout.connections.read_text())
    return found


def _airflow_passwords(layout: Layout) -> Path:
    return layout.airflow / "passwords.json"


def _mlflow_auth(layout: Layout) -> Path:
    return layout.mlflow / "auth.ini"
