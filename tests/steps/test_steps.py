"""The steps on a real database and a real local site: what a site may lose, and what a user may do."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from sqlalchemy import text

from l2l_tasks import runner, steps
from l2l_tasks.context import Context
from l2l_tasks.errors import UserError
from l2l_tasks.store import campaigns, events, generations
from tests.steps.conftest import campaign_spec, own_optimizee, row_of
from tests.support.local_site import LocalSite
from tests.support.postgres import Database, Server


def wait(ctx: Context, campaign: str, generation: int) -> None:
    """Until the pool is empty."""
    while (request := steps.remaining_target(ctx, campaign, generation)) is not None:
        asked = {"campaign": campaign, "workers": request.workers, "target": request.target}
        status = ctx.site(request.site).poll([asked], wait=5)[campaign]
        if status["todo"] + status["running"] <= request.target:
            return


def finish(ctx: Context, campaign: str, generation: int) -> steps.Decision:
    """Carry a submitted generation to its end."""
    while True:
        wait(ctx, campaign, generation)
        if steps.collect(ctx, campaign, generation):
            return steps.update(ctx, campaign, generation)


def sequence(ctx: Context, campaign: str) -> list[str]:
    with ctx.engine.begin() as connection:
        return [sha for _, sha in generations.told_sequence(connection, campaign)]


def kinds(ctx: Context, campaign: str) -> list[str]:
    with ctx.engine.begin() as connection:
        return [event.kind for event in events.recent(connection, campaign, 100)]


UNDISTURBED: list[str] = []


@pytest.fixture
def undisturbed(ctx: Context, local_site: LocalSite, base_dir: Path) -> list[str]:
    """What a campaign tells when nothing happens; the same everywhere, so it is run once."""
    if not UNDISTURBED:
        UNDISTURBED.extend(sequence(ctx, runner.run(ctx, campaign_spec(local_site.name), base_dir)))
    return UNDISTURBED


def test_one_origin_begins_one_campaign(ctx: Context, local_site: LocalSite, base_dir: Path) -> None:
    spec = campaign_spec(local_site.name)
    first = steps.begin(ctx, "airflow:x/manual__1", spec, base_dir, "a user")
    assert steps.begin(ctx, "airflow:x/manual__1", spec, base_dir, "a user") == first
    assert steps.begin(ctx, "airflow:x/manual__2", spec, base_dir, "a user") != first


def test_a_purged_site_folder_is_made_again(
    ctx: Context, local_site: LocalSite, base_dir: Path, undisturbed: list[str]
) -> None:
    """Guards invariant 1: the site's files may be lost."""
    campaign = steps.begin(ctx, "test:purged", campaign_spec(local_site.name), base_dir, "test")
    for generation in range(3):
        steps.submit(ctx, campaign, generation)
        wait(ctx, campaign, generation)
        ctx.site(local_site.name).stop(campaign)
        shutil.rmtree(local_site.campaign(campaign), ignore_errors=True)
        finish(ctx, campaign, generation)
    assert sequence(ctx, campaign) == undisturbed


@pytest.mark.parametrize("damage", ["torn", "other key", "other nonce", "emptied"])
def test_damaged_result_lines_are_refused_and_evaluated_again(
    ctx: Context, local_site: LocalSite, base_dir: Path, undisturbed: list[str], damage: str
) -> None:
    """A line that was truncated or is not ours never becomes a fitness."""
    campaign = steps.begin(ctx, f"test:{damage}", campaign_spec(local_site.name), base_dir, "test")
    steps.submit(ctx, campaign, 0)
    wait(ctx, campaign, 0)
    for path in (local_site.campaign(campaign) / "results").glob("*.ndjson"):
        lines = [damaged(line, damage) for line in path.read_text().splitlines()]
        path.write_text("".join(line + "\n" for line in lines if line))
    assert steps.collect(ctx, campaign, 0) is False
    decision = finish(ctx, campaign, 0)
    assert decision.proceed
    assert sequence(ctx, campaign) == undisturbed[:1]
    assert "sent_again" in kinds(ctx, campaign)
    if damage != "emptied":
        assert {"results_rejected", "results_refused"} & set(kinds(ctx, campaign))


def damaged(line: str, damage: str) -> str:
    """A result line as a fault or an attacker would leave it; other lines stay."""
    if '"type":"result"' not in line or damage == "emptied":
        return ""
    if damage == "torn":
        return line[: len(line) // 2]
    from l2l_tasks.agent import results

    body = json.loads(line)
    key, nonce = ("999.0.0", body["nonce"]) if damage == "other key" else (body["key"], "0" * 16)
    parsed = results.parse_line(line.encode())
    assert isinstance(parsed, results.ResultLine)
    return results.build_line(results.ResultLine(**{**vars(parsed), "key": key, "nonce": nonce})).decode()


def test_failing_evaluations_are_tried_again_and_then_told_as_failed(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    """Failures cost their own individuals only, and the reason is stored."""
    spec = campaign_spec(
        local_site.name,
        optimizee={"name": "sphere", "options": {"dimension": 2, "fail": 0.5}},
        execution={"batch": 8, "attempts": 2},
        budget={"generations": 2},
    )
    campaign = runner.run(ctx, spec, base_dir)
    with ctx.engine.begin() as connection:
        row = campaigns.get(connection, campaign)
        query = """select error_kind, error_message from l2l.evaluations
            where campaign_id = :c and status = 'failed'"""
        failed = connection.execute(text(query), {"c": campaign}).all()
        attempts = connection.scalar(
            text("select max(attempt) from l2l.evaluations where campaign_id = :c"), {"c": campaign}
        )
    assert (row.status, row.evaluations_total) == ("finished", 16)
    assert 0 < row.evaluations_failed < 16
    assert len(failed) == row.evaluations_failed
    assert all(kind == "exception" and message for kind, message in failed)
    assert attempts == 1


def test_a_stopped_campaign_resumes_where_it_was(
    ctx: Context, local_site: LocalSite, base_dir: Path, undisturbed: list[str]
) -> None:
    campaign = steps.begin(ctx, "test:stopped", campaign_spec(local_site.name), base_dir, "test")
    steps.submit(ctx, campaign, 0)
    steps.stop(ctx, campaign, "test", "enough")
    assert steps.remaining_target(ctx, campaign, 0) is None
    assert steps.collect(ctx, campaign, 0) is True
    assert steps.update(ctx, campaign, 0).proceed is False
    with pytest.raises(UserError, match="enough"):
        steps.submit(ctx, campaign, 0)
    steps.resume(ctx, campaign, "test")
    runner.proceed(ctx, campaign)
    assert sequence(ctx, campaign) == undisturbed


def test_generations_cannot_be_skipped(ctx: Context, local_site: LocalSite, base_dir: Path) -> None:
    campaign = steps.begin(ctx, "test:order", campaign_spec(local_site.name), base_dir, "test")
    with pytest.raises(UserError, match="generation 1 cannot be asked"):
        steps.submit(ctx, campaign, 1)


def test_repeats_are_evaluations_of_their_own(ctx: Context, local_site: LocalSite, base_dir: Path) -> None:
    """Each has a seed of its own; bundles may cross individuals."""
    spec = campaign_spec(
        local_site.name,
        optimizee={"name": "sphere", "options": {"dimension": 2, "noise": 1.0}},
        tasks={"repeats": 3, "aggregate": "median"},
        budget={"generations": 2},
        execution={"bundle": 5},
    )
    campaign = runner.run(ctx, spec, base_dir)
    with ctx.engine.begin() as connection:
        row = campaigns.get(connection, campaign)
        seeds = connection.scalar(
            text("select count(distinct seed) from l2l.evaluations where campaign_id = :c"), {"c": campaign}
        )
    assert (row.evaluations_ok, row.evaluations_total, seeds) == (24, 24, 24)


FAMILY = """
from optimizees.base import Optimizee, Result, TaskFamily
from optimizers.space import Float, Space

class Shifts(TaskFamily):
    size = 3
    def task(self, split, index, seed):
        return {"shift": [10.0, 20.0, 30.0][index]}

class Shifted(Optimizee):
    def family(self):
        return Shifts()
    def space(self):
        return Space({"x": Float(0.0, 1.0)})
    def evaluate(self, params, task, rng, context):
        return Result([params["x"] + task["shift"]])
"""


@pytest.mark.parametrize(("fresh", "shifts"), [(True, {10.0, 20.0, 30.0}), (False, {10.0, 20.0})])
def test_evaluations_see_the_tasks_of_their_family(
    ctx: Context, local_site: LocalSite, tmp_path: Path, fresh: bool, shifts: set[float]
) -> None:
    """Guards decision 2: the name of a task once reached the optimizee instead of the task itself."""
    spec = campaign_spec(
        local_site.name,
        optimizee=own_optimizee(tmp_path, "Shifted", FAMILY),
        optimizer={"name": "random"},
        tasks={"per_individual": 2, "fresh": fresh},
        budget={"generations": 2},
    )
    campaign = runner.run(ctx, spec, tmp_path)
    with ctx.engine.begin() as connection:
        query = "select status, fitness from l2l.evaluations where campaign_id = :c"
        rows = connection.execute(text(query), {"c": campaign}).all()
    assert {status for status, _ in rows} == {"ok"}
    assert {fitness[0] // 10 * 10 for _, fitness in rows} == shifts


def test_an_optimizee_that_cannot_be_loaded_at_the_site_pauses_the_campaign(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    """Guards against a campaign that burns its whole budget on an ImportError. What is mended goes on."""
    missing = tmp_path / "installed"
    check = f"""
import os, sys
if "l2l_tasks.spec" not in sys.modules and not os.path.exists({str(missing)!r}):
    raise ImportError("no simulator here")
"""
    spec = campaign_spec(
        local_site.name,
        optimizee=own_optimizee(tmp_path, "Shifted", check + FAMILY),
        execution={"attempts": 1},
        budget={"generations": 2},
    )
    campaign = steps.begin(ctx, "test:import", spec, tmp_path, "test")
    for _ in range(2):
        with pytest.raises(UserError, match=r"cannot be loaded at site testsite: .*no simulator here"):
            runner.proceed(ctx, campaign)
        row = row_of(ctx, campaign)
        assert row.status == "paused"
        assert "no simulator here" in (row.reason or "")
        assert sequence(ctx, campaign) == []
        steps.resume(ctx, campaign, "test")
    missing.touch()
    runner.proceed(ctx, campaign)
    row = row_of(ctx, campaign)
    assert (row.status, row.evaluations_ok, row.evaluations_failed) == ("finished", 8, 0)


def test_removed_code_is_staged_again(ctx: Context, local_site: LocalSite, base_dir: Path) -> None:
    """Guards invariant 1: a site may purge the code alone, which is older than the campaign's other files."""
    spec = campaign_spec(local_site.name, budget={"generations": 2})
    campaign = steps.begin(ctx, "test:code", spec, base_dir, "test")
    steps.submit(ctx, campaign, 0)
    finish(ctx, campaign, 0)
    ctx.site(local_site.name).stop(campaign)
    ctx.site(local_site.name).resume(campaign)
    shutil.rmtree(local_site.work / "code")
    steps.submit(ctx, campaign, 1)
    assert finish(ctx, campaign, 1).proceed is False
    row = row_of(ctx, campaign)
    assert (row.status, row.evaluations_ok, row.evaluations_failed) == ("finished", 8, 0)


def test_l2l_run_outlives_a_restart_of_the_database(
    ctx: Context,
    local_site: LocalSite,
    base_dir: Path,
    undisturbed: list[str],
    postgres_server: Server,
    database: Database,
) -> None:
    """Guards against a run of days that ends because the database was away for a second."""
    away: list[str] = []

    def allow(yes: bool) -> None:
        postgres_server._admin(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS {yes}')

    def progress(event: str, _detail: dict[str, Any]) -> None:
        if event in ("waiting", "told") and event not in away:
            away.append(event)
            allow(False)
            postgres_server._admin(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'"
            )
            Timer(0.5, allow, [True]).start()

    campaign = runner.run(ctx, campaign_spec(local_site.name), base_dir, progress)
    assert away == ["waiting", "told"]
    assert sequence(ctx, campaign) == undisturbed


def test_a_half_complete_batch_is_not_asked_for_without_a_pause(
    ctx: Context, local_site: LocalSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the site: in steady state with several tasks the wait ended at once, again and again."""
    # One task of each individual is slow: others, as many as a batch has, are done before it.
    seen_twice = tmp_path / "seen-twice"
    wait = f"""import os, time
        while task["shift"] == 10 and not os.path.exists({str(seen_twice)!r}):
            time.sleep(0.05)
        return Result"""
    slow = FAMILY.replace("return Result", wait)
    spec = campaign_spec(
        local_site.name,
        optimizee=own_optimizee(tmp_path, "Shifted", slow),
        optimizer={"name": "random"},
        tasks={"per_individual": 3},
        budget={"generations": 1},
        execution={"batch": 1, "in_flight": 4, "workers": 4},
    )
    happened: list[object] = []
    sleep, collect = time.sleep, steps.collect

    def noted_sleep(seconds: float) -> None:
        happened.append(seconds)
        sleep(seconds)

    def noted_collect(ctx: Context, campaign: str, generation: int) -> bool:
        happened.append("collect")
        if happened.count("collect") == 2:
            seen_twice.touch()
        return collect(ctx, campaign, generation)

    monkeypatch.setattr("l2l_tasks.runner.time.sleep", noted_sleep)
    monkeypatch.setattr("l2l_tasks.steps.collect", noted_collect)
    runner.run(ctx, spec, tmp_path)
    interval = ctx.profile(local_site.name).poll_interval
    collects = happened.count("collect")
    assert collects > 1, "the case does not arise any more"
    assert happened.count(interval) >= collects - 1
