"""Verdicts: what the evaluations of an individual come to, for the store and for the optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Connection

from l2l_tasks.errors import UserError
from l2l_tasks.planning import Told, excesses, judge, losses
from l2l_tasks.steps.stored import StoredCampaign
from l2l_tasks.store import evaluations
from l2l_tasks.store.evaluations import CompleteIndividual
from optimizers.base import Evaluated, Observation, Optimizer


@dataclass(frozen=True)
class Verdict:
    """One individual all of whose evaluations are final.

    Attributes:
        told: the verdict.
        metrics: of an individual that has a fitness: name -> one number per evaluation, by task and repeat.
        violated: the metrics that break their limits.
        evaluations: how many it had.
    """

    told: Told
    metrics: Mapping[str, Sequence[float]]
    violated: Sequence[str]
    evaluations: int


def verdicts(connection: Connection, campaign: StoredCampaign, optimizer: Optimizer) -> list[Verdict]:
    """The verdicts on all individuals that can be told, by index.

    Raises:
        UserError: the optimizee did not return a metric that is needed.
    """
    names = dict.fromkeys([*optimizer.measures(optimizer.options), *campaign.spec.constraints])
    complete = evaluations.complete_untold(connection, campaign.row.id, list(names))
    return [_verdict(campaign, one, list(names)) for one in complete]


def tell(campaign: StoredCampaign, optimizer: Optimizer, found: Sequence[Verdict]) -> None:
    """Tell the optimizer the individuals that it asked; the others it observes."""
    own = [one for one in found if one.told.index >= campaign.first_individual]
    measures = optimizer.measures(optimizer.options)
    evaluated = []
    for one in own:
        told = one.told
        wanted = measures if told.status == "ok" else ()
        values = {name: np.array(one.metrics[name], dtype=np.float64) for name in wanted}
        loss = None if told.fitness is None else losses(told.fitness, campaign.directions)
        evaluated.append(Evaluated(told.index, loss, told.status, told.violation, values))
    optimizer.tell(evaluated)
    others = [one.told for one in found if one.told.index < campaign.first_individual]
    optimizer.observe(
        [
            Observation(told.params, losses(told.fitness, campaign.directions), told.index)
            for told in others
            if told.fitness is not None
        ]
    )


def _verdict(campaign: StoredCampaign, one: CompleteIndividual, names: Sequence[str]) -> Verdict:
    told = judge(
        one.index,
        one.params,
        [(e.status, e.fitness) for e in one.evaluations],
        campaign.spec.tasks.aggregate,
        campaign.spec.execution.on_failure,
        campaign.directions,
    )
    if told.status != "ok":
        return Verdict(told, {}, (), len(one.evaluations))
    metrics = {name: _values(campaign, one, i, name) for i, name in enumerate(names)}
    broken = excesses(metrics, campaign.spec.constraints)
    if broken:
        told = replace(told, status="infeasible", fitness=None, violation=math.fsum(broken.values()))
    return Verdict(told, metrics, list(broken), len(one.evaluations))


def _values(campaign: StoredCampaign, one: CompleteIndividual, column: int, name: str) -> list[float]:
    """One metric of each evaluation; UserError where it is missing."""
    values = []
    for evaluation in one.evaluations:
        value = evaluation.metrics[column]
        if isinstance(value, bool) or not isinstance(value, int | float):
            who = "`constraints`" if name in campaign.spec.constraints else "the optimizer"
            raise UserError(
                f"campaign {campaign.row.id}: {who} needs the metric {name!r}, and the optimizee gave none "
                f"for individual {one.index}, task {evaluation.task_index}, repeat {evaluation.repeat} (or "
                "one that is not finite): return it with every result"
            )
        values.append(float(value))
    return values
