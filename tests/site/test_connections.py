"""Connections from the environment, from the env file, and from Airflow itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2l_tasks import connections
from l2l_tasks.connections import ConnectionInfo
from l2l_tasks.errors import SitePermanentError

TEXT = st.text(min_size=1, max_size=20)
HOSTS = st.from_regex(r"[a-z][a-z0-9-]{0,10}(\.[a-z]{2,5})?", fullmatch=True)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("L2L_HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
        monkeypatch.delenv(name)
    return tmp_path


@given(
    HOSTS, st.none() | st.integers(1, 65535), st.none() | TEXT, st.none() | TEXT, st.dictionaries(TEXT, TEXT)
)
def test_both_formats_say_the_same(
    host: str, port: int | None, login: str | None, password: str | None, extra: dict[str, str]
) -> None:
    """JSON with the extra as an object and as text, URI with the extra as parameters and as __extra__."""
    expected = ConnectionInfo("hpc", host, port, login, password, extra)
    fields = {"conn_type": "ssh", "host": host, "port": port, "login": login, "password": password}
    account = quote(login or "", safe="") + (":" + quote(password, safe="") if password else "")
    place = f"ssh://{account}{'@' if account else ''}{host}{f':{port}' if port else ''}/"
    texts = [
        json.dumps({**fields, "extra": extra}),
        json.dumps({**fields, "extra": json.dumps(extra)}),
        f"{place}?{urlencode({'__extra__': json.dumps(extra)})}",
    ]
    if "__extra__" not in extra:
        texts.append(f"{place}?{urlencode(extra)}" if extra else place)
    for text in texts:
        assert connections.parse("hpc", text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "no uri", "ssh:host", "ssh://:22/", "{", "{}", '{"host": 3}', '{"host": "h", "extra": "[1]"}',
     '{"host": "h", "port": "x"}', "ssh://h:port/", "ssh://h/?__extra__=3", '{"host": "h", "extra": "{"}'],
)  # fmt: skip
def test_what_is_not_readable_is_refused_by_name(text: str) -> None:
    with pytest.raises(SitePermanentError, match=r"connection 'hpc'.*AIRFLOW_CONN_HPC"):
        connections.parse("hpc", text)


def test_errors_and_repr_do_not_repeat_secrets() -> None:
    with pytest.raises(SitePermanentError) as caught:
        connections.parse("hpc", '{"password": "hunter2"}')
    assert "hunter2" not in str(caught.value)
    shown = repr(ConnectionInfo("hpc", "h", password="hunter2", extra={"private_key": "hunter2"}))
    assert "hunter2" not in shown


def test_environment_comes_before_the_env_file(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (state / "env").write_text('AIRFLOW_CONN_MY_HPC={"host": "from-file"}\n')
    assert connections.get("my_hpc").host == "from-file"
    monkeypatch.setenv("AIRFLOW_CONN_MY_HPC", "ssh://me@from-environment:2222")
    assert connections.get("my_hpc") == ConnectionInfo("my_hpc", "from-environment", 2222, "me")


def in_a_process(lines: str, environment: dict[str, str]) -> dict[str, Any]:
    """The JSON that a fresh Python prints last."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW_", "L2L_"))}
    command = [sys.executable, "-c", lines]
    done = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


MISSING = """
import json, sys
from l2l_tasks import connections
from l2l_tasks.errors import SitePermanentError
try:
    connections.get("nowhere")
except SitePermanentError as error:
    print(json.dumps({"error": str(error), "airflow": "airflow" in sys.modules}))
"""


def test_outside_airflow_nothing_of_it_is_imported(state: Path) -> None:
    """`l2l run` on a laptop must not pay for Airflow, nor make its configuration folder."""
    found = in_a_process(MISSING, {"L2L_HOME": str(state)})
    assert found["airflow"] is False
    assert "set AIRFLOW_CONN_NOWHERE (JSON or URI" in found["error"]


INSIDE = """
import dataclasses, json
import airflow.sdk
from l2l_tasks import connections
from l2l_tasks.errors import SitePermanentError
found = dataclasses.asdict(connections.get("hpc"))
try:
    connections.get("nowhere")
except SitePermanentError as error:
    found["error"] = str(error)
print(json.dumps(found))
"""


def test_inside_airflow_its_own_lookup_is_used(state: Path) -> None:
    """A connection that only Airflow knows (here: of its file backend) is found by the steps, too."""
    extra = {"key_file": "~/.ssh/id", "host_key": "ssh-ed25519 AAAA"}
    stored = {"hpc": {"conn_type": "ssh", "host": "login", "port": 2222, "login": "me", "extra": extra}}
    (state / "connections.json").write_text(json.dumps(stored))
    environment = {
        "L2L_HOME": str(state),
        "AIRFLOW_HOME": str(state / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{state}/airflow.db",
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps(
            {"connections_file_path": str(state / "connections.json")}
        ),
    }
    found = in_a_process(INSIDE, environment)
    assert "not known to Airflow: create it under Admin > Connections" in found.pop("error")
    assert found == {
        "id": "hpc", "host": "login", "port": 2222, "login": "me", "password": None, "extra": extra
    }  # fmt: skip
