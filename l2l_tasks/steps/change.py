"""Change: a new version of a running campaign's specification, from its next generation on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection

import optimizees
import optimizers
from l2l_tasks import needs, validation
from l2l_tasks.context import Context
from l2l_tasks.errors import UserError
from l2l_tasks.spec import CampaignSpec, OptimizerSpec
from l2l_tasks.spec_overrides import apply_overrides
from l2l_tasks.steps import stored
from l2l_tasks.steps.stored import StoredCampaign
from l2l_tasks.store import code, events, individuals, versions
from l2l_tasks.store.versions import SpecVersion

FIXED = ("name", "optimizee", "tasks", "constraints", "from_campaign", "site", "seed")
"""What makes results of one campaign comparable, and what is known by name."""


def change(
    ctx: Context, campaign_id: str, spec: CampaignSpec | None, overrides: dict[str, Any], who: str
) -> SpecVersion:
    """Let a campaign go on with another specification when its next generation is asked.

    Args:
        ctx: open connections.
        campaign_id: the campaign.
        spec: the new specification; None: the newest version so far.
        overrides: fields that are changed in it, as `apply_overrides` takes them.
        who: the person who asked for it.

    Raises:
        UserError: the campaign is finished, nothing would change, or something would that cannot.
        SpecError: the new specification cannot run.
    """
    with ctx.engine.begin() as connection:
        campaign = stored.get(connection, campaign_id)
        newest = stored.coming(connection, campaign)
        files = code.get(connection, campaign.row.code_hash)
    new = apply_overrides(spec or newest.spec, overrides)
    _check(campaign, newest, new)
    prepared = _prepared(new, files)
    with ctx.engine.begin() as connection:
        campaign = stored.lock(connection, campaign_id)
        newest = stored.coming(connection, campaign)
        _check(campaign, newest, new)
        _check_population(newest, new, prepared.in_flight)
        made = versions.add(
            connection,
            campaign_id,
            spec=new.model_dump(mode="json"),
            spec_hash=new.fingerprint(),
            problem=_problem(connection, campaign, new, prepared),
            who=who,
        )
        old = newest.spec.model_dump(mode="json")
        changed = {name: value for name, value in made.spec.items() if value != old.get(name)}
        detail = {"version": made.version, "from_generation": made.from_generation, "changed": changed}
        events.add(connection, campaign_id, "changed", detail, who)
    return made


def _check(campaign: StoredCampaign, newest: StoredCampaign, new: CampaignSpec) -> None:
    if campaign.row.status == "finished":
        raise UserError(f"campaign {campaign.row.id} is finished ({campaign.row.reason}): start a new one")
    old = campaign.spec
    other = [name for name in FIXED if getattr(new, name) != getattr(old, name)]
    if new.execution.bundle != old.execution.bundle:
        other.append("execution.bundle")
    if other:
        raise UserError(
            f"campaign {campaign.row.id}: {', '.join(other)} cannot change while a campaign runs: begin a "
            "new one (its optimizer can start from this one: `from_campaign`)"
        )
    if new == newest.spec:
        raise UserError(f"campaign {campaign.row.id}: this is its specification already")


def _check_population(newest: StoredCampaign, new: CampaignSpec, in_flight: int) -> None:
    goes_on = _options(newest.spec.optimizer) == _options(new.optimizer)
    if goes_on and in_flight < newest.in_flight and needs.as_many_as_first(new.optimizer):
        raise UserError(
            f"campaign {newest.row.id}: the population of {new.optimizer.name} is as large as its first ask: "
            f"{newest.in_flight} individuals must stay in flight, not {in_flight}; with another "
            "optimizer.options.population the search begins anew"
        )


def _prepared(new: CampaignSpec, files: dict[str, bytes]) -> validation.Prepared:
    """The new specification, checked against the optimizee as the campaign began with it."""
    if new.optimizee.class_ is None:
        return validation.build(new, Path())
    with tempfile.TemporaryDirectory(prefix="l2l-") as folder:
        for name, content in files.items():
            path = Path(folder) / name
            if path.relative_to(folder).parts[0] not in optimizees.RESERVED:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        own = new.optimizee.model_copy(update={"path": "."})
        return validation.build(new.model_copy(update={"optimizee": own}), Path(folder))


def _problem(
    connection: Connection, campaign: StoredCampaign, new: CampaignSpec, prepared: validation.Prepared
) -> dict[str, Any]:
    """The problem of the new version; with another space or optimizer, that begins anew."""
    problem = {**campaign.problem, "space": prepared.space.to_json(), "batch": prepared.batch}
    same = _options(campaign.spec.optimizer) == _options(new.optimizer)
    if not same or prepared.space.to_json() != campaign.problem["space"]:
        problem["optimizer_version"] = versions.newest(connection, campaign.row.id).version + 1
        problem["first_individual"] = individuals.count(connection, campaign.row.id)
    return problem


def _options(wanted: OptimizerSpec) -> tuple[str, BaseModel | None]:
    """Name and options, defaults filled in; no options where this release does not know them."""
    try:
        return wanted.name, optimizers.get(wanted.name).Options.model_validate(wanted.options)
    except (optimizers.OptimizerError, ValidationError):
        return wanted.name, None
