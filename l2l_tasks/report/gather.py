"""What a report says, read from the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from l2l_tasks.errors import UserError
from l2l_tasks.learning import FRESH, Learned, Row, table
from l2l_tasks.planning import canonical
from l2l_tasks.steps import stored
from l2l_tasks.steps.held_out import performances
from l2l_tasks.steps.stored import StoredCampaign
from l2l_tasks.store import held_out


@dataclass(frozen=True)
class Study:
    """Campaigns on one problem by one optimizer, which differ in their seeds and in how they use tasks.

    Attributes:
        objectives: name and direction of each.
        learned: one per campaign, in the order given.
        rows: the campaigns by their number of training tasks.
    """

    title: str
    objectives: list[dict[str, str]]
    campaigns: list[StoredCampaign]
    learned: list[Learned]
    rows: list[Row]

    @property
    def objective_names(self) -> list[str]:
        return [objective["name"] for objective in self.objectives]


def study(connection: Connection, campaign_ids: Sequence[str]) -> Study:
    """The tests of some campaigns, side by side.

    Raises:
        UserError: there is no such campaign; they do not compare; or none has tested anything.
    """
    campaigns = [stored.get(connection, one) for one in dict.fromkeys(campaign_ids)]
    first = campaigns[0]
    for other in campaigns[1:]:
        different = [name for name, value in _compared(first).items() if value != _compared(other)[name]]
        if different:
            raise UserError(
                f"campaigns {first.row.id} and {other.row.id} do not compare: their "
                f"{' and '.join(different)} differ"
            )
    learned = [
        Learned(
            campaign.row.id,
            campaign.row.seed,
            FRESH if campaign.spec.tasks.fresh else campaign.spec.tasks.per_individual,
            performances(campaign, held_out.told(connection, campaign.row.id)),
        )
        for campaign in campaigns
    ]
    twice = [pair for pair, n in Counter((one.tasks, one.seed) for one in learned).items() if n > 1]
    if twice:
        raise UserError(
            f"seed {twice[0][1]} is there more than once with as many tasks: intervals are over "
            "different seeds"
        )
    if not any(one.tests for one in learned):
        raise UserError(
            "there is nothing to report: no test on held-out tasks has a result. A campaign makes them with "
            "`tasks: {test: {tasks: 20}}`; the first comes with generation 0."
        )
    spec = first.spec
    return Study(
        f"{spec.optimizer.name} on {spec.optimizee.reference}",
        first.problem["objectives"],
        campaigns,
        learned,
        table(learned),
    )


def _compared(campaign: StoredCampaign) -> dict[str, Any]:
    """What must be equal."""
    tasks = campaign.spec.tasks
    return {
        "optimizees": campaign.row.code_hash,
        "options of the optimizee": canonical(campaign.spec.optimizee.options),
        "parameters": canonical(campaign.problem["space"]),
        "objectives": campaign.problem["objectives"],
        "optimizers": (campaign.spec.optimizer.name, canonical(campaign.spec.optimizer.options)),
        "tests": (tasks.test, tasks.aggregate),
        "evaluations per individual": tasks.per_individual * tasks.repeats,
        "budgets": campaign.spec.budget,
        "batches": (campaign.batch, campaign.in_flight),
        "constraints": campaign.spec.constraints,
        "earlier campaigns": campaign.spec.from_campaign,
    }
