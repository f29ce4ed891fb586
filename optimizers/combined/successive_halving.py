"""Asynchronous successive halving (ASHA) over tasks: an individual sees more tasks while it is promising.

Every new individual is evaluated on the first `min_tasks` tasks of the campaign. Of those told on a rung, the
best of every `eta` are evaluated on further tasks, `eta` times as many in all, up to `max_tasks`. A
promotion is made as soon as an individual is among the best of its rung, so nobody waits (Li, Jamieson,
Rostamizadeh, Gonina, Ben-Tzur, Hardt, Recht and Talwalkar, "A system for massively parallel hyperparameter
tuning", MLSys 2020).

* A promotion is a new individual whose `origin` is the first one with these parameters, and whose `tasks` are
  only those that were not seen yet. Losses are means over tasks, so the loss over all tasks seen is the mean
  weighted by their numbers.
* Losses over different numbers of tasks are never compared. The best individual is the best of those that saw
  the most tasks.
* New individuals come from an inner optimizer, which is told the losses on the first rung alone.
* Each rung keeps the newest _KEPT individuals.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from optimizers import OptimizerError
from optimizers.base import (
    Arrays,
    Best,
    Capabilities,
    FloatArray,
    Optimizer,
    Options,
    Proposal,
    Suggestion,
    Told,
)
from optimizers.combined.nested import Nested, checked_options, inner_seed
from optimizers.versions import part

_KEPT = 1000


class SuccessiveHalvingOptions(Options):
    """Options of `successive_halving`."""

    min_tasks: int = Field(1, ge=1, description="tasks that every individual is evaluated on")
    max_tasks: int = Field(
        9, ge=1, description="tasks that the best are evaluated on; the campaign must have as many"
    )
    eta: int = Field(3, ge=2, description="one of so many is promoted, to so many times the tasks")
    optimizer: str = Field("random", description="which optimizer new individuals come from")
    optimizer_options: dict[str, Any] = Field(default_factory=dict, description="its options")

    @field_validator("optimizer_options")
    @classmethod
    def _known(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return checked_options(info.data.get("optimizer"), options)


class SuccessiveHalving(Optimizer):
    """The rungs, the promotions under way, and the optimizer of new individuals."""

    name = "successive_halving"
    summary = "Successive halving (ASHA): many tasks for promising individuals, few for the others."
    format_version = 1
    Options: ClassVar[type[SuccessiveHalvingOptions]] = SuccessiveHalvingOptions
    capabilities = Capabilities(objectives="single", asynchronous=True)
    options: SuccessiveHalvingOptions

    @classmethod
    def tasks_needed(cls, options: BaseModel) -> int:
        """As many as the last rung has."""
        assert isinstance(options, SuccessiveHalvingOptions)
        return options.max_tasks

    def ask(self, n: int) -> list[Suggestion]:
        """As the base; elites are evaluated again on the tasks of the last rung."""
        everything = (0, self._tasks[-1])
        return [one if one.tasks else replace(one, tasks=everything) for one in super().ask(n)]

    def _start(self) -> None:
        low, high = self.options.min_tasks, self.options.max_tasks
        if low > high:
            raise OptimizerError(f"Options of {self.name}: min_tasks {low} is more than max_tasks {high}.")
        self._tasks = [low]  # seen by an individual that was told on each rung
        while self._tasks[-1] < high:
            self._tasks.append(min(high, self._tasks[-1] * self.options.eta))
        self._rungs = [Rung(self.space.dimension) for _ in self._tasks]
        self._climbing: dict[int, tuple[int, int, float]] = {}  # promotion -> first id, rung to reach, loss
        seed = inner_seed(self.seed, 0)
        self._inner = Nested(self.options.optimizer, self.options.optimizer_options, self.space, seed)
        if names := self._inner.optimizer.measures(self._inner.optimizer.options):
            raise OptimizerError(f"{self.options.optimizer} learns from {', '.join(names)}, not from losses.")

    def _propose(self, n: int) -> list[Proposal]:
        proposals: list[Proposal] = []
        for level in reversed(range(len(self._rungs) - 1)):
            rung, seen = self._rungs[level], self._tasks[level]
            for row in rung.promotable(self.options.eta)[: n - len(proposals)]:
                rung.promoted[row] = True
                first, loss = int(rung.ids[row]), float(rung.losses[row])
                self._climbing[self._next_id + len(proposals)] = (first, level + 1, loss)
                further = (seen, self._tasks[level + 1] - seen)
                proposals.append(Proposal(rung.genomes[row].copy(), origin=first, tasks=further))
        if len(proposals) < n:
            new = self._inner.ask(n - len(proposals), self._next_id + len(proposals))
            proposals += [Proposal(genome, tasks=(0, self._tasks[0])) for genome in new]
        return proposals

    def stop_reason(self) -> str | None:
        if any(len(rung.promotable(self.options.eta)) for rung in self._rungs[:-1]):
            return None
        return self._inner.optimizer.stop_reason()

    def _remember(self, told: Told) -> None:
        """The base compares losses of those that it knows; so it gets only those that saw all tasks: the ones
        from elsewhere here, the others from `_learn`."""
        asked = [i in self._climbing or i in self._inner.own for i in told.ids.tolist()]
        super()._remember(told.rows(~np.array(asked, dtype=np.bool_)))

    def _learn(self, told: Told) -> None:
        self._inner.tell(told)
        for row, individual in enumerate(told.ids.tolist()):
            first, level, before = self._climbing.pop(individual, (individual, 0, 0.0))
            loss = float(told.losses[row, 0])
            if level and math.isfinite(loss):
                share = self._tasks[level - 1] / self._tasks[level]
                loss = share * before + (1 - share) * loss
            self._rungs[level].add(first, told.genomes[row], loss)
            if level == len(self._rungs) - 1:
                self._elite.admit(np.array([first]), told.genomes[[row]], np.array([loss]))

    def _observe(self, told: Told) -> None:
        """These saw all tasks."""
        self._inner.observe(told.genomes, told.losses[:, 0])

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._rungs[-1].losses[self._rungs[-1].ids == individual] = loss

    def best(self) -> Best | None:
        """The best of those that saw the most tasks; `evaluations` counts its promotions too."""
        found = super().best()
        if found is not None:
            climbed = len(self._rungs) - 1 if found.individual in self._rungs[-1].ids else 0
            return Best(found.individual, found.params, found.losses, found.evaluations + climbed)
        for level, rung in reversed(list(enumerate(self._rungs))):
            if np.isfinite(rung.losses).any():
                row = int(np.lexsort((rung.ids, rung.losses))[0])
                loss = float(rung.losses[row])
                return Best(int(rung.ids[row]), self._params(rung.genomes[row]), (loss,), level + 1)
        return None

    def _figures(self) -> dict[str, float]:
        figures: dict[str, float] = {}
        for tasks, rung in zip(self._tasks, self._rungs, strict=True):
            figures[f"told_on_{tasks}"] = rung.told
            if len(rung.losses):
                figures[f"best_on_{tasks}"] = float(rung.losses.min())
        return figures

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        climbing = [(key, first, level) for key, (first, level, _) in self._climbing.items()]
        arrays: Arrays = {
            "climbing.ids": np.array(climbing, dtype=np.int64).reshape(-1, 3),
            "climbing.losses": np.array([loss for _, _, loss in self._climbing.values()], dtype=np.float64),
        }
        arrays |= {f"inner.{key}": array for key, array in self._inner.save().items()}
        for level, rung in enumerate(self._rungs):
            arrays |= {f"{level}.{key}": array for key, array in rung.save().items()}
        return {"told": [rung.told for rung in self._rungs]}, arrays

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        rows, losses = arrays["climbing.ids"].tolist(), arrays["climbing.losses"].tolist()
        self._climbing = {
            key: (first, level, loss) for (key, first, level), loss in zip(rows, losses, strict=True)
        }
        self._inner.load(part(arrays, "inner."))
        for level, rung in enumerate(self._rungs):
            rung.load(own["told"][level], part(arrays, f"{level}."))


class Rung:
    """The newest individuals told on one number of tasks, as they came.

    Attributes:
        told: how many there were.
        ids: shape (k,), of the first individual with these parameters; genomes: shape (k, dimension).
        losses: shape (k,), means over all tasks seen, infinite for those that are not ok.
        promoted: shape (k,), who is on its way to the next rung, or was.
    """

    def __init__(self, dimension: int) -> None:
        self.told = 0
        self.ids = np.empty(0, dtype=np.int64)
        self.genomes = np.empty((0, dimension))
        self.losses = np.empty(0)
        self.promoted = np.empty(0, dtype=np.bool_)

    def add(self, individual: int, genome: FloatArray, loss: float) -> None:
        """Take in one that was told."""
        self.told += 1
        self.ids = np.append(self.ids, individual)[-_KEPT:]
        self.genomes = np.concatenate([self.genomes, genome[None]])[-_KEPT:]
        self.losses = np.append(self.losses, loss)[-_KEPT:]
        self.promoted = np.append(self.promoted, False)[-_KEPT:]

    def promotable(self, eta: int) -> list[int]:
        """Rows of those among the best of every `eta` that are not promoted, the best first."""
        best = np.lexsort((self.ids, self.losses))[: len(self.ids) // eta].tolist()
        return [row for row in best if not self.promoted[row] and math.isfinite(self.losses[row])]

    def save(self) -> Arrays:
        """Arrays for `load`."""
        names = ("ids", "genomes", "losses", "promoted")
        return {name: getattr(self, name) for name in names}

    def load(self, told: int, arrays: Arrays) -> None:
        """Undo `save`."""
        self.told, self.ids, self.genomes = told, arrays["ids"], arrays["genomes"]
        self.losses, self.promoted = arrays["losses"], arrays["promoted"]
