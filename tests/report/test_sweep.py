"""A sweep over numbers of training tasks and its report: real database, site and MLflow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy import text

from l2l_tasks import runner, sweep
from l2l_tasks.context import Context
from l2l_tasks.errors import SpecError, UserError
from l2l_tasks.report import page
from l2l_tasks.report.gather import study
from l2l_tasks.spec import CampaignSpec
from tests.steps.conftest import campaign_spec, ctx, own_optimizee
from tests.support.local_site import LocalSite

__all__ = ["ctx"]

OFFSETS = """
from optimizees.base import Optimizee, Result, TaskFamily
from optimizers.space import Float, Space

class Family(TaskFamily):
    size = 4
    def task(self, split, index, seed):
        return {"offset": (1.0, -0.5, -0.25, -0.25)[index] if split == "train" else 0.0}

class Offsets(Optimizee):
    \"\"\"The first training task misleads, all four together have the mean of the held-out ones.\"\"\"
    def space(self):
        return Space({"x": Float(-1.0, 1.0)})
    def family(self):
        return Family()
    def evaluate(self, params, task, rng, context):
        loss = (params["x"] - task["offset"]) ** 2
        return Result([loss], {"distance": abs(params["x"])}, curve=[1.0, loss])
"""


def spec_of(site: str, folder: Path, **tasks: Any) -> CampaignSpec:
    return campaign_spec(
        site,
        description="<script>alert(1)</script>",
        optimizee=own_optimizee(folder, "Offsets", OFFSETS),
        optimizer={"name": "sobol"},
        tasks={"fresh": False, "test": {"tasks": 3}, **tasks},
        budget={"generations": 1},
        execution={"batch": 16, "bundle": 20},
    )


def test_more_tasks_generalise_better(
    ctx: Context, local_site: LocalSite, mlflow_server: str, tmp_path: Path
) -> None:
    tracked = Context(ctx.engine, mlflow_server)
    specs = list(sweep.variants(spec_of(local_site.name, tmp_path), [1, 4], [1, 2, 3]))
    assert [(s.seed, s.tasks.per_individual, s.tasks.repeats) for s in specs[:2]] == [(1, 1, 4), (1, 4, 1)]
    found = sweep.run(tracked, specs, tmp_path)

    one, four = found.rows
    assert (one.tasks, four.tasks, one.seeds) == (1, 4, [1, 2, 3])
    assert one.after is not None
    assert four.after is not None
    assert four.after.high[0] < 0.1 < 0.5 < one.after.low[0]
    again = sweep.run(tracked, specs, tmp_path)
    assert [campaign.row.id for campaign in again.campaigns] == [c.row.id for c in found.campaigns]
    with ctx.engine.begin() as connection:
        assert connection.scalar(text("select count(*) from l2l.campaigns")) == 6

    client = MlflowClient(mlflow_server)
    (experiment,) = [e for e in client.search_experiments() if "offsets" in e.name]
    (run,) = client.search_runs([experiment.experiment_id], "tags.`l2l.sweep` != ''")
    points = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "test/loss")}
    assert points == {1: pytest.approx(one.after.mean[0]), 4: pytest.approx(four.after.mean[0])}
    assert len(client.get_metric_history(run.info.run_id, "test/loss_low")) == 2
    assert [a.path for a in client.list_artifacts(run.info.run_id)] == ["learning_to_learn.png"]
    own = client.search_runs(
        [experiment.experiment_id], f"tags.`l2l.campaign` = '{found.campaigns[0].row.id}'"
    )[0]
    steps = {m.step for m in client.get_metric_history(own.info.run_id, "test/loss")}
    assert steps == {0, 1}
    curve = {m.step: m.value for m in client.get_metric_history(own.info.run_id, "learning_curve/after")}
    assert curve[0] == 1.0
    assert curve[1] < 1.0
    assert client.get_metric_history(own.info.run_id, "test/metric/distance")
    assert "held_out.png" in {a.path for a in client.list_artifacts(own.info.run_id)}

    html = page.render(found)
    assert html.count("data:image/png;base64,") == 1
    assert "<script" not in html
    assert not re.search(r"(src|href)=.?(http|//)", html)
    for campaign in found.campaigns:
        assert campaign.row.id in html
    assert re.search(r"^ +4 +3 ", page.text(found), re.MULTILINE)


def test_one_campaign_has_a_report_of_its_own(ctx: Context, local_site: LocalSite, tmp_path: Path) -> None:
    campaign = runner.run(ctx, spec_of(local_site.name, tmp_path), tmp_path)
    with ctx.engine.begin() as connection:
        found = study(connection, [campaign])
    assert [test.after for test in found.learned[0].tests] == [0, 1]
    assert "data:image/png;base64," in page.render(found)
    assert re.search(r"^ +1  [0-9.e-]+ \(", page.text(found), re.MULTILINE)


def test_campaigns_that_do_not_compare_are_refused(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    first = runner.run(ctx, spec_of(local_site.name, tmp_path), tmp_path)
    again = runner.run(ctx, spec_of(local_site.name, tmp_path), tmp_path)
    more = spec_of(local_site.name, tmp_path)
    more = more.model_copy(update={"budget": more.budget.model_copy(update={"evaluations": 10_000})})
    longer = runner.run(ctx, more, tmp_path)
    other = runner.run(ctx, spec_of(local_site.name, tmp_path, aggregate="worst"), tmp_path)
    untested = runner.run(ctx, spec_of(local_site.name, tmp_path, test=None), tmp_path)
    with ctx.engine.begin() as connection:
        with pytest.raises(UserError, match=r"their tests differ"):
            study(connection, [first, other])
        with pytest.raises(UserError, match=r"budgets differ"):
            study(connection, [first, longer])
        with pytest.raises(UserError, match=r"seed 7 is there more than once"):
            study(connection, [first, again])
        with pytest.raises(UserError, match=r"nothing to report"):
            study(connection, [untested])


def test_sweeps_that_cannot_be_are_refused(local_site: LocalSite, tmp_path: Path) -> None:
    spec = spec_of(local_site.name, tmp_path)
    with pytest.raises(UserError, match="3 does not"):
        list(sweep.variants(spec, [1, 3, 4], [1]))
    with pytest.raises(UserError, match="0 does not"):
        list(sweep.variants(spec, [0, 4], [1]))
    with pytest.raises(UserError, match="tests nothing"):
        list(sweep.variants(spec_of(local_site.name, tmp_path, test=None), [1, 4], [1]))
    with pytest.raises(SpecError, match="seed"):
        list(sweep.variants(spec, [1, 4], [-1]))
