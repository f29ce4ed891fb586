"""Log: empty the outbox into MLflow. Off the critical path; a campaign never waits for it."""

from __future__ import annotations

from l2l_tasks.context import Context


def log(ctx: Context, campaign_id: str, final: bool) -> int:
    """Send what is in the outbox.

    Args:
        ctx: open connections.
        campaign_id: the campaign.
        final: whether the campaign has ended, so that the run is closed as well.

    Returns:
        Generations still in the outbox.

    Raises:
        TrackingError: MLflow did not answer; nothing is lost.
    """
    if ctx.tracking_uri is None:
        return 0
    from l2l_tasks.tracking import drain  # MLflow takes two seconds to import

    return drain(ctx.engine, ctx.tracking_uri, campaign_id, final=final)
