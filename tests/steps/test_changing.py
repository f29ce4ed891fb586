"""Campaigns that begin with what others found, and campaigns that change while they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from l2l_tasks import runner, steps
from l2l_tasks.context import Context
from l2l_tasks.errors import SpecError, UserError
from l2l_tasks.runner import stored_summary
from l2l_tasks.steps import stored
from l2l_tasks.steps.observing import merged
from l2l_tasks.steps.optimizer_state import load_optimizer
from l2l_tasks.store import campaigns, events, individuals, versions
from l2l_tasks.store.individuals import Evaluated
from tests.steps.conftest import campaign_spec, own_optimizee, row_of
from tests.steps.own_optimizer import OBSERVED, TOLD
from tests.steps.test_steps import FAMILY, finish, sequence
from tests.steps.test_telling import TWO
from tests.support.local_site import LocalSite

pytestmark = pytest.mark.usefixtures("talkative")


def generation(ctx: Context, campaign: str, number: int) -> steps.Decision:
    steps.submit(ctx, campaign, number)
    return finish(ctx, campaign, number)


def params_of(ctx: Context, campaign: str) -> dict[int, Any]:
    with ctx.engine.begin() as connection:
        query = text("select index, params from l2l.individuals where campaign_id = :c order by index")
        return {index: params for index, params in connection.execute(query, {"c": campaign})}  # noqa: C416


# --- warm start ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["id", "name"])
def test_a_campaign_begins_with_what_another_found(
    ctx: Context, local_site: LocalSite, base_dir: Path, by: str
) -> None:
    first = runner.run(ctx, campaign_spec(local_site.name, name="first", budget={"generations": 2}), base_dir)
    with ctx.engine.begin() as connection:
        rows = [individuals.get(connection, first, i) for i in range(8)]
    best = sorted(row.fitness[0] for row in rows if row is not None and row.fitness is not None)[:3]
    wanted = {"campaign": {"id": first, "name": "first"}[by], "limit": 3}
    spec = campaign_spec(
        local_site.name, name="second", optimizer={"name": "talkative"}, from_campaign=wanted
    )
    second = steps.begin(ctx, f"test:{by}", spec, base_dir, "test")
    OBSERVED.clear()
    generation(ctx, second, 0)
    (told,) = OBSERVED
    assert sorted(told.losses[:, 0]) == best
    assert (told.ids < 0).all()
    with ctx.engine.begin() as connection:
        (begun,) = [e for e in events.recent(connection, second, 20) if e.kind == "begin"]
    assert begun.detail["from_campaign"] == {
        "id": first,
        "before": 2,
        "limit": 3,
        "offered": 3,
        "used": 3,
    }
    assert stored_summary(ctx, second)["summary"]["progress"]["best"]["index"] in range(4)


def test_what_cannot_be_begun_from_is_said_before_anything_is_submitted(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    """An unknown campaign, other objectives, parameters that are all elsewhere."""
    two = campaign_spec(
        local_site.name,
        name="two",
        optimizee=own_optimizee(tmp_path, "Two", TWO),
        optimizer={"name": "talkative"},
        budget={"generations": 1},
    )
    runner.run(ctx, two, tmp_path)
    runner.run(ctx, campaign_spec(local_site.name, budget={"generations": 1}), tmp_path)
    outside = {"x": {"low": 9.99, "high": 10.0}}
    for changes, said in (
        ({"from_campaign": "nobody"}, "no campaign 'nobody'"),
        ({"from_campaign": "two"}, r"other objectives.*gain \(maximize\).*loss \(minimize\)"),
        ({"from_campaign": "small", "parameters": outside}, "none of the 4 evaluated"),
    ):
        spec = campaign_spec(local_site.name, name="late", **changes)
        with pytest.raises(UserError, match=said):
            steps.begin(ctx, "test:late", spec, tmp_path, "test")
    with ctx.engine.begin() as connection:
        assert campaigns.find(connection, "test:late") is None


def test_evaluations_of_the_same_parameters_are_one_observation() -> None:
    rows = [
        Evaluated(4, 1, 3, {"x": 1}, [2.0]),
        Evaluated(1, None, 1, {"x": 1}, [6.0]),
        Evaluated(2, None, 1, {"x": 2}, [5.0]),
        Evaluated(9, 4, 4, {"x": 1}, [1.0]),
        Evaluated(7, 3, 1, {"x": 3}, [4.0]),
    ]
    assert merged(rows) == [(1, {"x": 1}, [2.0]), (2, {"x": 2}, [5.0]), (3, {"x": 3}, [4.0])]


# --- changes ------------------------------------------------------------------------------------------------


def test_a_change_takes_effect_with_the_next_generation(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    """The generation that is on its way is told as it was asked; versions say what was in force when."""
    spec = campaign_spec(local_site.name, budget={"generations": 2})
    campaign = steps.begin(ctx, "test:batch", spec, base_dir, "test")
    generation(ctx, campaign, 0)
    steps.submit(ctx, campaign, 1)
    made = steps.change(
        ctx, campaign, None, {"batch": 6, "workers": 1, "budget.generations": 4, "execution.slots": 2}, "me"
    )
    assert (made.version, made.from_generation) == (2, 2)
    assert finish(ctx, campaign, 1).proceed  # by the new budget
    again = steps.change(ctx, campaign, None, {"budget.generations": 3}, "me")
    assert (again.version, again.from_generation) == (3, 2)
    assert not generation(ctx, campaign, 2).proceed
    with ctx.engine.begin() as connection:
        asked = connection.scalars(
            text("select asked from l2l.generations where campaign_id = :c order by number"), {"c": campaign}
        )
        assert list(asked) == [4, 4, 6]
        found = versions.listing(connection, campaign)
        row = campaigns.get(connection, campaign)
        changed = [
            e.detail["changed"] for e in events.recent(connection, campaign, 50) if e.kind == "changed"
        ]
    assert [(v.version, v.from_generation, v.who) for v in found] == [
        (1, 0, "test:batch"),
        (2, 2, "me"),
        (3, 2, "me"),
    ]
    assert (row.spec_version, row.spec_hash, row.status) == (3, found[2].spec_hash, "finished")
    assert [set(one) for one in changed] == [{"budget"}, {"budget", "execution"}]
    config = json.loads((local_site.campaign(campaign) / "campaign.json").read_text())
    assert config["slots"] == 2


def test_another_optimizer_learns_from_all_that_was_told(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    """In steady state, results of the old optimizer that come late are observed, and none is lost."""
    spec = campaign_spec(
        local_site.name,
        optimizee={"name": "sphere", "options": {"dimension": 2, "run_time": 0.05}},
        optimizer={"name": "random"},
        budget={"generations": 4},
        execution={"batch": 3, "in_flight": 9, "workers": 1},
    )
    campaign = steps.begin(ctx, "test:optimizer", spec, base_dir, "test")
    generation(ctx, campaign, 0)
    with ctx.engine.begin() as connection:
        early = {one.index for one in individuals.told_in(connection, campaign, 0)}
    steps.change(ctx, campaign, None, {"optimizer": "talkative"}, "me")
    for number in (1, 2, 3):
        decision = generation(ctx, campaign, number)
    assert not decision.proceed
    first, *late = OBSERVED
    assert set(first.ids.tolist()) == early
    observed = {int(i) for one in late for i in one.ids}
    told = {int(i) for one in TOLD for i in one.ids}
    assert observed == set(range(9)) - early
    assert told
    assert min(told) == 9
    with ctx.engine.begin() as connection:
        row = campaigns.get(connection, campaign)
        query = text("""select index from l2l.individuals
            where campaign_id = :c and told_generation is not null""")
        assert set(connection.scalars(query, {"c": campaign})) == early | observed | told
        optimizer = load_optimizer(connection, stored.get(connection, campaign))
        best = connection.execute(
            text("select index from l2l.individuals where campaign_id = :c order by fitness limit 1"),
            {"c": campaign},
        ).scalar_one()
    assert optimizer.name == "talkative"
    assert row.best_individual == best


def test_other_bounds_begin_another_search_with_new_points(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    spec = campaign_spec(local_site.name, optimizer={"name": "random"}, budget={"generations": 2})
    campaign = steps.begin(ctx, "test:bounds", spec, base_dir, "test")
    generation(ctx, campaign, 0)
    steps.change(ctx, campaign, None, {"parameters.x": {"low": -1.0, "high": 0.0}}, "me")
    generation(ctx, campaign, 1)
    params = params_of(ctx, campaign)
    before, after = (np.array([params[i]["x"] for i in ids]) for ids in (range(4), range(4, 8)))
    assert ((after >= -1.0) & (after <= 0.0)).all()
    assert not np.isclose((before + 5.0) / 15.0, after + 1.0).any()  # not the same draws


def test_the_best_individual_outlives_the_space_that_it_was_found_in(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    """Guards against a campaign that reports less than it has found."""
    campaign = steps.begin(ctx, "test:best", campaign_spec(local_site.name), base_dir, "test")
    generation(ctx, campaign, 0)
    best = stored_summary(ctx, campaign)["summary"]["progress"]["best"]
    steps.change(ctx, campaign, None, {"parameters.x": {"low": 8.0, "high": 9.0}}, "me")
    generation(ctx, campaign, 1)
    assert stored_summary(ctx, campaign)["summary"]["progress"]["best"] == best
    steps.change(ctx, campaign, None, {"parameters.x": {"low": -1e-6, "high": 1e-6}}, "me")
    generation(ctx, campaign, 2)
    found = stored_summary(ctx, campaign)["summary"]["progress"]["best"]
    assert found["index"] in range(8, 12)
    assert found["params"] == params_of(ctx, campaign)[found["index"]]


def test_another_optimizer_is_asked_for_all_that_is_in_flight(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    """Its first ask tells it how large its population is, whatever its predecessor has under way."""
    spec = campaign_spec(
        local_site.name,
        optimizee={"name": "sphere", "options": {"dimension": 2, "run_time": 0.3}},
        execution={"batch": 2, "in_flight": 10, "workers": 1},
    )
    campaign = steps.begin(ctx, "test:first", spec, base_dir, "test")
    generation(ctx, campaign, 0)
    steps.change(ctx, campaign, None, {"optimizer": "genetic"}, "me")
    steps.submit(ctx, campaign, 1)
    with ctx.engine.begin() as connection:
        optimizer = load_optimizer(connection, stored.get(connection, campaign))
    assert optimizer.diagnostics()["pending"] == 10
    steps.stop(ctx, campaign, "test", "enough")


def test_members_of_a_population_stay_in_flight(ctx: Context, local_site: LocalSite, base_dir: Path) -> None:
    """Those that wait would lose their checkpoints; where the number is an option, validation says so."""
    spec = campaign_spec(
        local_site.name,
        optimizer={"name": "population_based_training"},
        tasks={"fresh": False},
        execution={"batch": 6},
    )
    campaign = steps.begin(ctx, "test:members", spec, base_dir, "test")
    with pytest.raises(UserError, match="6 individuals must stay in flight, not 5"):
        steps.change(ctx, campaign, None, {"batch": 5}, "me")
    steps.change(ctx, campaign, None, {"batch": 5, "in_flight": 6}, "me")


def test_the_same_changes_tell_the_same(ctx: Context, local_site: LocalSite, base_dir: Path) -> None:
    """Guards invariant 5 across versions; the second one is asked twice and changed in between."""
    told = []
    for name in ("one", "two"):
        spec = campaign_spec(local_site.name, budget={"generations": 3})
        campaign = steps.begin(ctx, f"test:{name}", spec, base_dir, "test")
        generation(ctx, campaign, 0)
        steps.change(ctx, campaign, None, {"optimizer": "random", "batch": 5}, "me")
        steps.submit(ctx, campaign, 1)
        if name == "two":
            steps.change(ctx, campaign, None, {"budget.generations": 2}, "me")
            steps.submit(ctx, campaign, 1)
            steps.change(ctx, campaign, None, {"budget.generations": 3}, "me")
        finish(ctx, campaign, 1)
        generation(ctx, campaign, 2)
        told.append(sequence(ctx, campaign))
    assert len(told[0]) == 3
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 8}, "seed"),
        ({"tasks.repeats": 2}, "tasks"),
        ({"optimizee.options.dimension": 3}, "optimizee"),
        ({"execution.bundle": 2, "name": "other"}, "name, execution.bundle"),
        ({"site": "elsewhere"}, "site"),
        ({"batch": 4}, "already"),
    ],
)
def test_what_cannot_change_is_named(
    ctx: Context, local_site: LocalSite, base_dir: Path, changes: dict[str, Any], named: str
) -> None:
    campaign = steps.begin(ctx, "test:fixed", campaign_spec(local_site.name), base_dir, "test")
    with pytest.raises(UserError, match=named):
        steps.change(ctx, campaign, None, changes, "me")
    with ctx.engine.begin() as connection:
        assert len(versions.listing(connection, campaign)) == 1


def test_a_change_is_checked_against_the_code_that_the_campaign_began_with(
    ctx: Context, local_site: LocalSite, tmp_path: Path
) -> None:
    """Guards decision 5: the optimizee's file may have been edited, or be gone."""
    optimizee = own_optimizee(tmp_path, "Shifted", FAMILY)
    spec = campaign_spec(local_site.name, optimizee=optimizee, optimizer={"name": "random"})
    campaign = steps.begin(ctx, "test:code", spec, tmp_path, "test")
    (tmp_path / "own" / "shifted.py").unlink()
    with pytest.raises(SpecError, match=r"parameters\.y: no such parameter"):
        steps.change(ctx, campaign, None, {"parameters.y": 1.0}, "me")
    steps.change(ctx, campaign, None, {"parameters.x": {"high": 0.5}}, "me")
    steps.submit(ctx, campaign, 0)
    assert all(params["x"] <= 0.5 for params in params_of(ctx, campaign).values())


def test_an_optimizer_that_is_done_can_be_replaced(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    spec = campaign_spec(
        local_site.name,
        optimizer={"name": "talkative", "options": {"total": 4}},
        budget={"generations": 2},
    )
    campaign = steps.begin(ctx, "test:done", spec, base_dir, "test")
    steps.submit(ctx, campaign, 0)
    steps.change(ctx, campaign, None, {"optimizer": "random"}, "me")
    assert finish(ctx, campaign, 0).proceed
    generation(ctx, campaign, 1)
    row = row_of(ctx, campaign)
    assert (row.reason, row.evaluations_ok) == ("all 2 generations done", 8)
    with pytest.raises(UserError, match="finished"):
        steps.change(ctx, campaign, None, {"budget.generations": 9}, "me")
