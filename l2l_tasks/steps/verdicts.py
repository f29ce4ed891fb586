"""Verdicts: what the evaluations of an individual come to, for the store and for the optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Connection

from l2l_tasks.errors import UserError
from l2l_tasks.planning import Told, excesses, judge, losses
from l2l_tasks.steps.optimizer_state import explained
from l2l_tasks.steps.stored import StoredCampaign
from l2l_tasks.store import evaluations
from l2l_tasks.store.evaluations import CompleteIndividual
from l2l_tasks.store.held_out import HeldOutTest
from optimizers.base import Evaluated, FloatArray, Observation, Optimizer


@dataclass(frozen=True)
class Verdict:
    """One individual all of whose evaluations are final.

    Attributes:
        told: the verdict.
        metrics: of an individual that has a fitness: name -> one row per evaluation, by task and repeat.
        violated: the metrics that break their limits.
        missing: the metrics that are needed and that it has not with every evaluation.
        evaluations: how many it had.
    """

    told: Told
    metrics: Mapping[str, FloatArray]
    violated: Sequence[str]
    missing: Sequence[str]
    evaluations: int


def verdicts(connection: Connection, campaign: StoredCampaign, optimizer: Optimizer) -> list[Verdict]:
    """The verdicts on all individuals that can be told, by index.

    One without a finite metric that the optimizer needs is failed; without one of `constraints`, infeasible.

    Raises:
        UserError: before the optimizer was told anything, none has a metric that is needed: that is a mistake
            of the campaign, not of its individuals.
    """
    measures = optimizer.measures(optimizer.options)
    names = list(dict.fromkeys([*measures, *campaign.spec.constraints]))
    complete = evaluations.complete_untold(connection, campaign.row.id, names)
    found = [_verdict(campaign, one, names, measures) for one in complete]
    # The diagnostics (hypervolumes, indices) may take long: only where something is missing.
    if any(one.missing for one in found) and not optimizer.diagnostics()["told"]:
        _check_given(campaign, found)
    return found


def tell(campaign: StoredCampaign, optimizer: Optimizer, found: Sequence[Verdict]) -> None:
    """Tell the optimizer the individuals that it asked; the others it observes."""
    own = [one for one in found if one.told.index >= campaign.first_individual]
    measures = optimizer.measures(optimizer.options)
    evaluated = []
    for one in own:
        told = one.told
        wanted = measures if told.status == "ok" else ()
        values = {name: one.metrics[name] for name in wanted}
        loss = None if told.fitness is None else losses(told.fitness, campaign.directions)
        evaluated.append(Evaluated(told.index, loss, told.status, told.violation, values))
    with explained(campaign):
        optimizer.tell(evaluated)
    others = [one.told for one in found if one.told.index < campaign.first_individual]
    optimizer.observe(
        [
            Observation(told.params, losses(told.fitness, campaign.directions), told.index)
            for told in others
            if told.fitness is not None
        ]
    )


def judged(campaign: StoredCampaign, one: CompleteIndividual | HeldOutTest) -> Told:
    """The verdict on an individual, or a test, by its evaluations alone."""
    return judge(
        one.index,
        one.params,
        [(e.status, e.fitness) for e in one.evaluations],
        campaign.spec.tasks.aggregate,
        campaign.spec.execution.on_failure,
        campaign.directions,
    )


def _verdict(
    campaign: StoredCampaign, one: CompleteIndividual, names: Sequence[str], measures: Sequence[str]
) -> Verdict:
    told = judged(campaign, one)
    if told.status != "ok":
        return Verdict(told, {}, (), (), len(one.evaluations))
    metrics = {name: values for i, name in enumerate(names) if (values := _values(one, i)) is not None}
    limits = campaign.spec.constraints
    limited = {name: metrics[name].tolist() for name in limits if name in metrics and metrics[name].ndim == 1}
    # Those that an earlier optimizer asked are observed by their losses alone.
    needed = measures if one.index >= campaign.first_individual else ()
    missing = [name for name in limits if name not in limited]
    missing += [name for name in needed if name not in metrics and name not in missing]
    broken = excesses(limited, {name: limits[name] for name in limited})
    if any(name in needed for name in missing):
        told = replace(told, status="failed", fitness=None)
    elif missing:
        told = replace(told, status="infeasible", fitness=None)
    elif broken:
        told = replace(told, status="infeasible", fitness=None, violation=math.fsum(broken.values()))
    return Verdict(told, metrics, list(broken), missing, len(one.evaluations))


def _values(one: CompleteIndividual, column: int) -> FloatArray | None:
    """One metric of each evaluation, one row each; None unless all have it, and of the same length."""
    rows = [evaluation.metrics[column] for evaluation in one.evaluations]
    lengths = {len(row) if isinstance(row, list) else None for row in rows}
    return None if None in rows or len(lengths) > 1 else np.array(rows, dtype=np.float64)


def _check_given(campaign: StoredCampaign, found: Sequence[Verdict]) -> None:
    evaluated = [one for one in found if one.metrics or one.missing]
    for name in evaluated[0].missing if evaluated else ():
        if all(name in one.missing for one in evaluated):
            limited = name in campaign.spec.constraints
            who, form = ("`constraints`", "a number") if limited else ("the optimizer", "numbers")
            raise UserError(
                f"campaign {campaign.row.id}: {who} needs the metric {name!r} as {form}, and none of the "
                f"first {len(evaluated)} individuals has it (or not finite, or of different lengths): begin "
                "a campaign that names another metric, or whose optimizee returns it with every result"
            )
