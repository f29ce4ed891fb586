"""A context on a real database and a real local site, and a small campaign for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from l2l_tasks.context import Context
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.store import campaigns
from l2l_tasks.store.campaigns import Campaign
from tests.steps.own_optimizer import talkative
from tests.support.local_site import LocalSite

__all__ = ["base_dir", "ctx", "talkative"]


def campaign_spec(site: str, **changes: Any) -> CampaignSpec:
    """A campaign of a few milliseconds per generation; of `execution`, only what is named changes."""
    execution = {"batch": 4, "workers": 2, "linger": 20, "timeout": 20, **changes.pop("execution", {})}
    spec: dict[str, Any] = {
        "name": "small",
        "optimizee": {"name": "sphere", "options": {"dimension": 2}},
        "optimizer": {"name": "cmaes"},
        "budget": {"generations": 3},
        "site": site,
        "execution": execution,
        "seed": 7,
    }
    return CampaignSpec.model_validate({**spec, **changes})


def own_optimizee(folder: Path, name: str, code: str) -> dict[str, str]:
    """Write the code of the class `name` into a campaign's folder; the campaign's `optimizee`."""
    (folder / "own").mkdir(exist_ok=True)
    (folder / "own" / f"{name.lower()}.py").write_text(code)
    return {"class": f"{name.lower()}:{name}", "path": "own"}


def row_of(ctx: Context, campaign: str) -> Campaign:
    with ctx.engine.begin() as connection:
        return campaigns.get(connection, campaign)


@pytest.fixture
def ctx(engine: Engine, local_site: LocalSite) -> Iterator[Context]:  # noqa: ARG001
    """Open connections to the test's own database and site."""
    context = Context(engine)
    yield context
    for client in context._sites.values():
        client.close()


@pytest.fixture
def base_dir() -> Path:
    """Folder of campaign files."""
    return Path(__file__).parent
