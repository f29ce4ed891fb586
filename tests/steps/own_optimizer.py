"""An optimizer of the tests that says everything which an optimizer may say; made known by the fixture."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import BaseModel, Field

import optimizers
from optimizers.base import Arrays, Capabilities, Optimizer, Options, Proposal, Told

TOLD: list[Told] = []
OBSERVED: list[Told] = []


class TalkativeOptions(Options):
    """Options of the optimizer."""

    total: int = Field(1000, description="individuals until nothing is left")
    tasks: int = Field(
        1, description="every second individual is its predecessor on all tasks after the first"
    )
    lineage: int = Field(0, description="an individual goes on with the one so many before it; 0: with none")
    measure: list[str] = Field([], description="metrics to be told")


class Talkative(Optimizer):
    """Random points; every second individual repeats its predecessor on more tasks and goes on with it."""

    name = "talkative"
    summary = "says everything"
    format_version = 1
    Options = TalkativeOptions
    capabilities: ClassVar[Capabilities] = Capabilities("any", asynchronous=True, constraints=True)
    options: TalkativeOptions

    @classmethod
    def measures(cls, options: BaseModel) -> tuple[str, ...]:
        assert isinstance(options, TalkativeOptions)
        return tuple(options.measure)

    @classmethod
    def tasks_needed(cls, options: BaseModel) -> int:
        assert isinstance(options, TalkativeOptions)
        return options.tasks

    def _start(self) -> None:
        self._last = np.zeros(self.space.dimension)

    def _propose(self, n: int) -> list[Proposal]:
        made: list[Proposal] = []
        for i in range(self._next_id, min(self._next_id + n, self.options.total)):
            if self.options.tasks > 1 and i % 2:
                made.append(Proposal(self._last, i - 1, i - 1, (1, self.options.tasks - 1)))
            else:
                self._last = self._rng.random(self.space.dimension)
                parent = i - self.options.lineage
                made.append(
                    Proposal(
                        self._last,
                        parent=parent if 0 <= parent < i else None,
                        tasks=(0, 1) if self.options.tasks > 1 else None,
                    )
                )
        return made

    def stop_reason(self) -> str | None:
        return "all said" if self._next_id >= self.options.total else None

    def _learn(self, told: Told) -> None:
        TOLD.append(told)

    def _observe(self, told: Told) -> None:
        OBSERVED.append(told)

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        return {}, {"last": self._last}

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:  # noqa: ARG002
        self._last = arrays["last"]


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """`optimizer: {name: talkative}` works in this test."""
    monkeypatch.setitem(sys.modules, "optimizers.talkative", sys.modules[__name__])
    monkeypatch.setitem(optimizers._REGISTRY, "talkative", "talkative:Talkative")
    TOLD.clear()
    OBSERVED.clear()
