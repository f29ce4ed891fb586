"""Bayesian optimization with a Gaussian process: for budgets of some ten evaluations per dimension.

Every new individual is where a function drawn from the process is lowest among random candidates (Thompson
sampling), so a batch spreads by itself. With `trust_region` the candidates are from a box around the best
point, that grows after successes and shrinks after failures; when it is tiny, the search begins anew
elsewhere (TuRBO-1: Eriksson, Pearce, Gardner, Turner and Poloczek, "Scalable global optimization via local
Bayesian optimization", NeurIPS 2019).

* Whole numbers and choices are rounded before the kernel sees them, so the model is flat within a bin
  (Garrido-Merchan and Hernandez-Lobato, Neurocomputing 380, 2020); a choice is one-hot, so all of them are
  equally far apart.
* Pending individuals are added with the value that the model expects there: nothing is believed about their
  loss, but nobody is sent to the same place (kriging believer: Ginsbourger, Le Riche and Carraro, 2010).
* Failed individuals have no value. A place is left out with the probability that individuals fail there,
  compared with the other places; failures that come by chance everywhere leave out little.
* Losses are clipped above the median, by as much as the best is below it: how bad the bad ones are is of no
  use, and would hide the differences between the good ones.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from scipy.spatial.distance import cdist

from optimizers import OptimizerError
from optimizers.base import Arrays, Capabilities, FloatArray, IntArray, Optimizer, Options, Told
from optimizers.bins import Bins
from optimizers.low_discrepancy import next_points, sobol_sequence
from optimizers.models.gaussian_process import Posterior, first_theta, fit
from optimizers.models.points import best_and_newest, unknown

LARGEST_DIMENSION = 1000
_FIRST_LENGTH, _LARGEST_LENGTH, _SMALLEST_LENGTH = 0.8, 1.6, 0.5**7  # of the trust region; the cube is 1
_SUCCESSES = 3  # batches in a row that must be better, before the trust region grows
_FIT_POINTS = 300  # that the hyperparameters are fitted to
_FIRST_ITERATIONS, _ITERATIONS = 40, 15  # of that fit
_FAILED_BATCHES = 2  # at least, before it shrinks; and max(4, dimension) individuals
_AT_ONCE = 64  # individuals drawn before the model is made again, with these pending
_PENDING = 500  # the newest pending individuals that the model takes into account


class BayesianOptions(Options):
    """Options of `bayesian`."""

    trust_region: bool = Field(
        True, description="search a box around the best that follows success; false: the whole space"
    )
    initial: int | None = Field(
        None, ge=2, description="evaluated points before the model is used; null: 2 * dimension"
    )
    candidates: int | None = Field(
        None, ge=50, le=5000, description="points compared by each ask; null: 50 * dimension, 500 to 1000"
    )
    max_points: int = Field(
        1000,
        ge=20,
        le=2000,
        description="points that the model keeps: half of them the best, half the newest",
    )


class Bayesian(Optimizer):
    """The points of the present run, a trust region, and the hyperparameters last fitted."""

    name = "bayesian"
    summary = "Gaussian process with trust region: the most from a few hundred expensive evaluations."
    format_version = 1
    Options: ClassVar[type[BayesianOptions]] = BayesianOptions
    capabilities = Capabilities(objectives="single", asynchronous=True)
    options: BayesianOptions

    @classmethod
    def default_batch(cls, dimension: int) -> int:  # noqa: ARG003
        return 8

    def _start(self) -> None:
        d = self.space.dimension
        if d > LARGEST_DIMENSION:
            raise OptimizerError(
                f"bayesian has a length scale per dimension: at most {LARGEST_DIMENSION}, got {d}."
            )
        self._bins = Bins(self.space)
        self._batch = 1
        self._restarts = -1
        self._begin()

    def _begin(self) -> None:
        """A new run, with nothing known."""
        self._restarts += 1
        self._run_first_id = self._next_id
        self._designed = 0
        self._ids: IntArray = np.empty(0, dtype=np.int64)
        self._points = np.empty((0, self.space.dimension))
        self._losses = np.empty(0)  # infinite: failed
        self._counts = np.empty(0)  # evaluations of each
        self._theta = np.empty(0)
        self._length = _FIRST_LENGTH
        self._successes = self._failures = 0
        self._waiting = 0  # individuals told since the last step of the trust region ...
        self._waiting_better = False  # ... and whether one of them was better than all before

    def _sample(self, n: int) -> FloatArray:
        self._batch = n
        if not self._ready():
            return self._initial(n)
        ok = np.isfinite(self._losses)
        points, counts = self._points[ok], self._counts[ok]
        values = _standardised(self._losses[ok])
        features, groups = self._features(points)
        self._fit(features, groups, values, counts)
        chosen = np.empty((0, self.space.dimension))
        while len(chosen) < n:
            flying = np.array([*self._pending.values(), *chosen])[-_PENDING:].reshape(-1, len(points[0]))
            posterior = Posterior(features, groups, values, counts, self._theta)
            centre = points[int(np.argmin(posterior.mean(features)))]
            if len(flying):
                there = self._features(flying)[0]
                posterior = Posterior(
                    np.concatenate([features, there]),
                    groups,
                    np.concatenate([values, posterior.mean(there)]),
                    np.concatenate([counts, np.ones(len(there))]),
                    self._theta,
                )
            new = self._draw(posterior, centre, min(_AT_ONCE, n - len(chosen)), flying)
            chosen = np.concatenate([chosen, new])
        return chosen

    def _initial(self, n: int) -> FloatArray:
        """Evenly spread points, shape (n, dimension); the very first is the default."""
        seeds = [self.seed, self._restarts]
        points = next_points(sobol_sequence(self.space.dimension, seeds, self._designed), n)
        if not self._designed and self._restarts == 0:
            points[0] = self.space.encode(self.space.default())
        self._designed += n
        return self._bins.snap(points)

    def _ready(self) -> bool:
        """Enough is known for a model; where many fail, half of the initial points will do."""
        wanted = self.options.initial or 2 * self.space.dimension
        known = int(np.isfinite(self._losses).sum())
        return known >= wanted or (self._designed >= wanted and known >= max(2, wanted // 2))

    def _fit(self, features: FloatArray, groups: IntArray, values: FloatArray, counts: FloatArray) -> None:
        rows = best_and_newest(values, _FIT_POINTS)
        smooth, noisy = first_theta(self.space.dimension), first_theta(self.space.dimension)
        noisy[-1] = -1.0  # the likelihood often has one optimum that explains all, and one with noise
        starts = [smooth, noisy]
        iterations = _FIRST_ITERATIONS
        if len(self._theta):
            starts = [self._theta, starts[self._told // self._batch % 2]]
            iterations = _ITERATIONS
        self._theta = fit(features[rows], groups, values[rows], counts[rows], starts, iterations)

    def _draw(self, posterior: Posterior, centre: FloatArray, n: int, flying: FloatArray) -> FloatArray:
        """`n` points that are lowest in one function each, shape (n, dimension)."""
        half = self._half_sides(centre)
        candidates = self._candidates(centre, half)
        if self._bins.discrete.any():
            new = unknown(candidates, np.concatenate([self._points, flying]))
            candidates = new if len(new) else unknown(candidates, np.empty((0, len(centre))))
        drawn = posterior.sample(self._features(candidates)[0], n, self._rng)
        # Where one of five succeeds, one of five goes.
        drawn[self._success(candidates, half)[:, None] < self._rng.random(n)] = np.inf
        rows: list[int] = []
        for column in drawn.T:
            column[rows] = np.inf
            best = int(np.argmin(column))
            if not math.isfinite(column[best]):
                break
            rows.append(best)
        # A small space may have fewer points than were asked for.
        rest = self._bins.snap(self._rng.random((n - len(rows), len(centre))))
        return np.concatenate([candidates[rows], rest])

    def _half_sides(self, centre: FloatArray) -> FloatArray:
        """Of the trust region, shape (dimension,): in proportion to the length scales; a bin at least, and
        all choices."""
        lengths = self._theta[:-2]
        half = np.minimum(np.exp(lengths - lengths.mean()) * self._length / 2, 1.0)
        low, _, high = self._bins.of(centre[None])
        half = np.maximum(half, (high - low)[0])
        half[list(self._bins.choices)] = 1.0
        return np.asarray(half)

    def _candidates(self, centre: FloatArray, half: FloatArray) -> FloatArray:
        """Random points, shape (m, dimension): the centre with some coordinates replaced, about 20."""
        d, rng = self.space.dimension, self._rng
        m = self.options.candidates or min(1000, max(500, 50 * d))
        if self.options.trust_region:
            sides = np.broadcast_to(half, (m, d))
        else:
            # The whole cube for one half of them, boxes of all sizes around the best for the other.
            sides = np.where(np.arange(m) % 2 == 0, 1.0, 0.5 ** rng.integers(1, 8, m))[:, None] * np.ones(d)
        low, high = np.maximum(centre - sides, 0.0), np.minimum(centre + sides, 1.0)
        replaced = rng.random((m, d)) < min(1.0, 20 / d)
        replaced[np.arange(m), rng.integers(0, d, m)] = True
        return self._bins.snap(np.where(replaced, low + (high - low) * rng.random((m, d)), centre))

    def _success(self, candidates: FloatArray, half: FloatArray) -> FloatArray:
        """Probability of each not to fail, by the individuals near it, relative to the best one's; (m,)."""
        ok = np.isfinite(self._losses)
        if ok.all():
            return np.ones(len(candidates))
        side = 0.3 * half * math.sqrt(len(half))
        squares = cdist(candidates / side, self._points / side, "sqeuclidean")
        near = np.exp(-0.5 * squares)
        share = (near @ ok + ok.mean()) / (near.sum(axis=1) + 1.0)
        return np.asarray(share / share.max())

    def _features(self, units: FloatArray) -> tuple[FloatArray, IntArray]:
        """Columns for the kernel and the coordinate of each: choices one-hot, at a distance of 1."""
        points = self._bins.snap(units)
        columns, groups = [points], np.arange(self.space.dimension)
        if not self._bins.choices:
            return points, groups
        for coordinate, number in self._bins.choices.items():
            index = np.floor(points[:, coordinate] * number)
            columns.append((index[:, None] == np.arange(number)) / math.sqrt(2))
            groups = np.append(groups, np.full(number, coordinate))
        ordered = np.delete(np.arange(len(groups)), list(self._bins.choices))
        return np.asarray(np.concatenate(columns, axis=1)[:, ordered]), groups[ordered]

    def _observe(self, told: Told) -> None:
        self._add(told)

    def _learn(self, told: Told) -> None:
        """Individuals of an earlier run count no more."""
        mine = told.rows(told.ids >= self._run_first_id)
        if not len(mine.ids):
            return
        counting = self._ready()
        best = float(np.min(self._losses, initial=np.inf))
        self._add(mine)
        if not counting:
            return
        lowest = float(mine.losses[:, 0].min())
        self._waiting += len(mine.ids)
        self._waiting_better |= lowest < best and lowest < best - 1e-3 * min(abs(best), 1e300)
        if self._waiting >= self._batch:
            self._step()

    def _step(self) -> None:
        """The trust region after a batch: doubled after successes, halved after failures, left when tiny."""
        better, evaluated = self._waiting_better, self._waiting
        self._waiting, self._waiting_better = 0, False
        self._successes = self._successes + 1 if better else 0
        self._failures = 0 if better else self._failures + evaluated
        if self._successes >= _SUCCESSES:
            self._length, self._successes = min(_LARGEST_LENGTH, 2 * self._length), 0
        if self._failures >= max(4, self.space.dimension, _FAILED_BATCHES * self._batch):
            self._length, self._failures = self._length / 2, 0
        if self.options.trust_region and self._length < _SMALLEST_LENGTH:
            self._begin()

    def _add(self, told: Told) -> None:
        self._ids = np.concatenate([self._ids, told.ids])
        self._points = np.concatenate([self._points, told.genomes])
        self._losses = np.concatenate([self._losses, told.losses[:, 0]])
        self._counts = np.concatenate([self._counts, np.ones(len(told.ids))])
        rows = best_and_newest(self._losses, self.options.max_points)
        self._ids, self._points = self._ids[rows], self._points[rows]
        self._losses, self._counts = self._losses[rows], self._counts[rows]

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:
        here = self._ids == individual
        self._losses[here], self._counts[here] = loss, evaluations

    def _figures(self) -> dict[str, float]:
        figures = {"points": float(len(self._ids)), "length": self._length, "restarts": float(self._restarts)}
        if len(self._theta):
            figures["length_scale_min"] = float(np.exp(self._theta[:-2].min()))
            figures["length_scale_max"] = float(np.exp(self._theta[:-2].max()))
            figures["noise"] = math.exp(0.5 * (self._theta[-1] - self._theta[-2]))
        return figures

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        own = {
            "batch": self._batch,
            "restarts": self._restarts,
            "run_first_id": self._run_first_id,
            "designed": self._designed,
            "length": self._length,
            "successes": self._successes,
            "failures": self._failures,
            "waiting": self._waiting,
            "waiting_better": self._waiting_better,
        }
        return own, {
            "ids": self._ids,
            "points": self._points,
            "losses": self._losses,
            "counts": self._counts,
            "theta": self._theta,
        }

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._batch, self._restarts = own["batch"], own["restarts"]
        self._run_first_id, self._designed = own["run_first_id"], own["designed"]
        self._length = own["length"]
        self._successes, self._failures = own["successes"], own["failures"]
        self._waiting, self._waiting_better = own["waiting"], own["waiting_better"]
        self._ids, self._points = arrays["ids"], arrays["points"]
        self._losses, self._counts = arrays["losses"], arrays["counts"]
        self._theta = arrays["theta"]


def _standardised(losses: FloatArray) -> FloatArray:
    """Mean 0 and variance 1, with the bad tail clipped."""
    largest = float(np.abs(losses).max())
    values = losses / largest if largest else losses  # so that no square overflows or vanishes
    middle = float(np.median(values))
    values = np.minimum(values, middle + (middle - values.min()))
    values = values - values.mean()
    deviation = float(values.std())
    return np.asarray(values / deviation) if deviation > 0 else values
