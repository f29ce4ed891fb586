"""Update: tell the optimizer, decide whether the campaign goes on, and note what is to be logged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from l2l_tasks.context import Context
from l2l_tasks.errors import UserError
from l2l_tasks.planning import Decision, Progress, Told, best_of, decide, describe, losses, told_sha256
from l2l_tasks.steps import held_out, stored
from l2l_tasks.steps.optimizer_state import load_optimizer, pack_state
from l2l_tasks.steps.stored import StoredCampaign
from l2l_tasks.steps.verdicts import Verdict, tell, verdicts
from l2l_tasks.store import campaigns, evaluations, generations, individuals, outbox, workers, workload
from l2l_tasks.store.generations import ToldIndividual
from optimizers.base import Optimizer
from optimizers.space import SpaceError


def update(ctx: Context, campaign_id: str, generation: int) -> Decision:
    """Tell one generation, in one transaction with the optimizer's new state.

    Returns:
        The decision; a second call returns the stored one. A campaign that does not run proceeds to
        nothing and tells nothing.

    Raises:
        UserError: the generation has not been asked or collected; or the optimizee could not be loaded at
            the site by any of its evaluations, which says nothing about the individuals; or none of the
            first individuals has a metric that is needed. None is told then.
    """
    with ctx.engine.begin() as connection:
        campaign = stored.lock(connection, campaign_id)
        row = generations.get(connection, campaign_id, generation)
        if row is not None and row.told_at is not None:
            return _stored(row)
        if campaign.row.status != "running":
            return Decision(False, f"campaign is {campaign.row.status}: {campaign.row.reason}", generation)
        if row is None or row.collected_at is None:
            raise UserError(f"campaign {campaign_id}: generation {generation} is not collected yet")
        unloaded = evaluations.load_error(connection, campaign_id)
        if unloaded is not None:
            raise UserError(
                f"campaign {campaign_id}: the optimizee cannot be loaded at site {campaign.row.site}: "
                f"{unloaded} (install what is missing for the `python` of the site profile and resume the "
                "campaign, or start another one with mended code)"
            )
        return _tell(connection, campaign, row)


def decision(ctx: Context, campaign_id: str, generation: int) -> Decision:
    """The decision that `update` stored; a campaign stopped or paused since then does not proceed."""
    with ctx.engine.begin() as connection:
        campaign = stored.get(connection, campaign_id)
        row = generations.get(connection, campaign_id, generation)
    if row is None or row.told_at is None:
        return Decision(False, f"generation {generation} is not told yet", generation)
    if campaign.row.status not in ("running", "finished"):
        return Decision(False, f"campaign is {campaign.row.status}: {campaign.row.reason}", generation + 1)
    return _stored(row)


def _stored(row: generations.Generation) -> Decision:
    """The decision of a generation that was told."""
    assert row.summary is not None
    return Decision(**row.summary["decision"])


def _tell(connection: Connection, campaign: StoredCampaign, row: generations.Generation) -> Decision:
    generation = row.number
    optimizer = load_optimizer(connection, campaign)
    found = verdicts(connection, campaign, optimizer)
    told = [one.told for one in found]
    tell(campaign, optimizer, found)
    previous = generations.get(connection, campaign.row.id, generation - 1) if generation else None
    tests = held_out.finished(connection, campaign)
    summary, verdict = _summarise(connection, campaign, row, previous, found, optimizer)
    summary["tests"] = [asdict(one) for one in tests.performances]
    best = summary["progress"]["best"]
    generations.tell_generation(
        connection,
        campaign.row.id,
        generation,
        [*(ToldIndividual(t.index, t.status, t.fitness, t.violation) for t in told), *tests.individuals],
        pack_state(optimizer, generation, "told"),
        summary,
        told_sha256(previous.told_sha256 if previous else None, told),
        best=None if best is None else (best["index"], best["fitness"]),
    )
    outbox.add(connection, campaign.row.id, generation, _payload(campaign, generation, told, summary))
    if not verdict.proceed:
        campaigns.set_status(connection, campaign.row.id, "finished", verdict.reason, who="update")
    return verdict


def _summarise(
    connection: Connection,
    campaign: StoredCampaign,
    row: generations.Generation,
    previous: generations.Generation | None,
    found: list[Verdict],
    optimizer: Optimizer,
) -> tuple[dict[str, Any], Decision]:
    """The generation's summary, and the decision that follows from it."""
    told, direction = [one.told for one in found], campaign.directions[0]
    before = Progress.from_json(previous.summary["progress"]) if previous and previous.summary else Progress()
    best = _best(connection, campaign, optimizer, told, before)
    progress = before.advance(best, sum(one.evaluations for one in found))
    core_seconds = workers.core_seconds(connection, campaign.row.id)
    coming = stored.coming(connection, campaign)
    verdict = decide(
        coming.budget,
        row.number,
        progress,
        core_seconds / 3600,
        time.time() - campaign.row.created_at.timestamp(),
        direction,
        _done(connection, campaign, coming, optimizer, len(told)),
    )
    recommendation = optimizer.recommend()
    ending, verdict = held_out.with_last_test(campaign, row, previous, verdict, recommendation is not None)
    summary: dict[str, Any] = {
        "told": len(told),
        "status": {s: sum(t.status == s for t in told) for s in ("ok", "failed", "infeasible")},
        "objectives": campaign.objective_names,
        "fitness": asdict(describe(told, campaign.directions)),
        "progress": progress.to_json(),
        "recommended": None if recommendation is None else recommendation.params,
        "diagnostics": optimizer.diagnostics(),
        "evaluations": workload.totals(connection, campaign.row.id, row.number, [t.index for t in told]),
        "core_seconds": core_seconds,
        "seconds": _phases(row),
        "decision": asdict(verdict),
        **ending,
    }
    if len(campaign.directions) > 1:
        summary["front"] = [
            {"index": one.individual, "fitness": list(losses(one.losses, campaign.directions))}
            for one in optimizer.pareto_front()
        ]
    if campaign.spec.constraints:
        summary["violated"] = dict(Counter(name for one in found for name in one.violated))
    if any(one.missing for one in found):
        summary["missing"] = dict(Counter(name for one in found for name in one.missing))
    return summary, verdict


def _best(
    connection: Connection,
    campaign: StoredCampaign,
    optimizer: Optimizer,
    told: list[Told],
    before: Progress,
) -> Mapping[str, Any] | None:
    """The best individual so far: by the mean of its evaluations, not by the luckiest of them.

    One that is outside a space that was changed stays the best until a better one is found.
    """
    if len(campaign.directions) > 1:
        return best_of(before.best, told, campaign.directions[0])
    best = optimizer.best()
    if best is None:  # none is known in a space that was changed
        return before.best
    stored_best = individuals.get(connection, campaign.row.id, best.individual)
    found = {
        "index": best.individual,
        "params": best.params if stored_best is None else stored_best.params,  # as evaluated, to the bit
        "fitness": list(losses(best.losses, campaign.directions)),  # a loss turned round is the fitness again
        "evaluations": best.evaluations,
    }
    if before.best is None or _within(campaign, before.best["params"]):
        return found
    return min(before.best, found, key=lambda one: losses(one["fitness"], campaign.directions))


def _within(campaign: StoredCampaign, params: Mapping[str, Any]) -> bool:
    """Whether parameters are in the space that is searched now."""
    try:
        campaign.space.encode(params)
    except SpaceError:
        return False
    return True


def _done(
    connection: Connection,
    campaign: StoredCampaign,
    coming: StoredCampaign,
    optimizer: Optimizer,
    told: int,
) -> str | None:
    """Why the optimizer has nothing left, once nothing is pending and no other one is to come."""
    reason = optimizer.stop_reason()
    if reason is None or coming.optimizer_version != campaign.optimizer_version:
        return None
    return reason if workload.counts(connection, campaign.row.id).untold == told else None


def _phases(row: generations.Generation) -> dict[str, float]:
    """Seconds from asking to submitted, from there to collected, from there until now."""
    times = [row.asked_at, row.submitted_at, row.collected_at, datetime.now(UTC)]
    names = ("submit", "wait", "update")
    return {
        name: max(0.0, (end - begin).total_seconds())
        for name, begin, end in zip(names, times, times[1:], strict=False)
        if begin is not None and end is not None
    }


def _payload(
    campaign: StoredCampaign, generation: int, told: list[Told], summary: dict[str, Any]
) -> dict[str, Any]:
    """What the outbox keeps for MLflow: numbers by name, and the population."""
    metrics: dict[str, float] = {}
    for i, name in enumerate(campaign.objective_names):
        for statistic, values in summary["fitness"].items():
            if values:
                metrics[f"{name}/{statistic}"] = values[i]
        if summary["progress"]["best"] is not None:
            metrics[f"{name}/best_so_far"] = summary["progress"]["best"]["fitness"][i]
    metrics |= {f"optimizer/{name}": value for name, value in summary["diagnostics"].items()}
    metrics |= {f"individuals/{status}": float(n) for status, n in summary["status"].items()}
    metrics |= {f"evaluations/{name}": float(n) for name, n in summary["evaluations"].items()}
    metrics["evaluations_total"] = float(summary["progress"]["evaluations"])
    metrics |= {f"seconds/{name}": value for name, value in summary["seconds"].items()}
    metrics["core_seconds"] = summary["core_seconds"]
    return {
        "generation": generation,
        "told_at": int(time.time() * 1000),
        "metrics": metrics,
        "points": held_out.points(campaign, summary["tests"], last=not summary["decision"]["proceed"]),
        "best": summary["progress"]["best"],
        "population": [
            {"individual": t.index, "status": t.status, "fitness": t.fitness, "params": dict(t.params)}
            for t in told
        ],
    }
