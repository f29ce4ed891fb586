"""Differential evolution: steps are differences of individuals, so they fit the scales of the problem.

Storn and Price, "Differential evolution - a simple and efficient heuristic for global optimization over
continuous spaces", Journal of Global Optimization 11 (1997). Strategies:

* `best1bin`, `rand1bin`: difference of two individuals, added to the best or to a random one; binomial
  crossover; the scale of the difference is drawn anew for each trial (dither). Trials outside are reflected.
* `shade`: current-to-pbest/1 with an archive of the individuals that were replaced, and a history of the
  scales and crossover rates that succeeded (Tanabe and Fukunaga, "Success-history based parameter adaptation
  for differential evolution", CEC 2013); optionally the population shrinks linearly (L-SHADE, CEC 2014).
  A trial outside goes half-way from its target to the bound.

Steady state: a trial competes with the member that now has its target's place, whenever it is told, by Deb's
rule (feasible before infeasible, then loss or violation). The history is renewed after every mu trials.
Once the population is one point, a new one is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np
from pydantic import Field

from optimizers.base import Arrays, Capabilities, FloatArray, IntArray, Optimizer, Options, Told
from optimizers.bounds import reflected
from optimizers.population.success_history import History

SMALLEST_POPULATION = 5  # a target and four others
LARGEST_DEFAULT = 20  # with more, a budget of up to 1000 evaluations per dimension has too few generations
SHADE_FROM = 10  # dimensions; below, best1bin reaches more targets with the same budget
_COLLAPSED = 1e-10  # largest extent of a population that is one point
_NEWCOMER = -1  # place of an individual that is no trial


class DifferentialEvolutionOptions(Options):
    """Options of `differential_evolution`."""

    strategy: Literal["best1bin", "rand1bin", "shade"] | None = Field(
        None, description=f"null: shade from {SHADE_FROM} dimensions on, best1bin below"
    )
    population: int | None = Field(
        None,
        ge=SMALLEST_POPULATION,
        description=f"mu, members; null: as many as the first ask, at most {LARGEST_DEFAULT}",
    )
    scale: float = Field(
        0.5, gt=0, le=1, description="least factor of a difference, the largest is 1 (not for shade)"
    )
    crossover: float = Field(
        0.7, ge=0, le=1, description="probability that a coordinate is the mutant's (not for shade)"
    )
    shrink_over: int | None = Field(
        None, ge=1, description=f"evaluations in which mu falls to {SMALLEST_POPULATION}; null: it does not"
    )


@dataclass(frozen=True)
class _Trial:
    """What must be known of an individual in flight: its target's place, and how it was made."""

    place: int
    scale: float
    rate: float


class DifferentialEvolution(Optimizer):
    """Members in their places; places keep their numbers while others are given up."""

    name = "differential_evolution"
    summary = "Differential evolution (best/1/bin, rand/1/bin, SHADE): ill-scaled and multimodal losses."
    format_version = 1
    Options: ClassVar[type[DifferentialEvolutionOptions]] = DifferentialEvolutionOptions
    capabilities = Capabilities(objectives="single", asynchronous=True, constraints=True)
    options: DifferentialEvolutionOptions

    @classmethod
    def default_batch(cls, dimension: int) -> int:
        return max(10, 4 + int(3 * math.log(dimension)))

    def _start(self) -> None:
        d = self.space.dimension
        self._shade = (self.options.strategy or ("shade" if d >= SHADE_FROM else "best1bin")) == "shade"
        self._first_size = self.options.population or 0  # 0: the first ask will tell
        self._restarts = 0
        self._run_first_id = 0  # individuals before it belong to an earlier population
        self._next_place = 0
        self._trials: dict[int, _Trial] = {}
        self._places: IntArray = np.empty(0, dtype=np.int64)
        self._ids: IntArray = np.empty(0, dtype=np.int64)
        self._genomes = np.empty((0, d))
        self._losses = np.empty(0)
        self._violations = np.empty(0)
        self._archive = np.empty((0, d))
        self._history = History()

    def _size(self) -> int:
        """How many members there should be now; 0 before the first ask."""
        over, first = self.options.shrink_over, self._first_size
        if over is None or not first:
            return first
        return max(SMALLEST_POPULATION, round(first - (first - SMALLEST_POPULATION) * self._told / over))

    def _sample(self, n: int) -> FloatArray:
        if not self._first_size:
            self._first_size = self._size_for(min(n, LARGEST_DEFAULT), SMALLEST_POPULATION)
            self._cut()
        ids = range(self._next_id, self._next_id + n)
        if len(self._ids) < self._size():
            self._trials |= {i: _Trial(_NEWCOMER, 0.0, 0.0) for i in ids}
            return self._rng.random((n, self.space.dimension))
        targets = self._targets(n)
        make = self._shade_trials if self._shade else self._classic_trials
        points, scales, rates = make(targets)
        places = self._places[targets].tolist()
        made = zip(ids, places, scales.tolist(), rates.tolist(), strict=True)
        self._trials |= {i: _Trial(place, scale, rate) for i, place, scale, rate in made}
        return points

    def _targets(self, n: int) -> IntArray:
        """Rows of `n` members: those with the fewest trials in flight, at random where equal."""
        busy = np.zeros(len(self._ids), dtype=np.int64)
        row = {place: i for i, place in enumerate(self._places.tolist())}
        for trial in self._trials.values():
            if trial.place in row:
                busy[row[trial.place]] += 1
        chosen: list[int] = []
        while len(chosen) < n:
            order = np.lexsort((self._rng.random(len(busy)), busy))
            level = order[busy[order] == busy[order[0]]][: n - len(chosen)]
            busy[level] += 1
            chosen += level.tolist()
        return np.array(chosen, dtype=np.int64)

    def _others(self, first: IntArray, second: IntArray, size: int) -> IntArray:
        """One of `size` indices for each row, different from both."""
        low, high = np.minimum(first, second), np.maximum(first, second)
        gaps = np.where(low == high, 1, 2)
        drawn = self._rng.integers(0, size - gaps)
        drawn = drawn + (drawn >= low)
        return cast(IntArray, drawn + ((drawn >= high) & (low != high)))

    def _classic_trials(self, targets: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        n, size = len(targets), len(self._ids)
        if self.options.strategy == "rand1bin":
            base = self._others(targets, targets, size)
        else:
            base = np.full(n, self._order()[0])
        one = self._others(targets, base, size)
        # The last of four different members: whatever meets the base is drawn again.
        other = self._others(targets, one, size)
        for _ in range(100):
            taken = other == base
            if not taken.any():
                break
            other[taken] = self._others(targets[taken], one[taken], size)
        scales = self._rng.uniform(self.options.scale, 1.0, n)
        rates = np.full(n, self.options.crossover)
        mutants = self._genomes[base] + scales[:, None] * (self._genomes[one] - self._genomes[other])
        return reflected(self._crossed(self._genomes[targets], mutants, rates)), scales, rates

    def _shade_trials(self, targets: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        n, size = len(targets), len(self._ids)
        scales, rates = self._history.draw(self._rng, n)
        most = np.maximum(2, (self._rng.uniform(min(0.2, 2 / size), 0.2, n) * size).astype(np.int64))
        pbest = self._order()[self._rng.integers(0, most)]
        one = self._others(targets, targets, size)
        known = np.concatenate([self._genomes, self._archive])
        other = self._others(targets, one, len(known))
        x = self._genomes[targets]
        steps = (self._genomes[pbest] - x) + (self._genomes[one] - known[other])
        points = self._crossed(x, x + scales[:, None] * steps, rates)
        points = np.where(points < 0, x / 2, np.where(points > 1, (x + 1) / 2, points))
        return points, scales, rates

    def _crossed(self, targets: FloatArray, mutants: FloatArray, rates: FloatArray) -> FloatArray:
        """Binomial crossover: at least one coordinate is the mutant's."""
        n, d = targets.shape
        taken = self._rng.random((n, d)) < rates[:, None]
        taken[np.arange(n), self._rng.integers(0, d, n)] = True
        return np.where(taken, mutants, targets)

    def _order(self) -> IntArray:
        """Rows of the members, the best first."""
        return np.lexsort((self._ids, self._violations, self._losses))

    def _learn(self, told: Told) -> None:
        trials = [self._trials.pop(i, _Trial(_NEWCOMER, 0.0, 0.0)) for i in told.ids.tolist()]
        new = np.array([trial.place == _NEWCOMER for trial in trials], dtype=np.bool_)
        # Late ones of a population that was given up are of no use.
        self._join(told.rows(new & ((told.ids < 0) | (told.ids >= self._run_first_id))))
        self._compete([trials[i] for i in np.flatnonzero(~new)], told.rows(~new))
        self._cut()
        if self._first_size and len(self._ids) >= self._size():
            self._restart_if_collapsed()

    def _join(self, told: Told) -> None:
        """Individuals without a target take the free places; then, if better, that of the worst."""
        free = max(0, self._size() - len(self._ids)) if self._first_size else len(told.ids)
        first = told.rows(np.arange(min(free, len(told.ids))))
        places = np.arange(self._next_place, self._next_place + len(first.ids))
        self._next_place += len(places)
        self._places = np.concatenate([self._places, places])
        self._ids = np.concatenate([self._ids, first.ids])
        self._genomes = np.concatenate([self._genomes, first.genomes])
        self._losses = np.concatenate([self._losses, first.losses[:, 0]])
        self._violations = np.concatenate([self._violations, first.violations])
        for row in range(len(places), len(told.ids)):
            worst = int(self._order()[-1])
            if _rank(told, row) < (self._losses[worst], self._violations[worst]):
                self._replace(worst, told, row)

    def _compete(self, trials: list[_Trial], told: Told) -> None:
        """Each replaces the member in its target's place unless that is better; none where it is gone."""
        member = {place: i for i, place in enumerate(self._places.tolist())}
        beaten = []
        for row, trial in enumerate(trials):
            if trial.place not in member:
                continue
            target = member[trial.place]
            old, new = (float(self._losses[target]), float(self._violations[target])), _rank(told, row)
            if new < old:
                beaten.append(self._genomes[target].copy())
                self._history.succeeded(trial.scale, trial.rate, _gain(old, new))
            if new <= old:
                self._replace(target, told, row)
            self._history.tried(len(self._ids))
        if beaten:
            self._archive = np.concatenate([self._archive, beaten])

    def _replace(self, member: int, told: Told, row: int) -> None:
        self._ids[member], self._genomes[member] = told.ids[row], told.genomes[row]
        self._losses[member], self._violations[member] = _rank(told, row)

    def _cut(self) -> None:
        """Down to the size that the population and the archive should have."""
        size = self._size()
        if not size:  # observed before the first ask
            return
        if len(self._ids) > size:
            kept = np.sort(self._order()[:size])
            self._places, self._ids, self._genomes = self._places[kept], self._ids[kept], self._genomes[kept]
            self._losses, self._violations = self._losses[kept], self._violations[kept]
        if not self._shade:
            self._archive = self._archive[:0]
        elif len(self._archive) > size:
            self._archive = self._archive[np.sort(self._rng.permutation(len(self._archive))[:size])]

    def _restart_if_collapsed(self) -> None:
        if float(np.ptp(self._genomes, axis=0).max()) > _COLLAPSED:
            return
        self._restarts += 1
        self._run_first_id = self._next_id
        self._places, self._ids, self._genomes = self._places[:0], self._ids[:0], self._genomes[:0]
        self._losses, self._violations = self._losses[:0], self._violations[:0]
        self._archive = self._archive[:0]
        self._history = History()

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._losses[self._ids == individual] = loss

    def _figures(self) -> dict[str, float]:
        finite = self._losses[np.isfinite(self._losses)]
        figures = {"population": float(len(self._ids)), "restarts": float(self._restarts)}
        if self._shade:
            figures |= self._history.figures()
        if len(finite):
            figures["median_loss"] = float(np.median(finite / 2)) * 2
            figures["diversity"] = float(self._genomes.std(axis=0).mean())
        return figures

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        trials = sorted(self._trials.items())
        own, arrays = self._history.save()
        return {
            "history": own,
            "first_size": self._first_size,
            "restarts": self._restarts,
            "run_first_id": self._run_first_id,
            "next_place": self._next_place,
        }, {
            **arrays,
            "places": self._places,
            "ids": self._ids,
            "genomes": self._genomes,
            "losses": self._losses,
            "violations": self._violations,
            "archive": self._archive,
            "trials.ids": np.array([i for i, _ in trials], dtype=np.int64),
            "trials.places": np.array([trial.place for _, trial in trials], dtype=np.int64),
            "trials.scales": np.array([trial.scale for _, trial in trials], dtype=np.float64),
            "trials.rates": np.array([trial.rate for _, trial in trials], dtype=np.float64),
        }

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._history = History.load(own["history"], arrays)
        self._first_size, self._restarts = own["first_size"], own["restarts"]
        self._run_first_id, self._next_place = own["run_first_id"], own["next_place"]
        self._places, self._ids, self._genomes = arrays["places"], arrays["ids"], arrays["genomes"]
        self._losses, self._violations = arrays["losses"], arrays["violations"]
        self._archive = arrays["archive"]
        columns = [arrays[f"trials.{name}"].tolist() for name in ("ids", "places", "scales", "rates")]
        self._trials = {i: _Trial(*rest) for i, *rest in zip(*columns, strict=True)}


def _rank(told: Told, row: int) -> tuple[float, float]:
    """What decides between two individuals: the loss, then the violation."""
    return float(told.losses[row, 0]), float(told.violations[row])


def _gain(old: tuple[float, float], new: tuple[float, float]) -> float | None:
    """By how much `new` is better, halved so that it is finite; None where this is no number."""
    for before, after in zip(old, new, strict=True):
        if before != after:
            return before / 2 - after / 2 if math.isfinite(before) else None
    return None
