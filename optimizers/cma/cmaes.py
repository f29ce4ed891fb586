"""CMA-ES with restarts: the default for real parameters.

The distribution is in `optimizers.cma.model`. Here: generations out of whatever is told, bounds, individuals
from elsewhere, and restarts (`optimizers.cma.restarts`).

* Bounds: the Gaussian lives in R^n. Samples outside are drawn again, where that soon succeeds; a genome is
  mapped to the cube by the periodic linear-quadratic transformation that is pycma's default
  (`BoundTransform`): the identity but for a margin at each bound. So every sample is valid, optima on the
  bounds can be reached, and no penalty has to be weighed.
* A generation is complete when lambda of the current run were told. Samples of earlier generations count
  (with their step limited); samples of an earlier run do not.
* Individuals from elsewhere: before the first generation they give the first distribution
  (`optimizers.cma.warm`), later the best of them join a generation, with their step limited.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from optimizers import OptimizerError
from optimizers.base import (
    Arrays,
    Capabilities,
    FloatArray,
    Migration,
    Optimizer,
    Options,
    Recommendation,
    Told,
)
from optimizers.bins import discrete, least_std
from optimizers.bounds import drawn_inside, from_unit, to_unit
from optimizers.cma.integers import keep_margin
from optimizers.cma.model import Model
from optimizers.cma.restarts import Policy, Restarts
from optimizers.cma.shapes import Kind, Strategy
from optimizers.cma.warm import Known
from optimizers.generations import Waiting
from optimizers.starts import Start, first_point
from optimizers.versions import part

LARGEST_FULL = 2000
LARGEST_AUTO = 300  # dimensions up to which the covariance is full by default
SMALLEST_POPULATION = 4


class CMAESOptions(Options):
    """Options of `cmaes`."""

    population: int | None = Field(
        None, ge=SMALLEST_POPULATION, description="lambda of the first run; null: as many as the first ask"
    )
    sigma: float = Field(
        0.25, ge=1e-9, le=1, description="first standard deviation, as a share of each range"
    )
    restarts: int = Field(9, ge=0, description="how often a converged run starts anew with lambda doubled")
    restart_policy: Policy = Field(
        "ipop", description="ipop: each run doubles lambda; bipop: small runs in between; none: one run"
    )
    start: Start = Field("default", description="first mean")
    covariance: Literal["auto", "full", "diagonal", "lowmemory"] = Field(
        "auto",
        description=f"auto: full up to {LARGEST_AUTO} dimensions, above diagonal, which learns scales only; "
        "lowmemory: a few directions",
    )
    learning_rate: Literal["fixed", "adapted"] = Field(
        "fixed", description="adapted: smaller steps where noise or many local optima blur the ranking"
    )


def _to_2(meta: dict[str, Any], arrays: Arrays) -> None:
    """Version 1 had full matrices, IPOP and a floor under whole numbers, and no order of infeasible ones."""
    own = meta["own"]
    model = own["model"]
    model["kind"] = "full"
    arrays["model.spread"] = np.ones(1)
    own["integers"] = "floor"
    doublings = own["restarts"]
    own["restarts"] = Restarts(own["population"] >> doublings, doublings, in_small=not doublings).save()
    arrays["told.violations"] = np.where(np.isfinite(arrays["told.losses"]), 0.0, np.inf)
    arrays |= Known(arrays["told.genomes"].shape[1]).save()


class CMAES(Optimizer):
    """Active CMA-ES with restarts."""

    name = "cmaes"
    summary = "CMA-ES: learns scales and correlations of real parameters; bears noise and many dimensions."
    format_version = 2
    migrations: ClassVar[Mapping[int, Migration]] = {1: _to_2}
    Options: ClassVar[type[CMAESOptions]] = CMAESOptions
    capabilities = Capabilities(objectives="single", asynchronous=True, constraints=True)
    options: CMAESOptions

    @classmethod
    def default_batch(cls, dimension: int) -> int:
        return 4 + int(3 * math.log(dimension))

    def _start(self) -> None:
        n = self.space.dimension
        self._kind: Kind = self._choose_kind()
        if n > LARGEST_FULL and self._kind == "full":
            raise OptimizerError(
                f"covariance: full keeps an n x n matrix: at most {LARGEST_FULL} dimensions, got {n}. "
                "Use diagonal or lowmemory."
            )
        self._discrete = discrete(self.space)
        self._integers = "margin"  # "floor": in states of version 1
        self._population = self.options.population or 0  # 0: the first ask will tell
        self._restarts = Restarts(self._population)
        self._converged = False
        self._run_first_id = 0  # individuals before it belong to an earlier run
        self._generation_first_id = 0  # individuals before it were drawn from an earlier distribution
        self._waiting = Waiting(n)  # told, and not yet part of a generation
        self._best_losses: list[float] = []  # best of each of the last generations of this run
        self._score = math.inf  # median loss of this run's last generation
        self._elder: tuple[float, FloatArray] | None = None  # score and mean of the best earlier run
        self._known = Known(n)
        mean = from_unit(first_point(self.space, self.options.start, self._rng))
        self._model = self._new_model(mean, self.options.sigma)

    def _choose_kind(self) -> Kind:
        if self.options.covariance == "auto":
            return "full" if self.space.dimension <= LARGEST_AUTO else "diagonal"
        return self.options.covariance

    def _new_model(self, mean: FloatArray, sigma: float) -> Model:
        return Model.start(mean, sigma, self._kind, self.options.learning_rate == "adapted")

    def _unit(self, genome: FloatArray) -> FloatArray:
        return to_unit(genome)

    def _genome(self, unit: FloatArray) -> FloatArray:
        return from_unit(unit)

    def _observe(self, told: Told) -> None:
        """Before the first generation the best known give the first distribution; later, those better than
        half of the last generation join the next one, a few at a time."""
        if not self._model.generation and not self._restarts.doublings:
            self._known.add(told.genomes, told.losses[:, 0], self._kind)
            self._model = self._new_model(self._model.mean, self.options.sigma)
            self._known.warm(self._model)
            self._generation_first_id = self._next_id
        elif not self._converged:
            few = told.order()[: max(1, self._population // 5)]
            better = np.zeros(len(told.ids), dtype=np.bool_)
            better[few] = told.losses[few, 0] < self._score
            self._gather(told.rows(better))

    def _sample(self, n: int) -> FloatArray:
        if not self._population:
            self._population = self._size_for(n, SMALLEST_POPULATION)
            self._restarts.first = self._population
        if self._model.rates is not None:  # they would take the narrower spread of those inside for a signal
            return self._model.sample(self._rng, n)
        return drawn_inside(lambda k: self._model.sample(self._rng, k), n)

    def _learn(self, told: Told) -> None:
        if not self._converged:
            self._gather(told.rows(told.ids >= self._run_first_id))

    def _gather(self, told: Told) -> None:
        self._waiting.add(told)
        while self._population and (generation := self._waiting.take(self._population)) is not None:
            self._next_generation(generation)

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._waiting.revise(individual, loss)

    def _next_generation(self, told: Told) -> None:
        self._restarts.spent += len(told.ids)
        n_ranked = int(np.isfinite(told.violations).sum())
        if not n_ranked:
            return  # nothing is known about which of them were better: the distribution stays
        order = told.order()
        model, n = self._model, self.space.dimension
        least = least_std(self.space, to_unit(model.mean)) if self._integers == "floor" else None
        strategy = Strategy.of(n, self._population, self._kind)
        injected = told.ids[order] < self._generation_first_id
        model.update(strategy, told.genomes[order], n_ranked, injected, least)
        if self._integers == "margin":
            keep_margin(model, self.space, self._discrete, 1 / (n * self._population))
        self._known = Known(n)
        self._generation_first_id = self._next_id
        losses = told.losses[told.ok, 0]
        if len(losses):
            self._score = 2 * float(np.median(losses / 2))  # the sum of two large losses is infinite
            self._best_losses = [*self._best_losses, float(losses.min())][-self._window() :]
        if model.exhausted(self.options.sigma) or self._flat(losses) or self._restarts.cut():
            self._restart()

    def _window(self) -> int:
        return 10 + math.ceil(30 * self.space.dimension / self._population)

    def _flat(self, losses: FloatArray) -> bool:
        """Nothing changes any more (tutorial, B.3: EqualFunValues and TolFun)."""
        if len(self._best_losses) < self._window() or not len(losses):
            return False
        spread = max(self._best_losses) - min(self._best_losses)
        return spread == 0 or (spread < 1e-12 and float(np.ptp(losses)) < 1e-12)

    def _restart(self) -> None:
        following = self._restarts.next(
            self.options.restart_policy, self.options.restarts, self._rng, SMALLEST_POPULATION
        )
        if following is None:
            self._converged = True
            return
        if self._score < (math.inf if self._elder is None else self._elder[0]):
            self._elder = (self._score, self._model.mean)
        self._population, narrower = following
        self._run_first_id = self._generation_first_id = self._next_id
        self._waiting.clear()
        self._best_losses = []
        self._score = math.inf
        mean = from_unit(self._rng.random(self.space.dimension))
        self._model = self._new_model(mean, self.options.sigma * narrower)

    def stop_reason(self) -> str | None:
        if not self._converged:
            return None
        return f"converged after {self._restarts.doublings + self._restarts.small} restarts"

    def recommend(self) -> Recommendation | None:
        """The mean of the distribution, which noise misleads less than the luckiest individual.

        Of several runs, the one with the lowest median loss in its last generation. Before the first
        generation is complete, the best individual told.
        """
        if self._elder is not None and self._elder[0] <= self._score:
            return Recommendation(self.space.decode(to_unit(self._elder[1])), None, None)
        if self._model.generation and math.isfinite(self._score):
            return Recommendation(self.space.decode(to_unit(self._model.mean)), None, None)
        return super().recommend()

    def _figures(self) -> dict[str, float]:
        std = self._model.std()
        figures = {
            "sigma": self._model.sigma,
            "axis_ratio": self._model.shape.axis_ratio(),
            "std_min": float(std.min()),
            "std_max": float(std.max()),
            "restarts": self._restarts.doublings,
            "small_runs": self._restarts.small,
            "population": self._population,
            "model_generation": self._model.generation,
            "waiting": len(self._waiting),
            "median_loss": self._score,
            "converged": self._converged,
        }
        if self._model.rates is not None:
            figures["rate_mean"] = self._model.rates.eta_mean
            figures["rate_covariance"] = self._model.rates.eta_covariance
        return figures

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        scalars, members = self._model.save()
        own = {
            "model": scalars,
            "integers": self._integers,
            "population": self._population,
            "restarts": self._restarts.save(),
            "converged": self._converged,
            "run_first_id": self._run_first_id,
            "generation_first_id": self._generation_first_id,
            "score": self._score if math.isfinite(self._score) else None,
            "elder_score": None if self._elder is None else self._elder[0],
        }
        members |= self._known.save()
        members |= {f"told.{name}": array for name, array in self._waiting.save().items()}
        members["told.losses"] = members["told.losses"][:, 0]
        members["best_losses"] = np.array(self._best_losses, dtype=np.float64)
        if self._elder is not None:
            members["elder_mean"] = self._elder[1]
        return own, members

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._population, self._restarts = own["population"], Restarts(**own["restarts"])
        self._integers, self._converged = own["integers"], own["converged"]
        self._run_first_id, self._generation_first_id = own["run_first_id"], own["generation_first_id"]
        self._score = math.inf if own["score"] is None else own["score"]
        self._elder = None if own["elder_score"] is None else (own["elder_score"], arrays["elder_mean"])
        self._waiting.load({**part(arrays, "told."), "losses": arrays["told.losses"][:, None]})
        self._best_losses = arrays["best_losses"].tolist()
        self._known = Known.load(arrays)
        self._model = Model.load(own["model"], arrays)
        self._kind = self._model.shape.kind
