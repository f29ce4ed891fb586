"""From a DAG run to its campaign, and the errors of the steps in Airflow's terms (imports nothing heavy).

The store and the steps are imported where they are used: DAG files are parsed every few seconds, tasks run
for a few seconds each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from l2l_tasks import settings
from l2l_tasks.dag_names import origin
from l2l_tasks.errors import (
    L2LError,
    SitePermanentError,
    SiteTransientError,
    StoreError,
    TrackingError,
    UserError,
)

if TYPE_CHECKING:
    from l2l_tasks.context import Context as Connections
    from l2l_tasks.store.campaigns import Campaign

logger = logging.getLogger(__name__)
T = TypeVar("T")

# A site or the database may be away for a maintenance day; anything unexpected is more likely a mistake.
PATIENT_TRIES = 300
UNEXPECTED_TRIES = 5


@dataclass(frozen=True)
class Place:
    """Which campaign and generation a DAG run is about."""

    campaign: str
    generation: int


def campaigns_folder() -> Path:
    """Where the campaign files are (`$L2L_CAMPAIGNS`, else campaigns/ of the repository)."""
    return Path(settings.value("L2L_CAMPAIGNS") or settings.REPOSITORY / "campaigns")


def find(ctx: Connections, dag_id: str, dag_run_id: str, conf: Mapping[str, Any] | None) -> Place | None:
    """The place of a DAG run: from its conf, or generation 0 of the campaign that it began.

    Returns:
        None when the run has not begun its campaign yet.

    Raises:
        UserError: the conf names a campaign that is unknown or that belongs to another DAG.
    """
    from l2l_tasks.store import campaigns

    named = (conf or {}).get("campaign")
    with ctx.engine.begin() as connection:
        if not named:
            found = campaigns.find(connection, origin(dag_id, dag_run_id))
            return None if found is None else Place(found.id, 0)
        campaign = campaigns.get(connection, str(named))
    if campaign.name != dag_id:
        raise UserError(
            f"campaign {campaign.id} belongs to the DAG {campaign.name!r}: trigger it there, not {dag_id!r}"
        )
    return Place(campaign.id, generation_of(conf))


def generation_of(conf: Mapping[str, Any] | None) -> int:
    """The generation that a run's conf names (0 when it names none)."""
    value = (conf or {}).get("generation", 0)
    try:
        generation = int(value)
    except (TypeError, ValueError):
        generation = -1
    if generation < 0:
        raise UserError(f"the run's conf has generation {value!r}: expected a whole number from 0")
    return generation


def campaign_row(ctx: Connections, campaign_id: str) -> Campaign:
    """The stored campaign."""
    from l2l_tasks.store import campaigns

    with ctx.engine.begin() as connection:
        return campaigns.get(connection, campaign_id)


@contextmanager
def connections() -> Iterator[Connections]:
    """Open connections for one task; closed at its end."""
    from l2l_tasks.context import open_context

    ctx = open_context()
    try:
        yield ctx
    finally:
        ctx.close()


def guarded(ctx: Connections, campaign_id: str | None, attempt: int, last: int, step: Callable[[], T]) -> T:
    """Run a step; what it raises decides whether Airflow tries again or a person is needed.

    Passing faults of the site and the store are raised as they are: Airflow waits and tries again. What a
    person has to mend pauses the campaign with the reason and fails the task at once, as does a fault
    that outlasted all tries, so that a campaign is never lost without a word.

    Args:
        ctx: open connections.
        campaign_id: the campaign, or None before it has begun.
        attempt: number of this try, from 1.
        last: number of the last try.
        step: what to do.

    Raises:
        AirflowFailException: a person is needed; the message says what for.
    """
    try:
        return step()
    except (UserError, SitePermanentError) as error:
        raise _paused(ctx, campaign_id, error) from error
    except (SiteTransientError, StoreError, TrackingError) as error:
        if attempt > last:
            raise _paused(ctx, campaign_id, error) from error
        raise
    except AirflowException:
        raise
    except Exception as error:
        if attempt > (last if _database_is_away(error) else UNEXPECTED_TRIES):
            raise _paused(ctx, campaign_id, error) from error
        raise


def _database_is_away(error: Exception) -> bool:
    from sqlalchemy.exc import InterfaceError, OperationalError

    return isinstance(error, (InterfaceError, OperationalError))


def _paused(ctx: Connections, campaign_id: str | None, error: Exception) -> AirflowFailException:
    reason = str(error) if isinstance(error, L2LError) else f"{type(error).__name__}: {error}"
    if campaign_id is None:
        return AirflowFailException(reason)
    from l2l_tasks import steps

    try:
        steps.pause(ctx, campaign_id, reason, "airflow")
    except Exception:
        logger.exception("the campaign could not be marked as paused")
    return AirflowFailException(
        f"campaign {campaign_id} is paused: {reason}\nWhen that is mended: l2l resume {campaign_id}"
    )
