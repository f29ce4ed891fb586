"""The log in PostgreSQL says everything: replayed to a fresh optimizer, it gives the stored state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from l2l_tasks import runner
from l2l_tasks.context import Context
from l2l_tasks.steps.optimizer_state import load_optimizer
from l2l_tasks.steps.stored import get
from l2l_tasks.store import individuals, states
from optimizers.base import Evaluated
from tests.steps.conftest import campaign_spec
from tests.support.local_site import LocalSite


@pytest.mark.parametrize(
    "optimizer",
    [
        {"name": "cmaes"},
        {"name": "genetic", "options": {"reevaluate": 2}},
        {"name": "differential_evolution"},
        {"name": "bayesian"},
    ],
    ids=lambda optimizer: optimizer["name"],
)
def test_replaying_the_log_gives_the_stored_state(
    ctx: Context, local_site: LocalSite, base_dir: Path, optimizer: dict[str, Any]
) -> None:
    """Guards against an optimizer that depends on anything but what was asked and told."""
    spec = campaign_spec(
        local_site.name,
        optimizee={"name": "sphere", "options": {"dimension": 2, "noise": 1.0}},
        optimizer=optimizer,
        budget={"generations": 5},
    )
    campaign_id = runner.run(ctx, spec, base_dir)
    with ctx.engine.begin() as connection:
        campaign = get(connection, campaign_id)
        stored = states.load_latest(connection, campaign_id)
        assert stored is not None
        like = load_optimizer(connection, campaign)
        again = type(like)(like.space, like.n_objectives, like.options, like.seed)
        asked = text("select number, asked from l2l.generations where campaign_id = :c order by number")
        for number, n in connection.execute(asked, {"c": campaign_id}).all():
            suggested = {s.id: s.params for s in again.ask(n)}
            told = individuals.told_in(connection, campaign_id, number)
            assert {one.index: one.params for one in told} == suggested
            again.tell([Evaluated(one.index, tuple(one.fitness or ())) for one in told])
    assert again.state() == stored.data
