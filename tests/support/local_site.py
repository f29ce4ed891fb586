"""A site of this machine in a temporary folder: the real agent, pool and workers, without a batch system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from l2l_tasks.site.client import open_site


@dataclass(frozen=True)
class LocalSite:
    """A usable site profile.

    Attributes:
        name: for `site:` in a campaign.
        work: its work folder.
        environment: what another process needs to find it.
    """

    name: str
    work: Path
    environment: dict[str, str]

    def campaign(self, name: str) -> Path:
        """The folder of one campaign."""
        return self.work / "campaigns" / name


@pytest.fixture
def local_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSite]:
    """A site named `testsite`; workers still running at the end are stopped."""
    profiles, work = tmp_path / "sites", tmp_path / "work"
    profiles.mkdir()
    profile = {
        "name": "testsite",
        "transport": "local",
        "scheduler": {"kind": "local", "max_workers": 4},
        "work": str(work),
        "poll_interval": 0.5,
    }
    (profiles / "testsite.yaml").write_text(yaml.safe_dump(profile))
    environment = {"L2L_SITES": str(profiles), "L2L_HOME": str(tmp_path / "home")}
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    yield LocalSite("testsite", work, {**os.environ, **environment})
    if (work / "campaigns").is_dir():
        client = open_site("testsite")
        for folder in (work / "campaigns").iterdir():
            client.stop(folder.name)
        client.close()
