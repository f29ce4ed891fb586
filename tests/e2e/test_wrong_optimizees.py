"""One campaign on the real Slurm whose individuals do all sorts of wrong things: each harms only itself."""

from __future__ import annotations

import io
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from sqlalchemy import text

from l2l_tasks import runner
from l2l_tasks.agent import oversight
from l2l_tasks.agent.scheduler import processes
from l2l_tasks.cli.progress import Display
from l2l_tasks.context import Context
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.store import campaigns
from l2l_tasks.store.engine import connect
from tests.support.postgres import Server
from tests.support.slurm import SlurmLab, wait_until

SITE = "small-disk"
OPTIMIZEES = Path(__file__).resolve().parents[1] / "support" / "wrong_optimizees"
MEMORY, DISK = 600, 32  # MiB
TIMEOUT = 12

GOOD = {str(number): float(number) for number in range(1, 9)}
HARMLESS = ("closes_its_output", "goes_elsewhere", "leaves_children")
# What an individual does, and the error's kind, what its message says, and what its last lines say.
WRONG: dict[str, tuple[str, str, str]] = {
    "raises": ("exception", "ValueError: on purpose", "in raises"),
    "raises_what_nobody_catches": ("exception", "Stop: at once", "in raises_what"),
    "raises_a_huge_text": ("exception", "ValueError: \U0001f9e0\U0001f9e0", "\U0001f9e0\U0001f9e0"),
    "raises_an_odd_text": ("exception", "ValueError: \ufffd\ufffd is no text", "in raises_an_odd_text"),
    "recurses": ("exception", "RecursionError: ", "in recurses"),
    "leaves": ("exception", "SystemExit: good-bye", "in leaves"),
    "leaves_at_once": ("crash", "ended with exit status 3 in the middle", "this is leaves_at_once"),
    "segfaults": ("crash", "ended by SIGSEGV in the middle", "Segmentation fault"),
    "kills_itself": ("killed", "ended by SIGKILL", "this is kills_itself"),
    "hangs": ("timeout", f"took longer than its {TIMEOUT} s", "this is hangs"),
    "hangs_with_a_daemon": ("exception", "after the children", "this is hangs_with_a_daemon"),
    "grows": ("memory", f"MiB of memory, and the worker has {MEMORY} MiB: ask for more", "this is grows"),
    # Whichever sees it first: the kernel, the worker, or a Slurm that polls and then ends the worker.
    "grows_for_ever": ("killed|memory|worker_lost", "memory|OUT_OF_MEMORY|FAILED", ""),
    "prints_garbage": ("exception", "ValueError: after the garbage", "half a line"),
    "fills_the_disk": ("exception", r"OSError: \[Errno 28\]", "in fills_the_disk"),
    "returns_a_number": ("exception", "must return a Result, got float", "in evaluate_json"),
    "returns_nan": ("invalid", r"fitness\[0\] must be a finite number, got nan", "this is returns_nan"),
    "returns_text": ("invalid", r"fitness\[0\] must be a finite number, got '1.0'", "this is returns_text"),
    "returns_too_many": ("invalid", "must have 1 numbers", "this is returns_too_many"),
}
KINDS = [*GOOD, *HARMLESS, *WRONG]


@dataclass(frozen=True)
class Ran:
    """The campaign after its end.

    Attributes:
        rows: its evaluations in the store, by what they did.
        said: what `l2l run` prints; `page` and `shown`: what `l2l show` prints, without and with --json.
        kept: files that it left in its folders for artifacts and scratch.
    """

    campaign: campaigns.Campaign
    rows: Mapping[str, Any]
    said: str
    page: str
    shown: Mapping[str, Any]
    kept: list[Path]


@pytest.fixture(scope="module")
def small_disk(slurm_lab: SlurmLab) -> Iterator[Path]:
    """A work folder that is soon full; an ordinary one where this process may not mount anything."""
    owner = pwd.getpwnam(slurm_lab.login)
    folder = slurm_lab.home / f"disk-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    options = f"size={DISK}m,mode=0755,uid={owner.pw_uid},gid={owner.pw_gid}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "l2l-test", str(folder)]
    mounted = subprocess.run(mount, stderr=subprocess.PIPE, check=False).returncode == 0
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def ctx(
    slurm_lab: SlurmLab, small_disk: Path, postgres_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Context]:
    """A database and a site of this module's own."""
    home = tmp_path_factory.mktemp("home")
    profile = {
        "name": SITE,
        "transport": "ssh",
        "connection": "l2l_slurm_lab",
        "scheduler": {"kind": "slurm", "partition": "batch"},
        "python": str(slurm_lab.python),
        "work": str(small_disk),
        "poll_interval": 0.5,
        "logins_per_hour": 60,
    }
    (home / f"{SITE}.yaml").write_text(yaml.safe_dump(profile))
    database = postgres_server.migrated()
    environment = {
        "L2L_HOME": str(home),
        "L2L_SITES": str(home),
        "L2L_DATABASE_URL": database.app_url,
        "AIRFLOW_CONN_L2L_SLURM_LAB": json.dumps(slurm_lab.connection),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        made = Context(connect(database.app_url))
        yield made
        made.site(SITE).transport.disconnect()  # type: ignore[attr-defined]
        made.close()
    postgres_server.drop(database)


@pytest.fixture(scope="module")
def ran(ctx: Context, slurm_lab: SlurmLab, small_disk: Path) -> Ran:
    """The campaign: one generation, in which each kind comes once; every worker has evaluators to spare."""
    options = {"kinds": KINDS, "memory": MEMORY * 2**20, "disk": 2 * DISK * 2**20}
    spec: dict[str, Any] = {
        "name": "wrong",
        "optimizee": {"class": "wrong:Wrong", "path": OPTIMIZEES.name, "options": options},
        "optimizer": {"name": "grid"},
        "budget": {"generations": 1},
        "site": SITE,
        "resources": {"time": "10m", "memory": f"{MEMORY}M"},
        "execution": {
            "batch": len(KINDS),
            "bundle": 3,
            "workers": 3,
            "timeout": TIMEOUT,
            "on_failure": "worst",
        },
        "seed": 5,
    }
    out = io.StringIO()
    with Display(Console(file=out, width=120)) as display:
        campaign_id = runner.run(ctx, CampaignSpec.model_validate(spec), OPTIMIZEES.parent, display.show)
    with ctx.engine.begin() as connection:
        campaign = campaigns.get(connection, campaign_id)
        query = """select i.params ->> 'kind' as kind, i.status as told, e.*
            from l2l.individuals i join l2l.evaluations e
            on e.campaign_id = i.campaign_id and e.individual = i.index where i.campaign_id = :campaign"""
        rows = {row.kind: row for row in connection.execute(text(query), {"campaign": campaign_id})}
    # The workers were told to leave; they sign off before their jobs end.
    wait_until(lambda: not slurm_lab.as_user(f"squeue -h -n l2l-{campaign_id}").stdout, what="no jobs")
    folder = small_disk / "campaigns" / campaign_id
    kept = [
        path.relative_to(folder) for top in ("artifacts", "scratch") for path in (folder / top).rglob("*")
    ]
    page, shown = show(campaign_id), json.loads(show(campaign_id, "--json"))
    return Ran(campaign, rows, out.getvalue(), page, shown, kept)


def show(*arguments: str) -> str:
    """`l2l show`, as a user calls it."""
    command = [sys.executable, "-m", "l2l_tasks.cli", "show", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_every_evaluation_has_an_end_and_the_campaign_too(ran: Ran) -> None:
    counts = (ran.campaign.evaluations_ok, ran.campaign.evaluations_failed, ran.campaign.evaluations_total)
    assert counts == (len(GOOD) + len(HARMLESS), len(WRONG), len(KINDS))
    assert (ran.campaign.status, ran.campaign.generations_told) == ("finished", 1)
    assert set(ran.rows) == set(KINDS)


@pytest.mark.parametrize("kind", [*GOOD, *HARMLESS])
def test_the_others_are_not_affected(ran: Ran, kind: str) -> None:
    """Right fitness, at the first attempt, in a folder of their own."""
    row = ran.rows[kind]
    assert (row.status, row.attempt, row.error_kind) == ("ok", 0, None), row.error_message
    assert row.fitness == [GOOD.get(kind, 0.0)]
    assert row.metrics == ({"own_folder": 1.0} if kind in GOOD else {})


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_one_fails_with_its_reason(ran: Ran, kind: str) -> None:
    """In the store and in `l2l show`: what happened, to which evaluation, and its last lines."""
    row, (error, message, tail) = ran.rows[kind], WRONG[kind]
    assert (row.status, row.told, row.fitness) == ("failed", "failed", None)
    assert re.fullmatch(error, row.error_kind), row.error_message
    assert re.search(message, row.error_message)
    assert len(row.error_message) <= 2000
    assert tail in row.error_tail
    (shown,) = [one for one in ran.shown["failures"] if alike(one["message"]) == alike(row.error_message)]
    (first,) = [one for one in ran.rows.values() if f"{one.individual}.0.0" == shown["key"]]
    assert shown["kind"] == row.error_kind
    assert (shown["message"], shown["tail"]) == (first.error_message, first.error_tail)


def alike(message: str) -> str:
    """Messages that differ in their numbers only are shown once."""
    return re.sub("[0-9]+", "0", message)


def test_what_is_printed_names_an_evaluation_of_each_kind_of_error(ran: Ran) -> None:
    """`l2l run`: every kind once. `l2l show`: the first few, and how many more."""
    for error in {row.error_kind for row in ran.rows.values() if row.error_kind}:
        assert len(re.findall(rf"some evaluations failed: \d of {len(WRONG)}: {error}: ", ran.said)) == 1
    pattern = r"evaluation (\d+)\.0\.0 \(individual\.task\.repeat\); its last lines:\n +\| +\S"
    wrong = {ran.rows[kind].individual for kind in WRONG}
    for printed in (ran.said, ran.page):
        named = [int(individual) for individual in re.findall(pattern, printed)]
        assert len(named) >= 4
        assert set(named) <= wrong
    assert f"and {len(ran.shown['failures']) - 5} more (--json)" in ran.page


def test_nothing_is_left_over(ran: Ran) -> None:
    """No processes of evaluators, no scratch; the artifacts of those that succeeded."""
    marks = processes.by_environment(oversight.MARK)
    assert [mark for mark in marks if ran.campaign.id in mark] == []
    good = {ran.rows[kind].individual for kind in GOOD}
    folders = {Path(f"artifacts/{individual}.0.0") for individual in good}
    assert set(ran.kept) == folders | {folder / "figure.svg" for folder in folders}
    assert f"{ran.campaign.id} (artifacts, checkpoints, logs)" in ran.page
