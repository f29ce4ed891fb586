"""Campaign files for the tests of the DAGs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DAGS = REPOSITORY / "dags"


def campaign(name: str, **changes: Any) -> dict[str, Any]:
    """A small campaign that any site can run."""
    spec = {
        "name": name,
        "description": "The sphere of the tests.",
        "optimizee": {"name": "sphere", "options": {"dimension": 2}},
        "optimizer": {"name": "random"},
        "budget": {"generations": 2},
        "execution": {"batch": 4, "workers": 2, "linger": 1},
        "seed": 3,
    }
    return {**spec, **changes}


def write(folder: Path, *specs: dict[str, Any]) -> Path:
    """A folder with these campaigns, one file each."""
    folder.mkdir(exist_ok=True)
    for spec in specs:
        (folder / f"{spec['name']}.yaml").write_text(yaml.safe_dump(spec))
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that this process takes its campaigns from."""
    made = write(tmp_path / "campaigns")
    monkeypatch.setenv("L2L_CAMPAIGNS", str(made))
    return made
