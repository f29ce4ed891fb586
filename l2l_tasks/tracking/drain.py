"""Empty a campaign's outbox into MLflow.

Each row is sent before it is marked as sent. When the process dies in between, the row is sent again and
MLflow keeps one copy: points carry the time of telling, files are replaced. So each generation arrives
exactly once in effect, and what a generation costs does not depend on how large its population is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

from l2l_tasks.figures import held_out_figure
from l2l_tasks.steps import stored
from l2l_tasks.steps.held_out import performances
from l2l_tasks.store import campaigns, generations, held_out, outbox
from l2l_tasks.store.campaigns import Campaign
from l2l_tasks.tracking.artifacts import fitness_plot
from l2l_tasks.tracking.records import GenerationRecord, plot_is_due
from l2l_tasks.tracking.tracker import Ending, Tracker

ROWS_PER_ROUND = 20
ENDINGS: dict[str, Ending] = {"finished": "FINISHED", "stopped": "KILLED"}


def drain(engine: Engine, uri: str, campaign_id: str, *, final: bool = False) -> int:
    """Send everything that waits in the outbox.

    Args:
        engine: the campaign database.
        uri: the MLflow server.
        campaign_id: the campaign.
        final: the campaign has ended: draw the last plot and close the run.

    Returns:
        Generations still waiting: 0, or more when another process is sending them at this moment.

    Raises:
        TrackingError: MLflow did not answer; what it had not taken stays in the outbox.
        UserError: there is no such campaign.
    """
    with engine.connect() as connection, _alone(connection, campaign_id) as alone:
        if not alone:
            return outbox.pending_count(connection, campaign_id)
        campaign = campaigns.get(connection, campaign_id)
        waiting = outbox.pending(connection, campaign_id, ROWS_PER_ROUND)
        connection.commit()
        if not waiting and not final:
            return 0
        tracker = Tracker(uri)
        run_id = _run(connection, tracker, campaign)
        plot, tested = final, False
        while waiting:
            sent = [GenerationRecord.from_payload(row.payload) for row in waiting]
            _send(tracker, run_id, sent)
            plot = plot or any(plot_is_due(record.generation) for record in sent)
            tested = tested or any(record.points for record in sent)
            outbox.mark_sent(connection, [row.id for row in waiting])
            for record in sent:
                generations.mark_logged(connection, campaign_id, record.generation)
            connection.commit()
            waiting = outbox.pending(connection, campaign_id, ROWS_PER_ROUND)
            connection.commit()
        if plot:
            _plot(connection, tracker, run_id, campaign)
        if tested:
            _plot_tests(connection, tracker, run_id, campaign)
        if final:
            _finish(connection, tracker, run_id, campaign_id)
        return 0


@contextmanager
def _alone(connection: Connection, campaign_id: str) -> Iterator[bool]:
    """Whether this process may send for the campaign; the lock goes with the connection at the latest.

    Not the campaign's row lock: that one the steps need, and MLflow may take half a minute to time out.
    """
    key = {"key": f"l2l.tracking/{campaign_id}"}
    alone = connection.execute(
        text("SELECT pg_try_advisory_lock(hashtextextended(:key, 0))"), key
    ).scalar_one()
    connection.commit()
    try:
        yield bool(alone)
    finally:
        if alone:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:key, 0))"), key)
            connection.commit()


def _run(connection: Connection, tracker: Tracker, campaign: Campaign) -> str:
    run_id = tracker.ensure_run(campaign, campaign.mlflow_run_id)
    if run_id != campaign.mlflow_run_id:
        campaigns.set_mlflow_run(connection, campaign.id, run_id)
        connection.commit()
    return run_id


def _send(tracker: Tracker, run_id: str, sent: Sequence[GenerationRecord]) -> None:
    tracker.log_batch(run_id, sent)
    for record in sent:
        if record.population:
            tracker.log_population(run_id, record)
    if sent[-1].best is not None:
        tracker.log_best(run_id, sent[-1])


def _plot(connection: Connection, tracker: Tracker, run_id: str, campaign: Campaign) -> None:
    history = generations.history(connection, campaign.id)
    connection.commit()
    if history:
        title = f"{campaign.id} ({campaign.spec['optimizer']['name']})"
        tracker.log_plot(run_id, fitness_plot(history, title))


def _plot_tests(connection: Connection, tracker: Tracker, run_id: str, campaign: Campaign) -> None:
    parsed = stored.parse(campaign)
    tests = performances(parsed, held_out.told(connection, campaign.id))
    connection.commit()
    title = f"{campaign.id} ({parsed.spec.optimizer.name})"
    tracker.log_learning(run_id, held_out_figure(tests, parsed.objective_names, title, "png"))


def _finish(connection: Connection, tracker: Tracker, run_id: str, campaign_id: str) -> None:
    """Close the run as the campaign ended; a paused campaign's run stays open."""
    campaign = campaigns.get(connection, campaign_id)
    connection.commit()
    ending = ENDINGS.get(campaign.status)
    if ending is not None:
        ended_at = campaign.ended_at
        tracker.finish(run_id, ending, None if ended_at is None else int(ended_at.timestamp() * 1000))
