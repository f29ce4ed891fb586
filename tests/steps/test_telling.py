"""What an optimizer is told: constraints, metrics, and who is the best individual so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from l2l_tasks import runner
from l2l_tasks.context import Context
from l2l_tasks.errors import UserError
from l2l_tasks.runner import stored_summary
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.store import campaigns
from tests.steps.conftest import campaign_spec, own_optimizee
from tests.steps.own_optimizer import TOLD
from tests.support.local_site import LocalSite

pytestmark = pytest.mark.usefixtures("talkative")
TWO = """
from optimizees.base import Objective, Optimizee, Result
from optimizers.space import Float, Space

class Two(Optimizee):
    objectives = (Objective("cost"), Objective("gain", "maximize"))
    def space(self):
        return Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    def evaluate(self, params, task, rng, context):
        return Result([params["x"], params["x"] * params["y"]])
"""


def test_the_best_is_judged_by_the_mean_of_its_evaluations(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    """Guards against the luckiest draw of a noisy optimizee, reported as the result of a campaign."""
    spec = campaign_spec(
        local_site.name,
        optimizee={"name": "sphere", "options": {"dimension": 2, "noise": 30.0}},
        optimizer={"name": "random", "options": {"reevaluate": 2}},
        budget={"generations": 4},
        execution={"batch": 6},
    )
    campaign = runner.run(ctx, spec, base_dir)
    best = stored_summary(ctx, campaign)["summary"]["progress"]["best"]
    with ctx.engine.begin() as connection:
        query = """select fitness[1] from l2l.individuals
            where campaign_id = :c and :best in (index, origin)"""
        drawn = list(connection.scalars(text(query), {"c": campaign, "best": best["index"]}))
        luckiest = connection.scalar(
            text("select min(fitness[1]) from l2l.individuals where campaign_id = :c"), {"c": campaign}
        )
        row = campaigns.get(connection, campaign)
    assert best["evaluations"] == len(drawn) > 1
    assert best["fitness"] == [pytest.approx(np.mean(drawn))]
    assert best["fitness"][0] > luckiest
    assert (row.best_individual, row.best_fitness) == (best["index"], best["fitness"])


def test_several_objectives_have_a_front(ctx: Context, local_site: LocalSite, tmp_path: Path) -> None:
    spec = campaign_spec(
        local_site.name,
        optimizee=own_optimizee(tmp_path, "Two", TWO),
        optimizer={"name": "talkative"},
        budget={"generations": 2},
        execution={"batch": 8},
    )
    campaign = runner.run(ctx, spec, tmp_path)
    summary = stored_summary(ctx, campaign)["summary"]
    with ctx.engine.begin() as connection:
        query = "select index, fitness from l2l.individuals where campaign_id = :c order by index"
        found = [(row.index, row.fitness) for row in connection.execute(text(query), {"c": campaign})]
    best = [
        {"index": index, "fitness": fitness}
        for index, fitness in found
        if not any(
            other[0] <= fitness[0] and other[1] >= fitness[1] and other != fitness for _, other in found
        )
    ]
    assert summary["front"] == best
    assert 0 < len(best) < len(found)
    assert summary["progress"]["best"]["fitness"][0] == min(fitness[0] for _, fitness in found)


def test_an_optimizer_is_told_the_metrics_that_it_names(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    spec = campaign_spec(
        local_site.name,
        optimizee={"name": "sphere", "options": {"dimension": 2, "fail": 0.2}},
        optimizer={"name": "talkative", "options": {"measure": ["value"]}},
        tasks={"repeats": 2},
        budget={"generations": 1},
        execution={"batch": 8, "attempts": 1},
    )
    runner.run(ctx, spec, base_dir)
    (told,) = TOLD
    assert 0 < told.ok.sum() < 8
    for ok, loss, values in zip(told.ok, told.losses[:, 0], told.measures["value"], strict=True):
        if ok:
            assert values is not None
            assert values.dtype == np.float64
            assert values.tolist() == [loss, loss]
        else:
            assert values is None


@pytest.mark.parametrize(
    ("changes", "who"),
    [
        ({"optimizer": {"name": "talkative", "options": {"measure": ["rate"]}}}, "the optimizer"),
        ({"constraints": {"rate": {"high": 3}}}, "`constraints`"),
    ],
)
def test_a_missing_metric_pauses_the_campaign(
    ctx: Context, local_site: LocalSite, base_dir: Path, changes: dict[str, object], who: str
) -> None:
    with pytest.raises(UserError, match=f"{who} needs the metric 'rate'.*none of the first 4 individuals"):
        runner.run(ctx, campaign_spec(local_site.name, **changes), base_dir)
    with ctx.engine.begin() as connection:
        (row,) = campaigns.listing(connection)
    assert (row.status, row.generations_told) == ("paused", 0)
    assert "'rate'" in (row.reason or "")


OUTPUTS = """
import numpy as np
from optimizees.base import Optimizee, Result
from optimizers.space import Float, Space

class Outputs(Optimizee):
    def space(self):
        return Space({"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)})
    def evaluate(self, params, task, rng, context):
        out = np.outer([params["x"], 1.0], [1.0, 2.0, params["y"]])
        metrics = {"outputs": out, "targets": np.zeros((2, 3))}
        if params["x"] > 0:
            metrics["rate"] = params["x"]
        elif params["y"] > 0:
            metrics["rate"] = float("nan")
        return Result([params["x"] ** 2], metrics=metrics)
"""


def outputs(folder: Path, site: LocalSite, code: str = OUTPUTS, **changes: Any) -> CampaignSpec:
    """A campaign whose optimizee returns arrays, and a rate with every second individual or so."""
    return campaign_spec(
        site.name,
        optimizee=own_optimizee(folder, "Outputs", code),
        budget={"generations": 2},
        execution={"batch": 8},
        **changes,
    )


def test_metrics_may_be_arrays(ctx: Context, local_site: LocalSite, tmp_path: Path) -> None:
    """They come row by row, one row for each evaluation."""
    options = {"measure": ["outputs"]}
    spec = outputs(
        tmp_path, local_site, optimizer={"name": "talkative", "options": options}, tasks={"repeats": 2}
    )
    runner.run(ctx, spec, tmp_path)
    for told in TOLD:
        for genome, values in zip(told.genomes, told.measures["outputs"], strict=True):
            x, y = 2 * genome - 1
            assert values is not None
            assert values == pytest.approx(np.tile([x, 2 * x, x * y, 1.0, 2.0, y], (2, 1)))


def test_an_ensemble_learns_from_arrays(ctx: Context, local_site: LocalSite, tmp_path: Path) -> None:
    spec = outputs(tmp_path, local_site, optimizer={"name": "ensemble_kalman"})
    campaign = runner.run(ctx, spec, tmp_path)
    assert stored_summary(ctx, campaign)["summary"]["diagnostics"]["updates"] == 2


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"optimizer": {"name": "talkative", "options": {"measure": ["rate"]}}}, "failed"),
        ({"optimizer": {"name": "talkative"}, "constraints": {"rate": {"high": 2.0}}}, "infeasible"),
    ],
)
def test_an_individual_without_a_metric_stops_nobody_else(
    ctx: Context, local_site: LocalSite, tmp_path: Path, changes: dict[str, Any], status: str
) -> None:
    """Guards against a campaign that pauses for ever because one silent network has no rate."""
    campaign = runner.run(ctx, outputs(tmp_path, local_site, **changes), tmp_path)
    with ctx.engine.begin() as connection:
        query = "select params, status, violation from l2l.individuals where campaign_id = :c"
        rows = connection.execute(text(query), {"c": campaign}).all()
    assert len(rows) == 16
    assert {row.status for row in rows} == {"ok", status}
    for row in rows:
        assert (row.status == "ok") == (row.params["x"] > 0)
        assert row.violation is None
    summary = stored_summary(ctx, campaign)["summary"]
    assert summary["missing"] == {"rate": summary["status"][status]}


def test_what_the_optimizer_refuses_pauses_the_campaign(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    """Outputs and targets of different shapes: the reason is stored, nothing is told."""
    options = {"outputs": "outputs", "targets": "x"}
    code = OUTPUTS.replace('"targets": np.zeros((2, 3))', '"x": params["x"]')
    spec = outputs(tmp_path, local_site, code, optimizer={"name": "ensemble_kalman", "options": options})
    with pytest.raises(UserError, match="outputs of shape"):
        runner.run(ctx, spec, tmp_path)
    with ctx.engine.begin() as connection:
        (row,) = campaigns.listing(connection)
    assert (row.status, row.generations_told) == ("paused", 0)


def test_individuals_beyond_a_limit_are_infeasible_by_how_far(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    """The limit is of the mean of a metric, the violation in parts of it; the optimizer ranks by it."""
    spec = campaign_spec(
        local_site.name,
        optimizer={"name": "talkative"},
        tasks={"repeats": 2},
        constraints={"value": {"low": 2.0, "high": 20.0}},
        budget={"generations": 2},
        execution={"batch": 8},
    )
    campaign = runner.run(ctx, spec, base_dir)
    query = """select i.index, i.status, i.fitness, i.violation, avg((e.metrics ->> 'value')::float) as value
        from l2l.individuals as i join l2l.evaluations as e
        on e.campaign_id = i.campaign_id and e.individual = i.index
        where i.campaign_id = :c group by i.campaign_id, i.index order by i.index"""
    with ctx.engine.begin() as connection:
        rows = connection.execute(text(query), {"c": campaign}).all()
    violations = np.concatenate([told.violations for told in TOLD])
    for row, told in zip(rows, violations, strict=True):
        excess = max(0.0, row.value / 20.0 - 1.0, 1.0 - row.value / 2.0)
        assert row.status == ("infeasible" if excess else "ok")
        assert (row.fitness is None) == bool(excess)
        assert row.violation == (pytest.approx(excess) if excess else None)
        assert told == (row.violation or 0.0)
    n = sum(row.status == "infeasible" for row in rows)
    assert 0 < n < 16
    assert stored_summary(ctx, campaign)["summary"]["violated"]["value"] == sum(
        row.status == "infeasible" for row in rows[8:]
    )
