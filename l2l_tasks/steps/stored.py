"""A campaign as the steps read it: its specification and the problem that was fixed when it began.

The space, the objectives and the optimizee's code are stored with the campaign, so that a running
campaign keeps them whatever becomes of the files they came from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from l2l_tasks.planning import Budget, Direction, TaskPlan
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.store import campaigns, versions
from l2l_tasks.store.versions import SpecVersion
from optimizers.space import Space


@dataclass(frozen=True)
class StoredCampaign:
    """A campaign's row with its JSON parsed."""

    row: campaigns.Campaign
    spec: CampaignSpec

    @property
    def problem(self) -> dict[str, Any]:
        """`space`, `objectives` (name, direction), `entry`, `code`, `environment` of the optimizee, `batch`
        and, where they apply, `from_campaign`, `first_individual` and `optimizer_version`."""
        return self.row.problem

    @property
    def space(self) -> Space:
        return Space.from_json(self.problem["space"])

    @property
    def directions(self) -> list[Direction]:
        return [objective["direction"] for objective in self.problem["objectives"]]

    @property
    def objective_names(self) -> list[str]:
        return [objective["name"] for objective in self.problem["objectives"]]

    @property
    def batch(self) -> int:
        """Individuals told per generation."""
        return int(self.problem["batch"])

    @property
    def in_flight(self) -> int:
        """Individuals kept at the site."""
        return self.spec.execution.in_flight or self.batch

    @property
    def workers(self) -> int:
        """Most workers (Slurm array tasks) at once."""
        return self.spec.execution.workers or self.batch

    @property
    def tasks(self) -> TaskPlan:
        plan = self.spec.tasks
        return TaskPlan(plan.per_individual, plan.repeats, plan.fresh)

    @property
    def tests(self) -> TaskPlan:
        """Held-out tasks of a test; none without `tasks.test`."""
        wanted = self.spec.tasks.test
        return TaskPlan(0, 1, False) if wanted is None else TaskPlan(wanted.tasks, wanted.repeats, False)

    @property
    def first_individual(self) -> int:
        """The first individual of the optimizer in force; earlier ones were asked by those before it."""
        return int(self.problem.get("first_individual", 0))

    @property
    def optimizer_version(self) -> int:
        """The version of the specification that brought the optimizer in force."""
        return int(self.problem.get("optimizer_version", 1))

    @property
    def budget(self) -> Budget:
        b = self.spec.budget
        return Budget(b.generations, b.evaluations, b.core_hours, b.wall_time, b.target, b.stagnation)


def in_version(campaign: StoredCampaign, version: SpecVersion) -> StoredCampaign:
    """The campaign as it is when a version of its specification is in force."""
    if version.version == campaign.row.spec_version:
        return campaign
    row = replace(
        campaign.row,
        spec=version.spec,
        spec_hash=version.spec_hash,
        spec_version=version.version,
        problem=version.problem,
    )
    return parse(row)


def coming(connection: Connection, campaign: StoredCampaign) -> StoredCampaign:
    """The campaign as it will be when its next generation is asked."""
    return in_version(campaign, versions.newest(connection, campaign.row.id))


def parse(row: campaigns.Campaign) -> StoredCampaign:
    """The parsed form of a campaign's row."""
    return StoredCampaign(row, CampaignSpec.model_validate(row.spec))


def get(connection: Connection, campaign_id: str) -> StoredCampaign:
    """Read a campaign (UserError when there is none of that id)."""
    return parse(campaigns.get(connection, campaign_id))


def lock(connection: Connection, campaign_id: str) -> StoredCampaign:
    """Read a campaign and keep its row locked until the transaction ends."""
    return parse(campaigns.lock(connection, campaign_id))
