"""A sweep over the number of training tasks: the same campaign with fewer and more of them, for some seeds.

Every individual costs the same number of evaluations, however many different tasks these are of.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from l2l_tasks import runner, steps, validation
from l2l_tasks.context import Context
from l2l_tasks.errors import TrackingError, UserError
from l2l_tasks.figures import tasks_figure
from l2l_tasks.held_out import metric_points
from l2l_tasks.report.gather import Study, study
from l2l_tasks.runner import Progress, silent
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.spec_overrides import apply_overrides
from l2l_tasks.store import campaigns

logger = logging.getLogger(__name__)


def variants(spec: CampaignSpec, tasks: Sequence[int], seeds: Sequence[int]) -> Iterator[CampaignSpec]:
    """The campaigns of a sweep, seed by seed, so that an interrupted one has compared all numbers alike.

    Args:
        spec: the campaign; it must test on held-out tasks.
        tasks: numbers of training tasks; all divide the largest.
        seeds: of the campaigns.

    Raises:
        UserError: the campaign tests nothing, or the numbers do not do.
        SpecError: a campaign of the sweep cannot be.
    """
    if spec.tasks.test is None:
        raise UserError(
            f"campaign {spec.name} tests nothing on held-out tasks: a sweep needs "
            "`tasks: {test: {tasks: 20}}`"
        )
    most = max(tasks)
    uneven = [number for number in tasks if number < 1 or most % number]
    if uneven:
        raise UserError(
            f"every individual of a sweep costs the same: the numbers of tasks must divide the largest, "
            f"{most}; {', '.join(map(str, uneven))} does not"
        )
    for seed in dict.fromkeys(seeds):
        for number in dict.fromkeys(tasks):
            changes = {
                "seed": seed,
                "tasks.per_individual": number,
                "tasks.repeats": spec.tasks.repeats * most // number,
                "tasks.fresh": False,
            }
            yield apply_overrides(spec, changes)


def run(
    ctx: Context, specs: Sequence[CampaignSpec], base_dir: Path, progress: Progress = silent, who: str = "cli"
) -> Study:
    """Run the campaigns one after the other; those that an earlier call ran with the same code are there.

    Raises:
        SpecError: a specification cannot run; nothing was begun.
        UserError, SitePermanentError: a campaign is paused with this reason; run the sweep again to go on.
    """
    origins = [_origin(spec, base_dir) for spec in specs]
    ids = []
    for spec, origin in zip(specs, origins, strict=True):
        campaign = steps.begin(ctx, origin, spec, base_dir, who)
        with ctx.engine.begin() as connection:
            finished = campaigns.get(connection, campaign).status == "finished"
        if not finished:
            steps.resume(ctx, campaign, who)
            runner.proceed(ctx, campaign, progress)
        ids.append(campaign)
    with ctx.engine.begin() as connection:
        found = study(connection, ids)
    _log(ctx, found, hashlib.sha256("".join(ids).encode()).hexdigest()[:16])
    return found


def _origin(spec: CampaignSpec, base_dir: Path) -> str:
    """The same for the same specification and code, so that a sweep goes on where it was interrupted."""
    code = validation.build(spec, base_dir).code.sha256
    return f"sweep:{hashlib.sha256(f'{spec.fingerprint()}/{code}'.encode()).hexdigest()}"


def _log(ctx: Context, found: Study, key: str) -> None:
    """Give MLflow a run of the sweep's own: fitness at held-out tasks, step = number of training tasks."""
    if ctx.tracking_uri is None:
        return
    from l2l_tasks.tracking import Tracker  # MLflow takes two seconds to import

    names = found.objective_names
    points = [
        point
        for row in found.rows
        if row.after is not None
        for point in metric_points(names, row.after.mean, row.after.low, row.after.high, row.tasks)
    ]
    figure = tasks_figure(found.rows, names, found.title, "png")
    ended = max(one.row.ended_at for one in found.campaigns if one.row.ended_at is not None)
    try:
        Tracker(ctx.tracking_uri).log_sweep(
            found.campaigns[0].row, key, points, figure, int(ended.timestamp() * 1000)
        )
    except TrackingError as error:
        logger.warning("the sweep is not in MLflow: %s", error)
