"""A whole campaign in this process: the same steps as the Airflow DAG, for a laptop and for debugging."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from tenacity import (
    Retrying,
    before_sleep_log,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from l2l_tasks import steps
from l2l_tasks.context import Context
from l2l_tasks.errors import (
    SitePermanentError,
    SiteTransientError,
    StoreUnreachable,
    TrackingError,
    UserError,
)
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.steps import stored
from l2l_tasks.store import failures, generations

logger = logging.getLogger(__name__)
T = TypeVar("T")

# A site may be down for a maintenance day; nobody sits in front of `l2l run` for longer.
GIVE_UP_AFTER = 24 * 3600.0

Progress = Callable[[str, dict[str, Any]], None]
"""Called as progress(event, detail); events: begun, waiting, told, failed, ended, tracking."""


def silent(_event: str, _detail: dict[str, Any]) -> None:
    """A progress that shows nothing."""


def run(
    ctx: Context, spec: CampaignSpec, base_dir: Path, progress: Progress = silent, who: str = "cli"
) -> str:
    """Begin a campaign and carry it to its end.

    Returns:
        The campaign's id.

    Raises:
        SpecError: the specification cannot run; nothing was stored or submitted.
        UserError, SitePermanentError: the campaign is paused with this reason.
    """
    campaign_id = steps.begin(ctx, f"run:{uuid.uuid4()}", spec, base_dir, who)
    proceed(ctx, campaign_id, progress)
    return campaign_id


def proceed(ctx: Context, campaign_id: str, progress: Progress = silent) -> None:
    """Carry a campaign on from where it is until it ends.

    Raises:
        UserError, SitePermanentError: the campaign is paused with this reason.
    """
    progress("begun", {"campaign": campaign_id})
    with ThreadPoolExecutor(1, "log") as logger_thread:
        logging_done: Future[None] | None = None
        try:
            decision = steps.Decision(True, None, _patiently(lambda: _first_generation(ctx, campaign_id)))
            while decision.proceed:
                generation = decision.next_generation
                decision = _generation(ctx, campaign_id, generation, progress)
                logging_done = logger_thread.submit(_log, ctx, campaign_id, not decision.proceed, progress)
        except (UserError, SitePermanentError) as error:
            steps.pause(ctx, campaign_id, str(error), "cli")
            raise
        except KeyboardInterrupt:
            steps.pause(ctx, campaign_id, "interrupted", "cli")
            steps.release(ctx, campaign_id)
            raise
        _patiently(lambda: steps.release(ctx, campaign_id))
        if logging_done is not None:
            logging_done.result()
    progress("ended", {"campaign": campaign_id, "reason": decision.reason})


def _first_generation(ctx: Context, campaign_id: str) -> int:
    """The generation that is not told yet."""
    with ctx.engine.begin() as connection:
        last = generations.last(connection, campaign_id)
    if last is None:
        return 0
    return last.number if last.told_at is None else last.number + 1


def _generation(ctx: Context, campaign_id: str, generation: int, progress: Progress) -> steps.Decision:
    _patiently(lambda: steps.submit(ctx, campaign_id, generation))
    while True:
        pause = _patiently(lambda: _wait(ctx, campaign_id, generation, progress))
        if _patiently(lambda: steps.collect(ctx, campaign_id, generation)):
            break
        # As many evaluations are done as a batch has, but not all of one batch: the wait would end at once.
        time.sleep(pause)
    decision = _patiently(lambda: steps.update(ctx, campaign_id, generation))
    row = _patiently(lambda: _stored_generation(ctx, campaign_id, generation))
    if row is not None and row.told_at is not None:
        summary = row.summary or {}
        progress("told", {"generation": generation, **summary})
        _explain(ctx, campaign_id, generation, progress)
    return decision


def _explain(ctx: Context, campaign_id: str, generation: int, progress: Progress) -> None:
    """Say why evaluations of a generation have no result, if any."""

    def found() -> list[failures.Failure]:
        with ctx.engine.begin() as connection:
            return failures.of_generation(connection, campaign_id, generation)

    for failure in _patiently(found):
        progress("failed", asdict(failure))


def _stored_generation(ctx: Context, campaign_id: str, generation: int) -> generations.Generation | None:
    with ctx.engine.begin() as connection:
        return generations.get(connection, campaign_id, generation)


def _wait(ctx: Context, campaign_id: str, generation: int, progress: Progress) -> float:
    """Poll the site until the generation can be collected or the campaign no longer runs.

    Returns:
        Seconds to pause before the next look at the site.
    """
    pause = 0.0
    while (request := steps.remaining_target(ctx, campaign_id, generation)) is not None:
        client = ctx.site(request.site)
        pause = client.profile.poll_interval
        asked = {"campaign": request.campaign, "workers": request.workers, "target": request.target}
        status = client.poll([asked], wait=client.profile.poll_interval)[campaign_id]
        progress("waiting", {"generation": generation, **status})
        if status["todo"] + status["running"] <= request.target or status.get("rejected"):
            break
    return pause


def _log(ctx: Context, campaign_id: str, final: bool, progress: Progress) -> None:
    try:
        _patiently(lambda: steps.log(ctx, campaign_id, final))
    except TrackingError as error:
        progress("tracking", {"error": str(error)})


def _patiently(step: Callable[[], T]) -> T:
    """Run a step again while the site or the database has a passing fault."""
    retrying = Retrying(
        retry=retry_if_exception_type((SiteTransientError, StoreUnreachable)),
        wait=wait_random_exponential(multiplier=1, max=300),
        stop=stop_after_delay(GIVE_UP_AFTER),
        before_sleep=before_sleep_log(logger, logging.WARNING),
        reraise=True,
    )
    return retrying(step)


def stored_summary(ctx: Context, campaign_id: str) -> dict[str, Any]:
    """Status, reason and the last told generation's summary of a campaign."""
    with ctx.engine.begin() as connection:
        campaign = stored.get(connection, campaign_id)
        last = generations.last(connection, campaign_id)
        if last is not None and last.told_at is None and last.number > 0:
            last = generations.get(connection, campaign_id, last.number - 1)
    return {
        "campaign": campaign_id,
        "status": campaign.row.status,
        "reason": campaign.row.reason,
        "generation": None if last is None else last.number,
        "summary": (last.summary or {}) if last is not None else {},
    }
