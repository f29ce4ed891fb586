"""`l2l` as it is typed: exit status, one clear message, and a whole campaign on this machine."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml

from l2l_tasks.cli import main
from tests.support.local_site import LocalSite
from tests.support.postgres import Database, Server

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL: dict[str, Any] = {
    "name": "small",
    "optimizee": {"name": "sphere", "options": {"dimension": 2}},
    "optimizer": {"name": "cmaes"},
    "budget": {"generations": 2},
    "execution": {"batch": 4, "workers": 2, "linger": 20, "timeout": 20},
}
Environment = dict[str, str]


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def l2l(environment: Mapping[str, str], *words: str | Path) -> Done:
    """Run the command line in this process, which saves its imports; a traceback would fail the test."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        patch.dict(os.environ, environment, clear=True),
        patch.object(sys, "argv", ["l2l", *map(str, words)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as leaving:
            status = int(leaving.code or 0)
    return Done(status, out.getvalue(), err.getvalue())


def refused(done: Done, status: int, *texts: str) -> None:
    """It failed as it should: this exit status, these words on stderr."""
    assert done.returncode == status, done.stderr
    for text in texts:
        assert text in done.stderr


@pytest.fixture
def nowhere(tmp_path: Path) -> Environment:
    """An environment without any service."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("L2L_", "MLFLOW_", "AIRFLOW_"))
    }
    return {**kept, "L2L_HOME": str(tmp_path / "home"), "COLUMNS": "200"}


@pytest.fixture
def here(nowhere: Environment, local_site: LocalSite, database: Database) -> Environment:
    """An environment with a database and a site."""
    site = {key: local_site.environment[key] for key in ("L2L_SITES", "L2L_HOME")}
    return {
        **nowhere,
        **site,
        "L2L_DATABASE_URL": database.app_url,
        "L2L_DATABASE_OWNER_URL": database.owner_url,
    }


@pytest.fixture
def campaign(tmp_path: Path, local_site: LocalSite) -> Path:
    """A campaign file for the test's site."""
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "site": local_site.name}))
    return file


def test_help_lists_the_commands(nowhere: Environment) -> None:
    done = l2l(nowhere, "--help")
    assert done.returncode == 0
    for command in (
        "validate",
        "run",
        "status",
        "show",
        "stop",
        "resume",
        "change",
        "report",
        "sweep",
        "doctor",
        "db",
        "schema",
        "sites",
    ):
        assert command in done.stdout


@pytest.mark.parametrize("words", [["destroy"], ["show"], ["run"], ["status", "--colour"]], ids=" ".join)
def test_wrong_words_are_refused(nowhere: Environment, words: list[str]) -> None:
    refused(l2l(nowhere, *words), 2)


def test_messages_arrive_without_a_traceback(nowhere: Environment, tmp_path: Path) -> None:
    """In a process of its own, as it is typed."""
    file = tmp_path / "one.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "seed": -1}))
    for words, status in ((["validate", str(file)], 2), (["status"], 1)):
        argv = [sys.executable, "-m", "l2l_tasks.cli", *words]
        done = subprocess.run(argv, capture_output=True, text=True, env=nowhere, cwd=ROOT, check=False)
        assert (done.returncode, done.stdout) == (status, "")
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 2


def test_help_and_mistakes_need_no_heavy_imports() -> None:
    code = (
        "import sys; from l2l_tasks.cli import app; "
        "print(sorted({'numpy', 'sqlalchemy', 'mlflow', 'airflow', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_shipped_campaigns_are_valid(nowhere: Environment) -> None:
    files = sorted((ROOT / "campaigns").glob("*.yaml"))
    done = l2l(nowhere, "validate", *files)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": ok: ") == len(files)


def test_every_problem_of_every_file_is_shown(nowhere: Environment, tmp_path: Path) -> None:
    """Structural ones of one file, deep ones of another, a missing third."""
    one, two, three = tmp_path / "one.yaml", tmp_path / "two.yaml", tmp_path / "three.yaml"
    one.write_text(yaml.safe_dump({**SMALL, "seed": -1, "budgte": {}}))
    two.write_text(yaml.safe_dump({**SMALL, "parameters": {"y": 1.0}}))
    done = l2l(nowhere, "validate", one, two, three)
    refused(done, 2, f"{three}:1: cannot be read", "did you mean 'budget'", "4 problems found")
    assert re.search(rf"{two}:\d+: parameters\.y: no such parameter", done.stderr)


MANY_MISTAKES = """\
name: Many Mistakes             # no capitals, no spaces
optimizee:
  name: rastrigin
  options:
    dimension: 2
parameters:
  x: {low: 2.0, high: 1.0}      # upside down
  y: 1.0                        # no such parameter
tasks:
  per_individual: 2             # there is one task
optimizer:
  name: cmaes
  options:
    sigma: 0                    # above 0
    populaton: 8                # misspelt
budget:
  generation: 5                 # misspelt; not missing too
  target: low                   # a number
site: nowhere                   # unknown
resources:
  time: soon                    # a duration
execution:
  batch: 10
  in_flight: 4                  # less than a batch
  timeout: 2h                   # not compared with the time, which is not known
schedule: 61 * * * *            # minutes
seed: -1                        # at least 0
"""


def test_every_mistake_of_a_file_is_shown_once(nowhere: Environment, tmp_path: Path) -> None:
    """Of syntax and of meaning, in the order of their lines."""
    file = tmp_path / "many.yaml"
    file.write_text(MANY_MISTAKES)
    done = l2l(nowhere, "validate", file)
    wrong = {1: "name", 7: "parameters.x", 8: "parameters.y", 10: "tasks.per_individual",
             14: "optimizer.options.sigma", 15: "optimizer.options.populaton", 17: "budget.generation",
             18: "budget.target", 19: "site", 21: "resources.time", 24: "execution.in_flight",
             26: "schedule", 27: "seed"}  # fmt: skip
    refused(done, 2, "13 problems found")
    found = re.findall(rf"^{file}:(\d+): ([^ ]+): .+$", done.stderr, re.MULTILINE)
    assert found == [(str(line), field) for line, field in wrong.items()]


def test_without_a_database_it_says_what_to_do(nowhere: Environment) -> None:
    for words in (["status"], ["stop", "x-00000000"]):
        refused(l2l(nowhere, *words), 1, "no database is configured", "make up")
    refused(l2l(nowhere, "db", "upgrade"), 2, "L2L_DATABASE_OWNER_URL")


def test_schema_is_printed_for_editors(nowhere: Environment) -> None:
    printed = json.loads(l2l(nowhere, "schema").stdout)
    assert printed == json.loads((ROOT / "campaigns" / "schema.json").read_text())


def test_sites_are_listed(here: Environment) -> None:
    done = l2l(here, "sites")
    assert done.returncode == 0
    assert "testsite" in done.stdout


def test_doctor_names_what_is_missing_and_what_to_do(nowhere: Environment) -> None:
    done = l2l(nowhere, "doctor", "--site", "nowhere")
    assert done.returncode == 1
    for text in ("FAIL database: L2L_DATABASE_URL is not set", "make up", "FAIL airflow", "FAIL mlflow"):
        assert text in done.stdout
    assert "FAIL site nowhere: there is no site profile" in done.stdout


def test_doctor_finds_a_healthy_database_and_site(here: Environment) -> None:
    done = l2l({**here, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}, "doctor", "--site", "testsite")
    assert "ok   database: PostgreSQL" in done.stdout
    assert "ok   site testsite:" in done.stdout
    assert "FAIL mlflow: http://127.0.0.1:9 does not answer" in done.stdout
    assert done.returncode == 1


def test_upgrade_makes_the_tables(here: Environment, postgres_server: Server) -> None:
    empty = postgres_server.empty()
    environment = {**here, "L2L_DATABASE_URL": empty.app_url, "L2L_DATABASE_OWNER_URL": empty.owner_url}
    refused(l2l(environment, "status"), 1, "l2l db upgrade")
    for _ in range(2):
        done = l2l(environment, "db", "upgrade")
        assert done.returncode == 0, done.stderr
    assert l2l(environment, "status").returncode == 0
    postgres_server.drop(empty)


def test_a_campaign_from_begin_to_end(here: Environment, campaign: Path) -> None:
    """Run, then look at it in every way."""
    assert "no campaigns yet" in l2l(here, "status").stdout
    done = l2l(here, "run", campaign, "--set", "budget.generations=3", "--set", "note=by hand")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"campaign (small-[0-9a-f]{8})", done.stdout)
    assert found is not None
    assert "all 3 generations done" in done.stdout
    (row,) = json.loads(l2l(here, "status", "--json").stdout)
    assert row["id"] == found[1]
    assert (row["status"], row["generations_told"], row["evaluations_ok"]) == ("finished", 3, 12)
    assert found[1] in l2l(here, "status").stdout
    shown = json.loads(l2l(here, "show", found[1], "--json").stdout)
    assert shown["campaign"]["spec"]["note"] == "by hand"
    assert [g["generation"] for g in shown["generations"]] == [0, 1, 2]
    best = shown["generations"][-1]["progress"]["best"]["fitness"][0]
    assert best == min(g["fitness"]["best"][0] for g in shown["generations"])
    page = l2l(here, "show", found[1])
    assert page.returncode == 0, page.stderr
    assert f"{best:.5g}" in page.stdout
    refused(l2l(here, "resume", found[1]), 2, "is finished")


def test_a_campaign_that_is_changed_while_it_runs(here: Environment, campaign: Path) -> None:
    """By fields and by a file; it is paused because its optimizee has no such metric."""
    assert l2l(here, "run", campaign, "--set", "constraints.rate.high=1").returncode != 0
    (row,) = json.loads(l2l(here, "status", "--json").stdout)
    assert row["status"] == "paused"
    refused(l2l(here, "change", row["id"]), 2, "nothing to change")
    refused(l2l(here, "change", row["id"], "-o", "seed=3"), 2, "seed cannot change while a campaign runs")
    refused(l2l(here, "change", row["id"], "-o", "bacth=3"), 2, "bacth")
    done = l2l(here, "change", row["id"], "-o", "batch=6", "-o", "optimizer=random")
    assert done.returncode == 0, done.stderr
    assert "version 2 of its specification, from generation 1 on" in done.stdout
    shown = json.loads(l2l(here, "show", row["id"], "--json").stdout)
    assert [one["from_generation"] for one in shown["versions"]] == [0, 1]
    assert shown["campaign"]["spec_version"] == 1
    page = l2l(here, "show", row["id"]).stdout
    assert re.search(r"1  from generation 0, .*\(in force\)\n +2  from generation 1, .*cli:", page)
    file = campaign.with_name("changed.yaml")
    spec = {**yaml.safe_load(campaign.read_text()), "constraints": {"rate": {"high": 1}}}
    file.write_text(yaml.safe_dump({**spec, "budget": {"generations": 5}}))
    assert "version 3" in l2l(here, "change", row["id"], file).stdout


def test_a_campaign_without_any_success_says_why_once(here: Environment, campaign: Path) -> None:
    changes = ["optimizee.options.fail=1.0", "execution.attempts=1"]
    done = l2l(here, "run", campaign, *(word for change in changes for word in ("--set", change)))
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.findall(
        r"no evaluation succeeded: (4 of 4: exception: RuntimeError: ordered by the option fail=1)",
        done.stdout,
    )
    assert len(said) == 1, done.stdout
    (row,) = json.loads(l2l(here, "status", "--json").stdout)
    assert row["evaluations_failed"] == 8
    assert f"last generation: {said[0]}" in l2l(here, "show", row["id"]).stdout


def test_the_same_file_gives_the_same_individuals(here: Environment, campaign: Path) -> None:
    for _ in range(2):
        assert l2l(here, "run", campaign, "--set", "seed=5").returncode == 0
    one, two = json.loads(l2l(here, "status", "--json").stdout)
    assert one["id"] != two["id"]
    assert one["best_individual"] == two["best_individual"]
    assert one["best_fitness"] == two["best_fitness"]


def test_wrong_changes_are_refused_before_anything_starts(here: Environment, campaign: Path) -> None:
    done = l2l(here, "run", campaign, "--set", "seed=-1", "--set", "batch=many")
    refused(done, 2, "override seed: must be at least 0", "override batch: expected a whole number")
    refused(l2l(here, "run", campaign, "--set", "seed"), 2, "expected KEY=VALUE")
    refused(l2l(here, "run", campaign, "--set", "optimizee.options.dimension=0"), 2, "at least 1")
    assert json.loads(l2l(here, "status", "--json").stdout) == []


def test_the_small_form_of_a_campaign(here: Environment, campaign: Path) -> None:
    refused(l2l(here, "run", campaign, "--small"), 2, "campaign small has no small form")
    small = {"execution.batch": 5, "budget.generations": 1, "seed": 3}
    campaign.write_text(yaml.safe_dump({**yaml.safe_load(campaign.read_text()), "small": small}))
    done = l2l(here, "run", campaign, "--small", "--set", "seed=4")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(l2l(here, "status", "--json").stdout)
    assert (row["name"], row["generations_told"], row["evaluations_ok"]) == ("small", 1, 5)
    spec = json.loads(l2l(here, "show", row["id"], "--json").stdout)["campaign"]["spec"]
    assert spec["seed"] == 4
    assert "small" not in spec


def test_unknown_campaigns_are_named(here: Environment) -> None:
    for command in ("show", "stop", "resume"):
        refused(
            l2l(here, command, "small-00000000"), 2, "there is no campaign 'small-00000000'", "l2l status"
        )


def test_an_interrupted_campaign_goes_on(here: Environment, campaign: Path) -> None:
    """Ctrl-C pauses and says how to go on; resuming finishes what was begun, with no evaluation twice."""
    slow = ["--set", "optimizee.options.run_time=0.2", "--set", "budget.generations=4"]
    argv = [sys.executable, "-u", "-m", "l2l_tasks.cli", "run", str(campaign), *slow]
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=here,
        cwd=ROOT,
        # What a shell starts in the background ignores Ctrl-C, these tests and all they start included.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if re.match(r" +0 ", line):  # generation 0 is told
            break
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    hint = re.search(r"paused; go on with: l2l resume (small-[0-9a-f]{8})", seen + rest + errors)
    assert hint is not None
    (row,) = json.loads(l2l(here, "status", "--json").stdout)
    assert (row["status"], row["reason"]) == ("paused", "interrupted")
    done = l2l(here, "resume", hint[1])
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(l2l(here, "status", "--json").stdout)
    assert (row["status"], row["generations_told"], row["evaluations_done"]) == ("finished", 4, 16)
    stopped = l2l(here, "stop", hint[1])
    assert stopped.returncode == 0, stopped.stderr
