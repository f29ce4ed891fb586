"""Tree-structured Parzen estimator: models where good individuals are, and where the others.

The individuals told are split into the best ones and the rest; a mixture with one kernel per individual,
and a wide one for the prior, stands for each part. Candidates are drawn from the mixture of the good ones,
and the one where the ratio of the two densities is largest is taken (Bergstra, Bardenet, Bengio and Kegl,
"Algorithms for hyper-parameter optimization", NeurIPS 2011). `multivariate`: a kernel covers all coordinates,
so the mixture knows interactions (Falkner, Klein and Hutter, "BOHB", ICML 2018).

* Numbers: Gaussian kernels cut off at the bounds; for whole numbers and ordinals the probability of the bin.
  Choices: a probability for each, without an order.
* Pending individuals, and those of the same ask, count among the rest, so that nobody else is sent to the
  same place (constant liar: Ginsbourger, Le Riche and Carraro, 2010).
* Infeasible individuals come after all ok ones, those closer to feasible first; failed ones are never good.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from scipy.special import log_ndtr, logsumexp, ndtr, ndtri

from optimizers.base import Arrays, Capabilities, FloatArray, IntArray, Optimizer, Options, Told
from optimizers.bins import Bins
from optimizers.low_discrepancy import next_points, sobol_sequence
from optimizers.models.points import best_and_newest, unknown

_MOST_GOOD = 25
_ROUNDS = 4  # attempts at candidates that are not known yet, before known ones are accepted
_PENDING = 500  # the newest pending individuals that are taken into account


class TPEOptions(Options):
    """Options of `tpe`."""

    multivariate: bool = Field(True, description="kernels over all coordinates; false: each coordinate alone")
    initial: int | None = Field(
        None, ge=1, description="evaluated points before the model is used; null: 2 * dimension, at least 10"
    )
    good: float = Field(0.15, gt=0, lt=1, description=f"share of the good ones, at most {_MOST_GOOD} of them")
    candidates: int = Field(
        64, ge=1, le=1000, description="draws of which the best is taken; more is greedier"
    )
    max_points: int = Field(
        1000, ge=20, le=5000, description="points that are kept: half of them the best, half the newest"
    )


class TPE(Optimizer):
    """The points told, up to a number. The mixtures are made anew for every individual."""

    name = "tpe"
    summary = "Tree-structured Parzen estimator: small budgets in spaces with many choices."
    format_version = 1
    Options: ClassVar[type[TPEOptions]] = TPEOptions
    capabilities = Capabilities(objectives="single", asynchronous=True, constraints=True)
    options: TPEOptions

    @classmethod
    def default_batch(cls, dimension: int) -> int:  # noqa: ARG003
        return 8

    def _start(self) -> None:
        self._bins = Bins(self.space)
        self._designed = 0
        self._ids: IntArray = np.empty(0, dtype=np.int64)
        self._points = np.empty((0, self.space.dimension))
        self._losses = np.empty(0)
        self._violations = np.empty(0)

    def _sample(self, n: int) -> FloatArray:
        d = self.space.dimension
        ranked = np.lexsort((self._ids, self._violations, self._losses))
        judged = int(np.isfinite(self._violations).sum())  # those that failed come last
        if judged < (self.options.initial or max(10, 2 * d)):
            points = next_points(sobol_sequence(d, self.seed, self._designed), n)
            if not self._designed:
                points[0] = self.space.encode(self.space.default())
            self._designed += n
            return self._bins.snap(points)
        size = min(_MOST_GOOD, math.ceil(self.options.good * judged))
        good = Mixture(self._points[ranked[:size]], self._bins, self.options.multivariate)
        rest = self._points[ranked[size:]]
        flying = self._bins.snap(np.array(list(self._pending.values())[-_PENDING:]).reshape(-1, d))
        chosen = np.empty((0, d))
        for _ in range(n):
            newest = np.concatenate([flying, chosen])[-_PENDING:]
            others = Mixture(np.concatenate([rest, newest]), self._bins, self.options.multivariate)
            known = np.concatenate([self._points, newest])
            chosen = np.concatenate([chosen, self._choose(good, others, known)[None]])
        return chosen

    def _choose(self, good: Mixture, others: Mixture, known: FloatArray) -> FloatArray:
        for last in [False] * (_ROUNDS - 1) + [True]:
            candidates = good.draw(self.options.candidates, self._rng)
            if self._bins.discrete.all() and not last:
                candidates = unknown(candidates, known)
            if len(candidates):
                break
        ratio = good.log_density(candidates) - others.log_density(candidates)
        # One column for the whole, or one for each coordinate.
        best = np.argmax(ratio, axis=0)
        if ratio.shape[1] == 1:
            return np.asarray(candidates[best[0]])
        return np.asarray(candidates[best, np.arange(len(best))])

    def _learn(self, told: Told) -> None:
        self._ids = np.concatenate([self._ids, told.ids])
        self._points = np.concatenate([self._points, self._bins.snap(told.genomes)])
        self._losses = np.concatenate([self._losses, told.losses[:, 0]])
        self._violations = np.concatenate([self._violations, told.violations])
        rank = np.empty(len(self._ids))
        rank[np.lexsort((self._ids, self._violations, self._losses))] = np.arange(len(rank))
        rows = best_and_newest(rank, self.options.max_points)
        self._ids, self._points = self._ids[rows], self._points[rows]
        self._losses, self._violations = self._losses[rows], self._violations[rows]

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._losses[self._ids == individual] = loss

    def _figures(self) -> dict[str, float]:
        return {"points": float(len(self._ids))}

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        return {"designed": self._designed}, {
            "ids": self._ids,
            "points": self._points,
            "losses": self._losses,
            "violations": self._violations,
        }

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._designed = own["designed"]
        self._ids, self._points = arrays["ids"], arrays["points"]
        self._losses, self._violations = arrays["losses"], arrays["violations"]


class Mixture:
    """A kernel for each of k points, shape (k, dimension), and one for the prior, all of the same weight."""

    def __init__(self, points: FloatArray, bins: Bins, multivariate: bool) -> None:
        k, d = points.shape
        self._bins, self._multivariate = bins, multivariate
        self._centres = np.concatenate([points, np.full((1, d), 0.5)])
        spread = points.std(axis=0) if k > 1 else np.full(d, 0.25)
        width = 1.06 * spread * max(k, 1) ** (-1 / ((d if multivariate else 1) + 4))  # Scott's rule
        least = 1 / min(100, 5 + 2 * k)
        self._widths = np.concatenate([np.broadcast_to(np.clip(width, least, 1.0), (k, d)), np.ones((1, d))])
        self._low, self._high = ndtr(-self._centres / self._widths), ndtr((1 - self._centres) / self._widths)

    def draw(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Shape (n, dimension); discrete coordinates in the middle of their bins."""
        k, d = self._centres.shape
        kernels = rng.integers(0, k, (n, 1 if self._multivariate else d))
        kernels, columns = np.broadcast_arrays(kernels, np.arange(d))
        low, high = self._low[kernels, columns], self._high[kernels, columns]
        place = rng.random((n, d))
        drawn = self._centres[kernels, columns] + self._widths[kernels, columns] * ndtri(
            low + (high - low) * place
        )
        for column, number in self._bins.choices.items():
            table = np.cumsum(self._choices(column, number), axis=1)[kernels[:, column]]
            index = (place[:, column, None] > table[:, :-1]).sum(axis=1)
            drawn[:, column] = (index + 0.5) / number
        return self._bins.snap(np.clip(drawn, 0.0, 1.0))

    def log_density(self, points: FloatArray) -> FloatArray:
        """Shape (n, 1), or (n, dimension) where each coordinate is alone."""
        low, _, high = self._bins.of(points)
        parts = np.empty((len(points), *self._centres.shape))
        smooth = ~self._bins.discrete
        centres, widths = self._centres[None], self._widths[None]
        mass = np.log(self._high - self._low)[None]
        scale = np.log(widths * math.sqrt(2 * math.pi))
        parts[..., smooth] = (-0.5 * ((points[:, None] - centres) / widths) ** 2 - scale - mass)[..., smooth]
        for column in np.flatnonzero(self._bins.discrete).tolist():
            if number := self._bins.choices.get(column):
                index = np.floor(points[:, column] * number).astype(np.int64)
                parts[..., column] = np.log(self._choices(column, number)).T[index]
            else:
                start = (low[:, None, column] - centres[..., column]) / widths[..., column]
                end = (high[:, None, column] - centres[..., column]) / widths[..., column]
                parts[..., column] = _log_probability(start, end) - mass[..., column]
        whole = parts.sum(axis=2, keepdims=True) if self._multivariate else parts
        return np.asarray(logsumexp(whole, axis=1)) - math.log(len(self._centres))

    def _choices(self, column: int, number: int) -> FloatArray:
        """Probability of each choice by each kernel, shape (k + 1, number): the point's own, mostly."""
        k = len(self._centres) - 1
        table = np.full((k + 1, number), 1 / (k + 1))
        own = np.minimum(np.floor(self._centres[:k, column] * number), number - 1).astype(np.int64)
        table[np.arange(k), own] += 1.0
        return np.asarray(table / table.sum(axis=1, keepdims=True))


def _log_probability(start: FloatArray, end: FloatArray) -> FloatArray:
    """Logarithm of the standard normal's probability between two points, also far in the tails."""
    swap = start > 0  # on the lower side, small probabilities keep their digits
    low, high = np.where(swap, -end, start), np.where(swap, -start, end)
    one, other = log_ndtr(high), log_ndtr(low)
    return np.asarray(one + np.log1p(-np.exp(np.minimum(other - one, -1e-15))))
