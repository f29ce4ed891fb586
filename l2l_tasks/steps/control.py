"""Pause, resume, stop and release a campaign. PostgreSQL is told first: it is what the steps obey."""

from __future__ import annotations

from contextlib import suppress

from l2l_tasks.context import Context
from l2l_tasks.errors import SiteNotOpen, UserError
from l2l_tasks.steps import stored
from l2l_tasks.store import campaigns, evaluations, workers


def pause(ctx: Context, campaign_id: str, reason: str, who: str) -> None:
    """Note why a campaign cannot go on; it resumes where it is. Ended campaigns stay ended."""
    with ctx.engine.begin() as connection:
        if stored.lock(connection, campaign_id).row.status == "running":
            campaigns.set_status(connection, campaign_id, "paused", reason, who=who)


def resume(ctx: Context, campaign_id: str, who: str) -> None:
    """Let a paused or stopped campaign go on from its last committed step.

    Raises:
        UserError: the campaign is finished.
    """
    with ctx.engine.begin() as connection:
        campaign = stored.lock(connection, campaign_id)
        if campaign.row.status == "finished":
            raise UserError(f"campaign {campaign_id} is finished ({campaign.row.reason}): start a new one")
        if campaign.row.status == "running":
            return
        campaigns.set_status(connection, campaign_id, "running", None, who=who)
        evaluations.reopen_unloaded(connection, campaign_id)
    if campaign.row.staged:
        with suppress(SiteNotOpen):  # the next submit opens it
            ctx.site(campaign.row.site).resume(campaign_id)


def stop(ctx: Context, campaign_id: str, who: str, reason: str) -> None:
    """End a campaign now and cancel its jobs. Its results stay; `resume` takes it up again.

    Raises:
        SiteTransientError: the campaign is stopped, but the site did not confirm that its jobs are
            cancelled; stop again.
    """
    with ctx.engine.begin() as connection:
        if stored.lock(connection, campaign_id).row.status in ("running", "paused"):
            campaigns.set_status(connection, campaign_id, "stopped", reason, who=who)
    release(ctx, campaign_id)


def release(ctx: Context, campaign_id: str) -> None:
    """Give back what an ended campaign holds at its site: waiting jobs and lingering workers."""
    with ctx.engine.begin() as connection:
        campaign = stored.get(connection, campaign_id)
    if not campaign.row.staged:
        return
    with suppress(SiteNotOpen):
        if not ctx.site(campaign.row.site).stop(campaign_id):
            return  # the scheduler did not confirm it, so nothing is known of the workers
    with ctx.engine.begin() as connection:
        workers.upsert(connection, campaign_id, [], all_live=True)
