"""A generation costs the same number of SSH commands and SQL statements whatever the population is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import event

from l2l_tasks import steps
from l2l_tasks.context import Context
from tests.steps.conftest import campaign_spec
from tests.steps.test_steps import wait
from tests.support.local_site import LocalSite


def costs(ctx: Context, site: LocalSite, base_dir: Path, population: int) -> tuple[int, int]:
    """Remote commands (the wait's polls aside) and SQL statements of generation 1."""
    spec = campaign_spec(
        site.name,
        optimizer={"name": "random"},
        execution={"batch": population, "workers": 2, "linger": 30, "timeout": 60, "bundle": 100},
    )
    campaign = steps.begin(ctx, f"test:{population}", spec, base_dir, "test")
    statements: list[str] = []

    def count(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    client = ctx.site(site.name)
    commands = 0
    for generation in range(2):
        statements.clear()
        event.listen(ctx.engine, "before_cursor_execute", count)
        before = client.commands
        steps.submit(ctx, campaign, generation)
        commands = client.commands - before
        event.remove(ctx.engine, "before_cursor_execute", count)
        wait(ctx, campaign, generation)
        event.listen(ctx.engine, "before_cursor_execute", count)
        before = client.commands
        assert steps.collect(ctx, campaign, generation)
        steps.update(ctx, campaign, generation)
        commands += client.commands - before
        event.remove(ctx.engine, "before_cursor_execute", count)
    steps.release(ctx, campaign)
    return commands, len(statements)


def test_commands_and_statements_do_not_depend_on_the_population(
    ctx: Context, local_site: LocalSite, base_dir: Path
) -> None:
    """Guards invariant 7. COPY runs outside of the counted statements; tests/store counts it."""
    small, large = (costs(ctx, local_site, base_dir, population) for population in (10, 1000))
    assert small == large
    assert small[0] <= 3
