"""Ensemble Kalman inversion: learns from what a model puts out, not from its loss alone.

An ensemble of parameter sets is moved by the Kalman formula so that the outputs come closer to the targets:
u_i += C_up (C_pp + gamma I)^-1 (y - p_i), with the covariances C of parameters u and outputs p within the
ensemble. No gradient, and the number of parameters (weights, say) matters little; but the update stays in
the span of the ensemble, so quality needs members.

Iglesias, Law and Stuart, "Ensemble Kalman methods for inverse problems" (2013); Kovachki and Stuart,
"Ensemble Kalman inversion: a derivative-free technique for machine learning tasks" (2019); choice of gamma
by the discrepancy principle for the linearised problem, as in Iglesias, "A regularizing iterative ensemble
Kalman method for PDE-constrained inverse problems" (2016); bounds by projection: Chada et al. (2019);
replacement of the worst members: Yegenoglu et al., "Exploring parameter and hyper-parameter spaces of
neuroscience models on high performance computers with Learning to Learn" (2022).

* The optimizee returns two metrics with every evaluation: the outputs, and the targets of the same shape.
  Those of all evaluations of an individual count together, as one mini-batch; it may be another one in each
  generation. All members must see the same one.
* The formula is solved in the space of the ensemble (J x J), or in that of the outputs if there are fewer.
* A generation is complete when J individuals asked in it were told. Failed ones, and those with another
  number of outputs than most, are replaced by samples around the best. Individuals told later are not used,
  because they may have seen another mini-batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, Field

from optimizers import OptimizerError
from optimizers.base import (
    NUMBERS,
    Arrays,
    Capabilities,
    Evaluated,
    FloatArray,
    Optimizer,
    Options,
    Recommendation,
    Told,
)
from optimizers.generations import Waiting

SMALLEST_POPULATION = 4
_LEAST_GAMMA = 1e-12  # in the sum of the outputs' variances
_KEPT = 256  # observations kept before the size of the ensemble is known


class EnsembleKalmanOptions(Options):
    """Options of `ensemble_kalman`."""

    outputs: str = Field("outputs", min_length=1, description="metric: what the model puts out")
    targets: str = Field("targets", min_length=1, description="metric: what it should put out, same shape")
    population: int | None = Field(
        None, ge=SMALLEST_POPULATION, description="members J of the ensemble; null: as many as the first ask"
    )
    gamma: float | None = Field(
        None, gt=0, description="variance of the noise of the outputs; null: adapted, see `reduction`"
    )
    reduction: float = Field(
        0.85, gt=0, lt=1, description="share of the residual that an adapted update should leave"
    )
    start: Literal["uniform", "default"] = Field(
        "uniform", description="first ensemble: over the whole space, or Gaussian around the default"
    )
    spread: float = Field(
        0.1, gt=0, le=1, description="standard deviation of a Gaussian start, as a share of each range"
    )
    perturbed: bool = Field(False, description="noise of variance gamma is added to the targets")
    inflation: float = Field(1.0, ge=1, le=2, description="factor of the ensemble's spread after each update")
    replace: float = Field(
        0.0, ge=0, le=0.5, description="share of the worst members replaced by samples around the best"
    )
    best: float = Field(0.1, gt=0, le=0.5, description="share of the best members that replace others")
    noise: float = Field(0.5, ge=0, description="standard deviation of such samples, in that of the ensemble")


class EnsembleKalman(Optimizer):
    """Members are points of the unit cube, cut off at its bounds."""

    name = "ensemble_kalman"
    summary = (
        "Ensemble Kalman inversion: fits many parameters to target outputs, such as weights of a network."
    )
    format_version = 1
    Options: ClassVar[type[EnsembleKalmanOptions]] = EnsembleKalmanOptions
    capabilities = Capabilities(objectives="single", asynchronous=False, kinds=NUMBERS)
    options: EnsembleKalmanOptions

    @classmethod
    def default_batch(cls, dimension: int) -> int:  # noqa: ARG003
        return 100

    @classmethod
    def measures(cls, options: BaseModel) -> tuple[str, ...]:
        assert isinstance(options, EnsembleKalmanOptions)
        return options.outputs, options.targets

    def _start(self) -> None:
        d = self.space.dimension
        if self.options.outputs == self.options.targets:
            raise OptimizerError("Options of ensemble_kalman: outputs and targets must be two metrics.")
        self._size = self.options.population or 0  # 0: the first ask will tell
        self._ensemble = np.empty((0, d))  # before the first ask: the best individuals observed
        self._observed_losses = np.empty(0)  # theirs
        self._asked = 0  # members asked in this generation
        self._first_id = 0  # individuals before it belong to an earlier generation
        self._updates = 0
        self._gamma = 0.0  # of the last update
        self._misfit = 0.0  # root mean square of the last residuals
        self._unusable = 0  # ok individuals with another number of outputs than most
        self._waiting = Waiting(d, 1, self.measures(self.options))

    def _observe(self, told: Told) -> None:
        """Before the first ask, the best individuals known become members of the first ensemble."""
        if self._asked or self._updates or self._first_id:
            return
        losses = np.concatenate([self._observed_losses, told.losses[:, 0]])
        best = np.argsort(losses, kind="stable")[: self._size or _KEPT]
        self._ensemble = np.concatenate([self._ensemble, told.genomes])[best]
        self._observed_losses = losses[best]

    def _sample(self, n: int) -> FloatArray:
        if not self._size:
            self._size = self._size_for(n, SMALLEST_POPULATION)
        if len(self._ensemble) < self._size or len(self._observed_losses):
            self._first_id = self._next_id
            self._fill()
        members = self._ensemble[self._asked : self._asked + n]
        self._asked += len(members)
        spare = self._around(self._ensemble, self._ensemble.std(axis=0), n - len(members))
        return np.concatenate([members, spare])

    def _fill(self) -> None:
        """The first ensemble: what was observed, and random members."""
        known, d = self._ensemble[: self._size], self.space.dimension
        missing = self._size - len(known)
        if self.options.start == "uniform":
            new = self._rng.random((missing, d))
        else:
            steps = self.options.spread * self._rng.standard_normal((missing, d))
            new = np.clip(self.space.encode(self.space.default()) + steps, 0.0, 1.0)
        self._ensemble = np.concatenate([known, new])
        self._observed_losses = np.empty(0)

    def _around(self, parents: FloatArray, std: FloatArray, n: int) -> FloatArray:
        """`n` Gaussian samples around some of the rows, shape (n, dimension)."""
        chosen = parents[self._rng.integers(0, len(parents), n)]
        steps = self.options.noise * std * self._rng.standard_normal(chosen.shape)
        return np.clip(chosen + steps, 0.0, 1.0)

    def tell(self, evaluated: Sequence[Evaluated]) -> None:
        """See `Optimizer.tell`; besides, outputs and targets of an individual must have the same shape."""
        for one in evaluated:
            given, wanted = (one.measures.get(name) for name in self.measures(self.options))
            if given is not None and wanted is not None and given.shape != wanted.shape:
                raise OptimizerError(
                    f"tell: individual {one.id} has {self.options.outputs} of shape {given.shape}, but "
                    f"{self.options.targets} of shape {wanted.shape}. Nothing was learned."
                )
        super().tell(evaluated)

    def _learn(self, told: Told) -> None:
        self._waiting.add(told.rows(told.ids >= self._first_id))
        if self._size and (complete := self._waiting.take(self._size)) is not None:
            self._next_generation(complete)

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._waiting.revise(individual, loss)

    def _next_generation(self, told: Told) -> None:
        """Make the next ensemble of J told individuals."""
        self._waiting.clear()
        self._asked, self._first_id = 0, self._next_id
        outputs, targets = (_flat(told.measures[name]) for name in self.measures(self.options))
        rows = _alike(outputs)
        self._unusable += int(told.ok.sum()) - len(rows)
        if not rows:
            # Nobody can be learned from: others, as far from each other as these were.
            self._ensemble = self._around(told.genomes, told.genomes.std(axis=0), self._size)
            return
        members, losses = told.genomes[rows], told.losses[rows, 0]
        std = members.std(axis=0) if len(rows) > 1 else told.genomes.std(axis=0)
        if len(rows) > 1:
            members = self._updated(
                members, np.array([outputs[i] for i in rows]), np.array([targets[i] for i in rows])
            )
        order = np.argsort(losses, kind="stable")
        parents = members[order[: max(1, round(self.options.best * len(rows)))]]
        kept = members[np.sort(order[: len(rows) - round(self.options.replace * len(rows))])]
        self._ensemble = np.concatenate([kept, self._around(parents, std, self._size - len(kept))])

    def _updated(self, members: FloatArray, outputs: FloatArray, targets: FloatArray) -> FloatArray:
        """The members after the Kalman update; shapes (k, dimension), (k, p), (k, p)."""
        residuals = targets - outputs
        scale = float(max(np.abs(outputs).max(initial=0.0), np.abs(residuals).max(initial=0.0)))
        if not 0 < scale < math.inf:
            return members
        residuals, outputs = residuals / scale, outputs / scale  # squares neither vanish nor overflow
        self._misfit = scale * float(np.sqrt((residuals**2).mean()))
        deviations = (outputs - outputs.mean(axis=0)) / math.sqrt(len(members))
        basis = None
        if deviations.shape[1] < len(members):
            basis, deviations = np.linalg.qr(deviations)
        gram = deviations @ deviations.T
        if self.options.gamma is None:
            gamma = adapted(gram, deviations @ residuals.mean(axis=0), self.options.reduction)
        else:
            gamma = min(self.options.gamma / scale / scale, 1e300) or 1e-300
        if not gamma > 0:
            return members  # all members put out the same
        # A smaller one would be lost in the rounding of the matrix, which is singular without it.
        gamma = max(gamma, _LEAST_GAMMA * float(np.trace(gram)))
        self._gamma = min(gamma * scale * scale, 1e300)
        if self.options.perturbed:
            residuals = residuals + math.sqrt(gamma) * self._rng.standard_normal(residuals.shape)
        # C_up (C_pp + gamma I)^-1 = U' (gamma I + A A')^-1 A, with A the deviations and U those of members;
        # with A = Q T it is U' Q (gamma I + T T')^-1 T.
        weights = np.linalg.solve(gram + gamma * np.eye(len(gram)), deviations @ residuals.T)
        mean = members.mean(axis=0)
        off = (members - mean) / math.sqrt(len(members))
        members = members + weights.T @ (off if basis is None else basis.T @ off)
        self._updates += 1
        mean = members.mean(axis=0)
        inflated: FloatArray = np.clip(mean + self.options.inflation * (members - mean), 0.0, 1.0)
        return inflated

    def recommend(self) -> Recommendation | None:
        """The mean of the ensemble, which was never evaluated itself; before the first update, the best."""
        if not self._updates:
            return super().recommend()
        return Recommendation(self.space.decode(self._ensemble.mean(axis=0)), None, None)

    def _figures(self) -> dict[str, float]:
        figures = {
            "population": float(self._size),
            "updates": float(self._updates),
            "waiting": float(len(self._waiting)),
            "unusable": float(self._unusable),
        }
        if self._updates:
            figures |= {"gamma": self._gamma, "residual": self._misfit}
        if len(self._ensemble):
            figures["diversity"] = float(self._ensemble.std(axis=0).mean())
        return figures

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        own = {
            "size": self._size,
            "asked": self._asked,
            "first_id": self._first_id,
            "updates": self._updates,
            "gamma": self._gamma,
            "misfit": self._misfit,
            "unusable": self._unusable,
        }
        arrays = {"ensemble": self._ensemble, "observed_losses": self._observed_losses}
        return own, {**arrays, **self._waiting.save()}

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._size, self._asked, self._first_id = own["size"], own["asked"], own["first_id"]
        self._updates, self._unusable = own["updates"], own["unusable"]
        self._gamma, self._misfit = own["gamma"], own["misfit"]
        self._ensemble, self._observed_losses = arrays["ensemble"], arrays["observed_losses"]
        self._waiting.load(arrays)


def adapted(gram: FloatArray, projected: FloatArray, reduction: float) -> float:
    """The gamma with which the linearised update leaves `reduction` of the mean residual, as far as the
    ensemble can change it at all; 0 if it cannot.

    `gram` (k, k) is A A' of the deviations A (k, p) of the outputs, `projected` (k,) is A r of the mean
    residual r. Along an eigenvector of A'A with the eigenvalue l, the update leaves gamma / (gamma + l) of r.
    """
    values, vectors = np.linalg.eigh(gram)
    used = values > values[-1] * len(values) * np.finfo(np.float64).eps
    values, along = values[used], (vectors.T @ projected)[used]
    energy = along**2 / values if len(values) else along
    if not energy.sum() > 0:
        return 0.0
    low, high = math.log(float(values[0])) - 40.0, math.log(float(values[-1])) + 40.0
    for _ in range(60):  # halves an interval of at most some hundred to less than float64 resolves
        middle = (low + high) / 2
        left = 1 / (1 + values * math.exp(-middle))
        if float((energy * left**2).sum()) < reduction**2 * float(energy.sum()):
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def _flat(measures: Sequence[FloatArray | None]) -> list[FloatArray | None]:
    """All evaluations of each individual, one after the other."""
    return [None if one is None else one.ravel() for one in measures]


def _alike(outputs: Sequence[FloatArray | None]) -> list[int]:
    """Rows with the most common number of outputs (of several, the largest)."""
    sizes = [one.size for one in outputs if one is not None]
    if not sizes:
        return []
    usual = max(set(sizes), key=lambda size: (sizes.count(size), size))
    return [i for i, one in enumerate(outputs) if one is not None and one.size == usual]
