"""Population-based training: hyperparameters change while the learners that they belong to go on learning.

Jaderberg et al., "Population based training of neural networks", arXiv:1711.09846 (2017). Each member is a
learner. An individual is one stretch of its training: it goes on from the checkpoint of the individual that
`parent` names, with its own parameters (without a parent, from the beginning). Now and then a member of the
worst share gives up its learner: it goes on with the one of a member of the best share (exploit), with its
parameters changed (explore).

Asynchronous: a member goes on with the next ask after it was told, compared with the others as they are then.
If all are under way, more individuals are challengers: they branch off good members, and one that is told a
better loss than the worst member has takes that member's place.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from optimizers.base import Arrays, Capabilities, FloatArray, IntArray, Optimizer, Options, Proposal, Told
from optimizers.bins import bin_width, unordered
from optimizers.population.warm_start import Seeds

SMALLEST_POPULATION = 4
_CHALLENGER = -1
_NONE = -1  # no individual whose learner could go on


class PopulationBasedTrainingOptions(Options):
    """Options of `population_based_training`."""

    population: int | None = Field(
        None, ge=SMALLEST_POPULATION, description="members; null: as many as the first ask"
    )
    interval: int = Field(1, ge=1, description="individuals of a member before it may give up its learner")
    truncation: float = Field(0.2, gt=0, le=0.5, description="share of the members that is worst, and best")
    perturbation: float = Field(
        0.1, gt=0, le=1, description="standard deviation of a changed parameter, as a share of its range"
    )
    resample: float = Field(0.1, ge=0, le=1, description="probability that a parameter is drawn anew instead")


class PopulationBasedTraining(Optimizer):
    """Members: the last individual of each, and how many it has had since it took over a learner."""

    name = "population_based_training"
    summary = "Population-based training: schedules of hyperparameters, found while the learners learn."
    format_version = 1
    Options: ClassVar[type[PopulationBasedTrainingOptions]] = PopulationBasedTrainingOptions
    capabilities = Capabilities(objectives="single", asynchronous=True, inherits=True)
    options: PopulationBasedTrainingOptions

    @classmethod
    def in_flight_needed(cls, options: BaseModel) -> int:
        """The whole population: checkpoints of members that wait are not kept."""
        assert isinstance(options, PopulationBasedTrainingOptions)
        return options.population or SMALLEST_POPULATION

    def _start(self) -> None:
        d = self.space.dimension
        self._unordered = unordered(self.space)
        self._size = self.options.population or 0  # 0: the first ask will tell
        self._flights: dict[int, int] = {}  # pending individual -> place of its member, or _CHALLENGER
        self._exploits = 0
        # One row per place: the member's last individual with a checkpoint, its parameters, its last loss.
        self._ids: IntArray = np.full(self._size, _NONE)
        self._genomes = np.zeros((self._size, d))
        self._losses = np.full(self._size, np.inf)
        self._steps = np.zeros(self._size, dtype=np.int64)
        self._seeds = Seeds(d)

    def _propose(self, n: int) -> list[Proposal]:
        if not self._size:
            self._size = self._size_for(n, SMALLEST_POPULATION)
            self._ids, self._losses = np.full(self._size, _NONE), np.full(self._size, np.inf)
            self._genomes = np.zeros((self._size, self.space.dimension))
            self._steps = np.zeros(self._size, dtype=np.int64)
        order = np.lexsort((self._ids, self._losses))
        waiting = sorted(set(range(self._size)) - set(self._flights.values()))
        proposals = []
        for i in range(n):
            place = waiting[i] if i < len(waiting) else _CHALLENGER
            proposals.append(self._next(place, order))
            self._flights[self._next_id + i] = place
        return proposals

    def _next(self, place: int, order: IntArray) -> Proposal:
        """What a member does next, or a challenger; `order` are the places, the best first."""
        good = order[np.isfinite(self._losses[order])]
        best = good[: max(1, round(self.options.truncation * len(good)))]
        if place != _CHALLENGER and np.isfinite(self._losses[place]) and not self._gives_up(place, order):
            return Proposal(self._genomes[place].copy(), parent=int(self._ids[place]))
        if not len(good) or (place != _CHALLENGER and self._steps[place] == 0):
            # The first individual of a member, or there is nobody to learn from.
            seed = self._seeds.take(1)
            return Proposal(seed[0] if len(seed) else self._rng.random(self.space.dimension))
        model = int(best[self._rng.integers(0, len(best))])
        self._exploits += 1
        if place != _CHALLENGER:
            self._steps[place] = 0
        return Proposal(self._explored(self._genomes[model]), parent=int(self._ids[model]))

    def _gives_up(self, place: int, order: IntArray) -> bool:
        """Whether a member is one of the worst, and has had its chance."""
        worst = order[len(order) - round(self.options.truncation * len(order)) :]
        return bool(self._steps[place] >= self.options.interval and place in worst)

    def _explored(self, genome: FloatArray) -> FloatArray:
        """A changed copy: perturbed, or in some coordinates drawn anew."""
        d, rng, width = len(genome), self._rng, bin_width(self.space, genome)
        step = self.options.perturbation * rng.standard_normal(d)
        # A whole number changes by one at least, or not at all; a choice without an order is drawn anew.
        kept = (rng.random(d) < 0.5) & (width > 0)
        step = np.where(kept, 0.0, np.copysign(np.maximum(np.abs(step), width), step))
        anew = rng.random(d) < np.where(
            self._unordered, max(self.options.resample, 0.1), self.options.resample
        )
        moved = np.where(self._unordered, genome, genome + step)
        return np.clip(np.where(anew, rng.random(d), moved), 0.0, 1.0)

    def _learn(self, told: Told) -> None:
        for row in range(len(told.ids)):
            place = self._flights.pop(int(told.ids[row]))
            loss = float(told.losses[row, 0])
            if place == _CHALLENGER:
                place = int(np.lexsort((self._ids, self._losses))[-1])
                if not loss < self._losses[place]:
                    continue
                self._disown(place)
                self._steps[place] = 0
            self._steps[place] += 1
            self._losses[place] = loss
            if math.isfinite(loss):  # else there is no checkpoint: its learner is lost
                self._ids[place], self._genomes[place] = told.ids[row], told.genomes[row]

    def _disown(self, place: int) -> None:
        """Who is under way for this place has lost it, and is a challenger now."""
        for individual, owner in self._flights.items():
            if owner == place:
                self._flights[individual] = _CHALLENGER

    def _observe(self, told: Told) -> None:
        """There is no checkpoint to go on with: the best parameters begin with new learners."""
        self._seeds.add(told)

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._losses[(self._ids == individual) & np.isfinite(self._losses)] = loss

    def _figures(self) -> dict[str, float]:
        finite = self._losses[np.isfinite(self._losses)]
        figures = {"members": float(len(finite)), "exploits": float(self._exploits)}
        if len(finite):
            figures["median_loss"] = float(np.median(finite / 2)) * 2
            figures["diversity"] = float(self._genomes[np.isfinite(self._losses)].std(axis=0).mean())
        return figures

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        flights = sorted(self._flights.items())
        return {"size": self._size, "exploits": self._exploits}, {
            **self._seeds.save(),
            "flights": np.array(flights, dtype=np.int64).reshape(-1, 2),
            "ids": self._ids,
            "genomes": self._genomes,
            "losses": self._losses,
            "steps": self._steps,
        }

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._size, self._exploits = own["size"], own["exploits"]
        self._flights = dict(arrays["flights"].tolist())
        self._seeds.load(arrays)
        self._ids, self._genomes = arrays["ids"], arrays["genomes"]
        self._losses, self._steps = arrays["losses"], arrays["steps"]
