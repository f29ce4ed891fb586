"""The rows of the table: `cases.yaml` as values, and the campaigns that they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from l2l_tasks.settings import REPOSITORY
from l2l_tasks.spec import CampaignSpec
from l2l_tasks.spec_file import load
from l2l_tasks.spec_overrides import apply_overrides

CAMPAIGNS = REPOSITORY / "campaigns"
FILE = Path(__file__).with_name("cases.yaml")


@dataclass(frozen=True)
class Case:
    """One use case at the scale at which it is measured; `cases.yaml` says what the fields mean."""

    name: str
    title: str
    campaign: str
    generations: int
    fitness: str
    source: str
    reference: str = ""
    set: Mapping[str, Any] = field(default_factory=dict)
    tests: int = 0
    metric: str = ""
    known: Mapping[str, Any] | None = None

    def spec(self, seed: int, *, random: bool = False) -> CampaignSpec:
        """The campaign with one seed; `random`: random search with as many evaluations.

        Raises:
            SpecError: the file or what is changed in it is wrong.
        """
        changes = {**self.set, "budget": {"generations": self.generations}, "seed": seed}
        if random:
            changes["optimizer"] = "random"
        return apply_overrides(load(CAMPAIGNS / f"{self.campaign}.yaml"), changes)


def read() -> dict[str, Case]:
    """All cases by name."""
    entries = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {name: Case(name, **entry) for name, entry in entries.items()}


CASES = read()
