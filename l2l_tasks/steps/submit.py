"""Submit: ask the optimizer, put the evaluations into the site's pool, see that workers come.

Three parts, each of which may be repeated: the individuals are asked and stored in one transaction;
the site is prepared; the bundles are put. What the site holds already it skips by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection

from l2l_tasks import needs
from l2l_tasks.context import Context
from l2l_tasks.errors import SiteNotOpen, SitePermanentError, UserError
from l2l_tasks.planning import bundle_name
from l2l_tasks.steps import held_out, stored
from l2l_tasks.steps.asked import evaluations_at
from l2l_tasks.steps.open_site import open_at_site
from l2l_tasks.steps.optimizer_state import explained, load_optimizer, pack_state, replace_optimizer
from l2l_tasks.steps.stored import StoredCampaign
from l2l_tasks.store import (
    campaigns,
    evaluations,
    events,
    generations,
    individuals,
    versions,
    workers,
)
from l2l_tasks.store.evaluations import Outstanding
from l2l_tasks.store.generations import NewEvaluation, NewIndividual
from l2l_tasks.store.workers import WorkerRow
from optimizers.base import Suggestion

PoolStatus = Mapping[str, Any]


def submit(ctx: Context, campaign_id: str, generation: int) -> PoolStatus | None:
    """Bring one generation to the site; the site's pool status, or None when it was told already.

    Raises:
        UserError: the campaign has ended, or an earlier generation is unfinished.
        SitePermanentError: the scheduler refuses the workers; the message is the site's.
        SiteTransientError: the site did not answer; submit again.
    """
    with ctx.engine.begin() as connection:
        campaign = stored.lock(connection, campaign_id)
        if _ask(connection, campaign, generation):
            return None
        campaign = stored.get(connection, campaign_id)  # asking may have put another version in force
        since = versions.in_force_from(connection, campaign_id, campaign.row.spec_version)
    open_at_site(ctx, campaign, renew=generation == since > 0)
    with ctx.engine.begin() as connection:
        outstanding = evaluations.outstanding(connection, campaign_id)
        median = evaluations.duration_median(connection, campaign_id)
        oldest = 0
        if not needs.all_checkpoints(campaign.spec.optimizer):
            oldest = individuals.oldest_in_use(connection, campaign_id, generation)
    bundles = make_bundles(campaign, outstanding, timeout(campaign, median))
    client = ctx.site(campaign.row.site)

    def put() -> PoolStatus:
        return client.submit(campaign_id, bundles, campaign.workers, generation, oldest)

    try:
        status = put()
    except SiteNotOpen:
        open_at_site(ctx, campaign, lost=True)
        status = put()
    raise_refusal(status)
    with ctx.engine.begin() as connection:
        generations.mark_submitted(connection, campaign_id, generation)
        if status["known"]:
            workers.upsert(connection, campaign_id, worker_rows(status), all_live=True)
        if campaign.row.status == "paused":
            campaigns.set_status(connection, campaign_id, "running", "submitted again", who="submit")
        detail = {"generation": generation, "evaluations": len(outstanding), "workers": status["submitted"]}
        events.add(connection, campaign_id, "submitted", detail, "submit")
    return status


def worker_rows(status: PoolStatus) -> list[WorkerRow]:
    """The workers as the scheduler shows them; one that has not started yet has only its future id."""

    def row(w: Mapping[str, Any]) -> WorkerRow:
        worker = w["worker"] or f"{w['job']}_{w['index']}_{w['restart']}"
        return WorkerRow(worker, w["job"], w["index"], w["restart"], w["state"], w["raw"], w["reason"])

    return [row(w) for w in status["workers"]]


def raise_refusal(status: PoolStatus) -> None:
    """Raise what the scheduler said when it refused workers and none is there to do the work."""
    if status.get("rejected") and not status.get("workers"):
        raise SitePermanentError(
            f"the scheduler refuses the workers: {status['rejected']}. "
            "Mend `resources` in the campaign or the site profile, then resume the campaign."
        )


def _ask(connection: Connection, campaign: StoredCampaign, generation: int) -> bool:
    """Store the generation's individuals unless they are; whether the generation was told already."""
    if campaign.row.status in ("stopped", "finished"):
        raise UserError(f"campaign {campaign.row.id} is {campaign.row.status}: {campaign.row.reason}")
    existing = generations.get(connection, campaign.row.id, generation)
    if existing is not None:
        return existing.told_at is not None
    last = generations.last(connection, campaign.row.id)
    expected = 0 if last is None else last.number + 1
    if generation != expected or (last is not None and last.told_at is None):
        raise UserError(
            f"campaign {campaign.row.id}: generation {generation} cannot be asked; the next one is "
            f"{expected if last is None or last.told_at is not None else last.number}"
        )
    version = versions.newest(connection, campaign.row.id)
    before, campaign = campaign, stored.in_version(campaign, version)
    if campaign is not before:
        versions.put_in_force(connection, version)
    if campaign.optimizer_version == before.optimizer_version:
        optimizer = load_optimizer(connection, campaign)
    else:
        optimizer = replace_optimizer(connection, campaign)
    # What an earlier optimizer asked comes on top: the first ask tells many how large their population is.
    number = campaign.in_flight - individuals.untold(connection, campaign.row.id, campaign.first_individual)
    only_tests = held_out.ended_by(last) is not None and campaign.budget == before.budget
    with explained(campaign):
        suggestions = optimizer.ask(number) if number > 0 and not only_tests else []
    parents = _parents(connection, campaign, suggestions)
    asked = [NewIndividual(s.id, s.params, _own(s.origin), parents[s.id], s.tasks) for s in suggestions]
    new = [one for s in suggestions for one in _evaluations(campaign, generation, s)]
    if held_out.due(campaign, generation, only_tests):
        tested, tests = held_out.ask(connection, campaign, generation, optimizer, suggestions)
        asked, new = [*asked, *tested], [*new, *tests]
    generations.ask_generation(
        connection,
        campaign.row.id,
        generation,
        asked,
        new,
        pack_state(optimizer, generation, "asked"),
    )
    return False


def _own(individual: int | None) -> int | None:
    """An individual of this campaign; negative ids are of others."""
    return individual if individual is not None and individual >= 0 else None


def _parents(
    connection: Connection, campaign: StoredCampaign, suggestions: Sequence[Suggestion]
) -> dict[int, int | None]:
    """With whose learner each goes on; what is evaluated again begins where it began the first time."""
    again = [s.origin for s in suggestions if s.parent is None and s.origin is not None]
    first = individuals.parents(connection, campaign.row.id, again) if again else {}
    begun = {s.id: first.get(s.origin) for s in suggestions if s.origin is not None}
    return {s.id: _own(begun.get(s.id) if s.parent is None else s.parent) for s in suggestions}


def _evaluations(campaign: StoredCampaign, generation: int, s: Suggestion) -> list[NewEvaluation]:
    """The evaluations of a new individual: its tasks, each repeated."""
    plan = campaign.tasks
    try:
        indices = plan.indices(generation, s.tasks)
    except ValueError as error:
        raise UserError(
            f"campaign {campaign.row.id}: optimizer {campaign.spec.optimizer.name}: {error}"
        ) from error
    return evaluations_at("train", indices, plan.repeats, campaign.row.seed, s.id, s.id)


def timeout(campaign: StoredCampaign, median: float | None) -> float:
    """Seconds that one evaluation may take: absolute, and relative to the median so far if asked for."""
    execution = campaign.spec.execution
    longest = campaign.spec.resources.time if execution.timeout is None else execution.timeout
    if execution.timeout_factor is None or median is None:
        return longest
    # A median of milliseconds would make the limit as short as a scheduling hiccup.
    return min(longest, max(execution.timeout_factor * median, 1.0))


def make_bundles(
    campaign: StoredCampaign, outstanding: list[Outstanding], seconds: float
) -> list[dict[str, Any]]:
    """The outstanding evaluations as bundles, `execution.bundle` evaluations each."""
    plan, tests, size = campaign.tasks, campaign.tests, campaign.spec.execution.bundle

    def name(e: Outstanding) -> str:
        if e.individual < 0:
            offset = e.task_index * tests.repeats + e.repeat
            return bundle_name(e.generation, e.individual, offset, tests.evaluations, size)
        offset = (e.task_index - plan.first(e.generation)) * plan.repeats + e.repeat
        return bundle_name(e.generation, e.individual, offset, plan.evaluations, size)

    ordered = sorted(outstanding, key=lambda e: (e.generation, e.individual, e.task_index, e.repeat))
    return [bundle(key, list(group), seconds) for key, group in groupby(ordered, key=name)]


def bundle(name: str, group: list[Outstanding], seconds: float) -> dict[str, Any]:
    """One bundle as the site reads it."""
    return {
        "bundle": name,
        "generation": group[0].generation,
        "timeout": seconds,
        "evaluations": [
            {
                "key": e.key,
                "nonce": e.nonce,
                "attempt": e.attempt,
                "params": e.params,
                "task": e.task,
                "seed": e.seed,
                "parent": e.parent,
            }
            for e in group
        ],
    }
