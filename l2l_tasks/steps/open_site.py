"""Prepare a site for a campaign: its code, its folders, its worker configuration."""

from __future__ import annotations

from typing import Any

from l2l_tasks.context import Context
from l2l_tasks.errors import SitePermanentError
from l2l_tasks.site.profile import SiteProfile
from l2l_tasks.steps.stored import StoredCampaign
from l2l_tasks.store import campaigns, code, offsets

RESULT_LINE_BYTES = 256 * 1024
RESULT_DEPTH = 8


def open_at_site(ctx: Context, campaign: StoredCampaign, *, renew: bool = False, lost: bool = False) -> None:
    """Stage what the campaign needs at its site, once; a second call does nothing.

    Args:
        ctx: open connections.
        campaign: the campaign.
        renew: its specification has changed: workers that start from now on are told.
        lost: the site lost the campaign's folder, so it is made anew.

    Raises:
        SitePermanentError: the site cannot run the campaign (partition, account, folder); nothing was
            submitted.
    """
    if campaign.row.staged and not renew and not lost:
        return
    client = ctx.site(campaign.row.site)
    config = worker_config(campaign, client.profile)
    problems = client.check(config)
    if problems:
        name = campaign.problem.get("environment")
        hint = f" (its optimizee needs the environment {name!r}: docs/sites.md says how to make it)"
        raise SitePermanentError(
            f"site {campaign.row.site} refuses campaign {campaign.row.id} before anything was submitted: "
            + "; ".join(problems)
            + (hint if name and any("python" in problem.lower() for problem in problems) else "")
        )
    with ctx.engine.begin() as connection:
        files = code.get(connection, campaign.row.code_hash)
    client.stage_code(campaign.row.code_hash, files)
    client.open(campaign.row.id, config)
    with ctx.engine.begin() as connection:
        campaigns.set_staged(connection, campaign.row.id)
        if lost:  # the files that these offsets were about are gone
            offsets.forget(connection, campaign.row.id, offsets.get(connection, campaign.row.id))


def worker_config(campaign: StoredCampaign, profile: SiteProfile) -> dict[str, Any]:
    """campaign.json: what the workers at the site are told."""
    spec = campaign.spec
    environment = profile.environment(campaign.problem.get("environment", ""))
    return {
        "campaign": campaign.row.id,
        "job_name": f"l2l-{campaign.row.id}",
        "entry": campaign.problem["entry"],
        "options": spec.optimizee.options,
        "code": campaign.row.code_hash,
        "objectives": len(campaign.directions),
        "attempts": spec.execution.attempts if spec.execution.on_failure == "retry" else 1,
        "slots": spec.execution.slots,
        "linger": spec.execution.linger,
        "python": environment.python,
        "env": environment.env,
        "limits": {"line_bytes": RESULT_LINE_BYTES, "depth": RESULT_DEPTH},
        "scheduler": {**profile.scheduler_config(spec.resources), "setup": environment.setup},
        "walltime": spec.resources.time,
        "margin": min(60.0, spec.resources.time * 0.1),
    }
