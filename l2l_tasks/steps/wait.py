"""Wait: what has to be left at the site before a generation can be collected."""

from __future__ import annotations

from dataclasses import dataclass

from l2l_tasks.context import Context
from l2l_tasks.steps import stored
from l2l_tasks.store import generations, workload


@dataclass(frozen=True)
class WaitRequest:
    """One campaign's part of a site's poll.

    Attributes:
        campaign: its id.
        site: name of the site.
        workers: most workers at once.
        target: evaluations left in the pool at which the wait is over.
    """

    campaign: str
    site: str
    workers: int
    target: int


def remaining_target(ctx: Context, campaign_id: str, generation: int) -> WaitRequest | None:
    """What to wait for, or None when nothing is: told already, or the campaign does not run."""
    with ctx.engine.begin() as connection:
        campaign = stored.get(connection, campaign_id)
        row = generations.get(connection, campaign_id, generation)
        counts = workload.counts(connection, campaign_id)
    if campaign.row.status != "running" or row is None or row.told_at is not None:
        return None
    plan, surplus = campaign.tasks, max(0, counts.untold - campaign.batch)
    tasks = counts.slices + (counts.untold - counts.sliced) * plan.per_individual
    target = surplus * tasks * plan.repeats // max(1, counts.untold)  # of individuals as they are on average
    if row.asked:  # tests hold nobody up, unless there is nothing else
        target += counts.tests
    return WaitRequest(campaign_id, campaign.row.site, campaign.workers, target)
