"""Begin: a checked specification becomes a campaign, once per origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from l2l_tasks import validation, work_tree
from l2l_tasks.context import Context
from l2l_tasks.errors import UserError
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.steps import observing
from l2l_tasks.store import campaigns, code, events
from l2l_tasks.validation import Prepared


def begin(ctx: Context, origin: str, spec: CampaignSpec, base_dir: Path, who: str) -> str:
    """Create the campaign of `origin`, or find it if it has begun already.

    Args:
        ctx: open connections.
        origin: what started it, unique for ever (for example a DAG run).
        spec: the specification.
        base_dir: folder that relative paths of the specification are relative to.
        who: the person or schedule that started it.

    Returns:
        The campaign's id.

    Raises:
        SpecError: the specification cannot run; nothing was stored.
        UserError: the same of what it names in `from_campaign`.
    """
    with ctx.engine.begin() as connection:
        found = campaigns.find(connection, origin)
    if found is not None:
        return found.id
    prepared = validation.build(spec, base_dir)
    problem: dict[str, Any] = {
        "space": prepared.space.to_json(),
        "objectives": [{"name": o.name, "direction": o.direction} for o in prepared.optimizee.objectives],
        "entry": prepared.code.entry,
        "code": prepared.code.sha256,
        "commit": None if prepared.code.origin is None else work_tree.commit(prepared.code.origin),
        "environment": prepared.optimizee.environment,
        "batch": prepared.batch,
    }
    detail: dict[str, Any] = {"origin": origin}
    if spec.from_campaign is not None:
        detail["from_campaign"] = _warm_start(ctx, prepared, problem)
    with ctx.engine.begin() as connection:
        code.put(connection, prepared.code.sha256, prepared.code.files)
        campaign = campaigns.create(
            connection,
            origin=origin,
            name=spec.name,
            spec=spec.model_dump(mode="json"),
            problem=problem,
            spec_hash=spec.fingerprint(),
            code_hash=prepared.code.sha256,
            site=spec.site,
            seed=spec.seed,
        )
        events.add(connection, campaign.id, "begin", detail, who)
    return campaign.id


def _warm_start(ctx: Context, prepared: Prepared, problem: dict[str, Any]) -> dict[str, Any]:
    """Fix in the problem what `from_campaign` names; what is to be said about it."""
    wanted = prepared.spec.from_campaign
    assert wanted is not None
    with ctx.engine.begin() as connection:
        found = observing.source(connection, wanted, problem["objectives"])
        offered = observing.earlier(connection, found)
    if not offered:
        raise UserError(f"from_campaign: {found['id']} has no individual with a fitness so far")
    objectives = len(problem["objectives"])
    tried = prepared.optimizer_cls(prepared.space, objectives, prepared.options, prepared.spec.seed)
    used = tried.observe(offered)
    if used == 0:
        raise UserError(
            f"from_campaign: none of the {len(offered)} evaluated parameter sets of {found['id']} is in the "
            "search space of this campaign (the same parameters, within their bounds, fixed ones equal)"
        )
    problem["from_campaign"] = found
    return {**found, "offered": len(offered), "used": used}
