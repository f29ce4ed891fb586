"""What an optimizer says with its individuals: slices of the tasks, origins, parents, and that it is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from l2l_tasks import runner, steps
from l2l_tasks.context import Context
from l2l_tasks.errors import SpecError
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.store import campaigns, individuals
from tests.steps.conftest import campaign_spec, own_optimizee, row_of
from tests.steps.test_steps import FAMILY, finish
from tests.support.local_site import LocalSite

pytestmark = pytest.mark.usefixtures("talkative")
THREE_TASKS = {"per_individual": 3, "fresh": False}


def shifted(tmp_path: Path, site: LocalSite, **changes: object) -> CampaignSpec:
    """A campaign with an own optimizee of three tasks."""
    values = {"optimizee": own_optimizee(tmp_path, "Shifted", FAMILY), "tasks": THREE_TASKS, **changes}
    return campaign_spec(site.name, **values)


def test_individuals_are_evaluated_on_their_slice_of_the_tasks(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    """Bundles that cross individuals and slices hold every evaluation once."""
    spec = shifted(
        tmp_path,
        local_site,
        optimizer={"name": "talkative", "options": {"tasks": 3}},
        tasks={**THREE_TASKS, "repeats": 2},
        budget={"generations": 2},
        execution={"bundle": 4},
    )
    campaign = runner.run(ctx, spec, tmp_path)
    with ctx.engine.begin() as connection:
        rows = [individuals.get(connection, campaign, i) for i in range(8)]
        found = connection.execute(
            text("""select individual, task_index, repeat, fitness from l2l.evaluations
                where campaign_id = :c order by individual, task_index, repeat"""),
            {"c": campaign},
        ).all()
    for i, row in enumerate(rows):
        assert row is not None
        again = i % 2 == 1
        assert (row.origin, row.parent) == ((i - 1, i - 1) if again else (None, None))
        assert (row.first_task, row.n_tasks) == ((1, 2) if again else (0, 1))
        seen = [(one.task_index, one.repeat) for one in found if one.individual == i]
        assert seen == [(t, r) for t in ((1, 2) if again else (0,)) for r in range(2)]
        assert row.fitness is not None
        assert row.fitness[0] // 5 * 5 == (25.0 if again else 10.0)  # the mean over their tasks
    assert all(one.fitness is not None for one in found)


def test_the_wait_is_for_as_many_evaluations_as_slices_have(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    spec = shifted(
        tmp_path,
        local_site,
        optimizer={"name": "talkative", "options": {"tasks": 3}},
        tasks={**THREE_TASKS, "repeats": 4},
        execution={"batch": 2, "in_flight": 4, "workers": 1},
    )
    campaign = steps.begin(ctx, "test:wait", spec, tmp_path, "test")
    steps.submit(ctx, campaign, 0)
    request = steps.remaining_target(ctx, campaign, 0)
    assert request is not None
    assert request.target == 2 * (1 + 2 + 1 + 2) * 4 // 4  # two of four individuals may be left


@pytest.mark.parametrize(
    ("tasks", "field"),
    [
        ({"per_individual": 2, "fresh": False}, "tasks.per_individual"),
        ({"per_individual": 3}, "tasks.fresh"),
        ({**THREE_TASKS, "aggregate": "worst"}, "tasks.aggregate"),
    ],
)
def test_an_optimizer_that_chooses_among_tasks_needs_them(
    ctx: Context, local_site: LocalSite, tmp_path: Path, tasks: dict[str, object], field: str
) -> None:
    spec = shifted(
        tmp_path, local_site, optimizer={"name": "talkative", "options": {"tasks": 3}}, tasks=tasks
    )
    with pytest.raises(SpecError, match=field):
        steps.begin(ctx, "test:tasks", spec, tmp_path, "test")


def test_a_campaign_ends_when_its_optimizer_has_nothing_left(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    spec = campaign_spec(
        local_site.name,
        optimizer={"name": "talkative", "options": {"total": 6}},
        budget={"generations": 50},
    )
    campaign = runner.run(ctx, spec, base_dir)
    row = row_of(ctx, campaign)
    assert (row.status, row.evaluations_ok, row.generations_told) == ("finished", 6, 2)
    assert "all said" in (row.reason or "")


def test_generations_without_individuals_wait_for_those_that_are_pending(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    """In steady state an optimizer may have nothing to ask while half of what it asked is evaluated."""
    spec = campaign_spec(
        local_site.name,
        optimizer={"name": "talkative", "options": {"total": 10}},
        budget={"generations": 50},
        execution={"batch": 2, "in_flight": 8, "workers": 1},
    )
    campaign = steps.begin(ctx, "test:steady", spec, base_dir, "test")
    decision, generation = steps.Decision(True, None, 0), 0
    while decision.proceed:
        generation = decision.next_generation
        steps.submit(ctx, campaign, generation)
        decision = finish(ctx, campaign, generation)
    with ctx.engine.begin() as connection:
        row = campaigns.get(connection, campaign)
        query = "select asked from l2l.generations where campaign_id = :c order by number"
        asked = list(connection.scalars(text(query), {"c": campaign}))
    assert (row.status, row.evaluations_ok, row.evaluations_total) == ("finished", 10, 10)
    assert sum(asked) == 10
    assert "all said" in (row.reason or "")


LEARNER = """
from optimizees.base import Optimizee, Result
from optimizers.space import Float, Space

class Learner(Optimizee):
    def space(self):
        return Space({"x": Float(0.0, 1.0)})
    def evaluate(self, params, task, rng, context):
        before = 0 if context.inherited is None else int((context.inherited / "age").read_text())
        (context.checkpoint / "age").write_text(str(before + 1))
        return Result([before + 1.0])
"""


def test_learners_go_on_from_generation_to_generation(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    """Each individual inherits its parent's checkpoint; what nobody can inherit any more is removed."""
    spec = campaign_spec(
        local_site.name,
        optimizee=own_optimizee(tmp_path, "Learner", LEARNER),
        optimizer={"name": "talkative", "options": {"lineage": 2}},
        tasks={"fresh": False, "repeats": 2},
        budget={"generations": 5},
        execution={"batch": 2},
    )
    campaign = runner.run(ctx, spec, tmp_path)
    with ctx.engine.begin() as connection:
        query = "select fitness from l2l.individuals where campaign_id = :c order by index"
        fitness = list(connection.scalars(text(query), {"c": campaign}))
    assert fitness == [[g + 1.0] for g in range(5) for _ in range(2)]
    folder = local_site.campaign(campaign) / "checkpoints"
    kept = {int(path.name.partition(".")[0]) for path in folder.iterdir()}
    assert kept == set(range(4, 10))  # told in the two generations before the last, and in the last


@pytest.mark.parametrize("loss", ["abs(before - 1.0)", "-float(before)"])
def test_an_elite_begins_again_where_it_began(
    ctx: Context, local_site: LocalSite, tmp_path: Path, loss: str
) -> None:
    """A re-evaluation goes on with the learner that its origin went on with, however long ago that was."""
    code = LEARNER.replace("Result([before + 1.0])", f"Result([{loss}])")
    spec = campaign_spec(
        local_site.name,
        optimizee=own_optimizee(tmp_path, "Learner", code),
        optimizer={"name": "population_based_training", "options": {"population": 4, "reevaluate": 2}},
        tasks={"fresh": False},
        budget={"generations": 7},
        execution={"batch": 6},
    )
    campaign = runner.run(ctx, spec, tmp_path)
    with ctx.engine.begin() as connection:
        rows = [individuals.get(connection, campaign, i) for i in range(42)]
    again = [row for row in rows if row is not None and row.origin is not None]
    assert len(again) > 8
    for row in again:
        assert row.origin is not None
        origin = rows[row.origin]
        assert origin is not None
        assert (row.parent, row.fitness) == (origin.parent, origin.fitness)
    if loss == "abs(before - 1.0)":  # the second generation stays the best
        assert any(row.generation == 6 and row.parent is not None and row.parent < 6 for row in again)
    # An elite may come back after any time: all checkpoints stay, also where the newest are the best.
    folder = local_site.campaign(campaign) / "checkpoints"
    assert {int(path.name.partition(".")[0]) for path in folder.iterdir()} == set(range(42))


def test_successive_halving_promotes_the_best_to_further_tasks(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    spec = shifted(
        tmp_path,
        local_site,
        optimizer={"name": "successive_halving", "options": {"max_tasks": 3, "eta": 3}},
        budget={"generations": 4},
        execution={"batch": 6},
    )
    campaign = runner.run(ctx, spec, tmp_path)
    with ctx.engine.begin() as connection:
        query = """select i.params::text as params, o.params::text as before, i.first_task, i.n_tasks
            from l2l.individuals as i
            join l2l.individuals as o on (o.campaign_id, o.index) = (i.campaign_id, i.origin)
            where i.campaign_id = :c"""
        promoted = connection.execute(text(query), {"c": campaign}).all()
        row = campaigns.get(connection, campaign)
    assert promoted
    assert all((one.params, one.first_task, one.n_tasks) == (one.before, 1, 2) for one in promoted)
    assert row.evaluations_ok == row.evaluations_total > 24
