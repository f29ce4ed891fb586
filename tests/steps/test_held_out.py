"""Tests on held-out tasks in a campaign: when they are asked, what they may not touch, how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from l2l_tasks import runner, steps
from l2l_tasks.context import Context
from l2l_tasks.steps import stored
from l2l_tasks.steps.held_out import performances
from l2l_tasks.store import campaigns, generations, held_out, individuals
from tests.steps.conftest import campaign_spec, own_optimizee, row_of
from tests.support.local_site import LocalSite

SPLIT = """
from optimizees.base import Infeasible, Optimizee, Result, TaskFamily
from optimizers.space import Float, Space

class Family(TaskFamily):
    def task(self, split, index, seed):
        return {"split": split, "index": index}

class Split(Optimizee):
    \"\"\"The loss is the distance from 0.3, on held-out tasks 10 more, and the index of the task.\"\"\"
    def __init__(self, broken=False):
        self.broken = broken
    def space(self):
        return Space({"x": Float(0.0, 1.0)})
    def family(self):
        return Family()
    def evaluate(self, params, task, rng, context):
        held_out = task["split"] == "test"
        if held_out and self.broken:
            raise Infeasible("not on these")
        loss = abs(params["x"] - 0.3) + (10.0 if held_out else 0.0)
        return Result([loss + task["index"]], curve=[loss + 1.0, loss])
"""


def spec_of(site: str, base_dir: Path, **changes: Any) -> Any:
    given = {
        "optimizee": own_optimizee(base_dir, "Split", SPLIT),
        "tasks": {"fresh": False, "test": {"tasks": 3, "every": 2}},
        "budget": {"generations": 4},
        "execution": {"batch": 6},
        **changes,
    }
    return campaign_spec(site, **given)


def history(ctx: Context, campaign: str) -> list[dict[str, Any]]:
    with ctx.engine.begin() as connection:
        return generations.history(connection, campaign)


def test_tests_before_between_and_after(ctx: Context, local_site: LocalSite, tmp_path: Path) -> None:
    campaign = runner.run(ctx, spec_of(local_site.name, tmp_path), tmp_path)
    summaries = history(ctx, campaign)
    tests = [test for summary in summaries for test in summary["tests"]]
    assert [test["after"] for test in tests] == [0, 2, 4]
    assert [test["tested"] for test in tests] == [5, 1, 1]
    recommended = [summaries[n]["recommended"]["x"] for n in (1, 3)]
    expected = [abs(x - 0.3) + 10 + 1 for x in recommended]  # the mean of tasks 0, 1, 2
    assert [test["fitness"][0] for test in tests[1:]] == pytest.approx(expected)
    assert tests[0]["fitness"][0] > tests[2]["fitness"][0]
    assert tests[2]["curve"]["mean"] == pytest.approx([expected[1], expected[1] - 1.0])
    assert tests[2]["low"][0] <= expected[1] <= tests[2]["high"][0]
    row = row_of(ctx, campaign)
    assert (row.status, row.reason) == ("finished", "all 4 generations done")
    assert [summary["told"] for summary in summaries] == [6, 6, 6, 6, 0]
    assert summaries[-1]["progress"]["evaluations"] == 24  # the budget is that of training
    assert row.evaluations_total == row.evaluations_ok == 24 + (5 + 1 + 1) * 3


def test_the_optimizer_is_told_the_same_with_tests_and_without(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    spec = spec_of(local_site.name, tmp_path)
    without = spec.model_copy(update={"tasks": spec.tasks.model_copy(update={"test": None})})
    tested, plain = (runner.run(ctx, one, tmp_path) for one in (spec, without))
    with ctx.engine.begin() as connection:
        told = [generations.told_sequence(connection, one) for one in (tested, plain)]
        assert individuals.count(connection, tested) == individuals.count(connection, plain) == 24
        assert len(individuals.told_in(connection, tested, 0)) == 6
        assert all(
            one.index >= 0 for one in individuals.evaluated(connection, tested, before=9, sign=1, most=99)
        )
    assert told[0][:4] == told[1]


def test_tests_compare_because_their_seeds_are_the_same(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    campaign = runner.run(ctx, spec_of(local_site.name, tmp_path), tmp_path)
    query = """select individual, array_agg(seed order by task_index) from l2l.evaluations
        where campaign_id = :c and individual < 0 group by individual"""
    with ctx.engine.begin() as connection:
        seeds = {row[0]: tuple(row[1]) for row in connection.execute(text(query), {"c": campaign})}
        parsed = stored.get(connection, campaign)
        again = performances(parsed, held_out.told(connection, campaign))
    assert sorted(seeds) == list(range(-7, 0))
    assert len(set(seeds.values())) == 1
    assert [one.after for one in again] == [0, 2, 4]


def test_a_test_that_has_no_result_ends_the_campaign_all_the_same(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    optimizee = {**own_optimizee(tmp_path, "Split", SPLIT), "options": {"broken": True}}
    campaign = runner.run(ctx, spec_of(local_site.name, tmp_path, optimizee=optimizee), tmp_path)
    tests = [test for summary in history(ctx, campaign) for test in summary["tests"]]
    assert [(test["after"], test["ok"], test["fitness"]) for test in tests] == [
        (0, 0, []),
        (2, 0, []),
        (4, 0, []),
    ]
    assert row_of(ctx, campaign).status == "finished"


def test_a_campaign_goes_on_when_its_budget_grows_before_the_last_test(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    """Guards against an end that was decided under a budget that is no longer in force."""
    spec = spec_of(local_site.name, tmp_path, budget={"generations": 2}, tasks={"test": {"tasks": 2}})
    campaign = steps.begin(ctx, "test:grows", spec, tmp_path, "test")
    for generation in (0, 1):
        steps.submit(ctx, campaign, generation)
        while not steps.collect(ctx, campaign, generation):
            pass
        decision = steps.update(ctx, campaign, generation)
    assert decision.proceed
    assert decision.reason == "all 2 generations done; the last test is left"
    steps.change(ctx, campaign, None, {"budget.generations": 4}, "test")
    runner.proceed(ctx, campaign)
    summaries = history(ctx, campaign)
    assert [summary["told"] for summary in summaries] == [6, 6, 6, 6, 0]
    assert [test["after"] for summary in summaries for test in summary["tests"]] == [0, 4]
    with ctx.engine.begin() as connection:
        assert campaigns.get(connection, campaign).reason == "all 4 generations done"
