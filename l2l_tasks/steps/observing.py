"""What an optimizer that begins is told of individuals that others asked: warm starts and changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from l2l_tasks.errors import UserError
from l2l_tasks.planning import losses
from l2l_tasks.spec_types import MOST_OBSERVED
from l2l_tasks.steps import stored
from l2l_tasks.steps.stored import StoredCampaign
from l2l_tasks.store import campaigns, individuals
from l2l_tasks.store.individuals import Evaluated
from optimizers.base import Observation


def known(connection: Connection, campaign: StoredCampaign) -> list[Observation]:
    """All that a new optimizer of a campaign may learn from, each source with at most MOST_OBSERVED."""
    found = []
    if campaign.problem.get("from_campaign"):
        found += earlier(connection, campaign.problem["from_campaign"])
    if campaign.row.generations_told:
        found += _of(connection, campaign, campaign.row.generations_told, MOST_OBSERVED, own=True)
    return found


def source(connection: Connection, wanted: Mapping[str, Any], objectives: Sequence[Any]) -> dict[str, Any]:
    """The campaign that `from_campaign` names, with what it has been told now, as it is kept in the problem.

    Args:
        connection: to the store.
        wanted: `from_campaign` of a specification.
        objectives: of the new campaign, as in its problem.

    Raises:
        UserError: there is no such campaign, or it has other objectives.
    """
    row = campaigns.named(connection, wanted["campaign"])
    if row.problem["objectives"] != list(objectives):
        text = "; ".join(
            ", ".join(f"{o['name']} ({o['direction']})" for o in found)
            for found in (row.problem["objectives"], objectives)
        )
        raise UserError(f"from_campaign: {row.id} has other objectives than this campaign: {text}")
    return {"id": row.id, "before": row.generations_told, "limit": wanted["limit"]}


def earlier(connection: Connection, begun_from: Mapping[str, Any]) -> list[Observation]:
    """The individuals of a `source`: the same ones whenever it is asked."""
    campaign = stored.get(connection, begun_from["id"])
    return _of(connection, campaign, begun_from["before"], begun_from["limit"], own=False)


def _of(
    connection: Connection, campaign: StoredCampaign, before: int, most: int, *, own: bool
) -> list[Observation]:
    """The best individuals of a campaign; with several objectives, the newest."""
    sign = {"minimize": 1, "maximize": -1}[campaign.directions[0]] if len(campaign.directions) == 1 else 0
    rows = individuals.evaluated(connection, campaign.row.id, before=before, sign=sign, most=most)
    return [
        Observation(params, losses(fitness, campaign.directions), index if own else None)
        for index, params, fitness in merged(rows)
    ]


def merged(rows: Sequence[Evaluated]) -> list[tuple[int, dict[str, Any], list[float]]]:
    """One entry (index, params, fitness) per parameter set, by index: the mean over all its evaluations."""
    origins = {row.index: row.origin for row in rows}
    groups: dict[int, list[Evaluated]] = {}
    for row in rows:
        first = row.index
        while (earlier := origins.get(first)) is not None:
            first = earlier
        groups.setdefault(first, []).append(row)
    found = []
    for index in sorted(groups):
        group = sorted(groups[index], key=lambda row: row.index)
        total = sum(row.weight for row in group)
        columns = zip(*(row.fitness for row in group), strict=True)
        weights = [row.weight / total for row in group]
        mean = [math.fsum(w * f for w, f in zip(weights, column, strict=True)) for column in columns]
        found.append((index, group[0].params, mean))
    return found
