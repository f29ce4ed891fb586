"""Begin: a checked specification becomes a campaign, once per origin."""

from __future__ import annotations

from pathlib import Path

from l2l_tasks import validation
from l2l_tasks.context import Context
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.store import campaigns, code, events


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
    """
    with ctx.engine.begin() as connection:
        found = campaigns.find(connection, origin)
    if found is not None:
        return found.id
    prepared = validation.build(spec, base_dir)
    problem = {
        "space": prepared.space.to_json(),
        "objectives": [{"name": o.name, "direction": o.direction} for o in prepared.optimizee.objectives],
        "entry": prepared.code.entry,
        "code": prepared.code.sha256,
        "batch": spec.execution.batch or prepared.optimizer_cls.default_batch(prepared.space.dimension),
    }
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
        events.add(connection, campaign.id, "begin", {"origin": origin}, who)
    return campaign.id
