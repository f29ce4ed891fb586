"""What NSGA-II and NSGA-III share: a population for several objectives, in a steady state.

Individuals are children of the population by simulated binary crossover and polynomial mutation; the first
mu are uniform in the cube. Whoever is told joins the population, which then falls back to mu by constrained
dominance (Deb et al. 2002): feasible ones by fronts, then infeasible ones by violation, then failed ones.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any

import numpy as np
from pydantic import Field, FiniteFloat

from optimizers import OptimizerError
from optimizers.base import Arrays, FloatArray, IntArray, Optimizer, Options, Told
from optimizers.bins import unordered
from optimizers.pareto import hypervolume, nondominated_ranks
from optimizers.population.variation import distinct, polynomial_mutation, sbx_crossover

SMALLEST_POPULATION = 4
LARGEST_VOLUME = 4  # objectives; with more, the hypervolume takes too long for a diagnostic


class NSGAOptions(Options):
    """Options of `nsga2` and `nsga3`."""

    population: int | None = Field(
        None, ge=SMALLEST_POPULATION, description="mu, parents kept; null: as many as the first ask"
    )
    crossover: float = Field(0.9, ge=0, le=1, description="probability that a child has two parents")
    crossover_eta: float = Field(15.0, ge=0, description="the larger, the nearer to its parents a child is")
    mutation_rate: float | None = Field(
        None, gt=0, le=1, description="probability per coordinate; null: 1 / dimension"
    )
    mutation_eta: float = Field(20.0, ge=0, description="the larger, the smaller the mutations")
    reference: Annotated[list[FiniteFloat], Field(min_length=2)] | None = Field(
        None, description="losses below which the hypervolume of the front is reported; null: not reported"
    )


class NSGA(Optimizer):
    """A subclass says which of a split front survive, and who wins a tournament."""

    options: NSGAOptions

    @classmethod
    def default_batch(cls, dimension: int) -> int:  # noqa: ARG003
        return 100

    def _start(self) -> None:
        reference = self.options.reference
        if reference is not None and len(reference) != self.n_objectives:
            raise OptimizerError(
                f"Options of {self.name}: reference has {len(reference)} losses, the optimizee has "
                f"{self.n_objectives} objectives."
            )
        self._unordered = unordered(self.space)
        self._size = self.options.population or 0  # 0: the first ask will tell
        self._ids: IntArray = np.empty(0, dtype=np.int64)
        self._genomes = np.empty((0, self.space.dimension))
        self._losses = np.empty((0, self.n_objectives))
        self._violations = np.empty(0)

    @abstractmethod
    def _survivors(self, losses: FloatArray, rows: IntArray, front: IntArray, room: int) -> IntArray:
        """Which `room` of the feasible `front` stay; `rows`, of the fronts before it, all do.

        Args:
            losses: shape (n, n_objectives), of all candidates; rows and front are indices into it.
        """

    @abstractmethod
    def _parents(self, n: int, among: int) -> IntArray:
        """Rows of `n` parents, of the first `among` of the population."""

    def _sample(self, n: int) -> FloatArray:
        if not self._size:
            self._size = self._size_for(n, SMALLEST_POPULATION)
            self._keep(self._ids, self._genomes, self._losses, self._violations)
        known = np.concatenate([self._genomes, *(genome[None] for genome in self._pending.values())])
        return distinct(self.space, known, n, self._children)

    def _children(self, n: int) -> FloatArray:
        """`n` new genomes: uniform ones until mu individuals were told and two of them can be ranked."""
        parents = int(np.isfinite(self._violations).sum())  # the population is sorted, failed ones are last
        if len(self._ids) < self._size or parents < 2:
            return self._rng.random((n, self.space.dimension))
        first, second = self._parents(n, parents), self._parents(n, parents)
        options = self.options
        children = sbx_crossover(
            self._rng,
            self._genomes[first],
            self._genomes[second],
            options.crossover,
            options.crossover_eta,
            self._unordered,
        )
        rate = options.mutation_rate or 1 / self.space.dimension
        return polynomial_mutation(self._rng, children, rate, options.mutation_eta, self._unordered)

    def _learn(self, told: Told) -> None:
        self._keep(
            np.concatenate([self._ids, told.ids]),
            np.concatenate([self._genomes, told.genomes]),
            np.concatenate([self._losses, told.losses]),
            np.concatenate([self._violations, told.violations]),
        )

    def _keep(self, ids: IntArray, genomes: FloatArray, losses: FloatArray, violations: FloatArray) -> None:
        """The best mu of these, sorted by front, then violation, then id."""
        size = self._size or len(ids)  # observed before the first ask
        feasible = np.flatnonzero(np.isfinite(losses[:, 0]))
        ranks = nondominated_ranks(losses[feasible])
        chosen: IntArray = np.empty(0, dtype=np.int64)
        rank = 0
        while len(chosen) < min(size, len(feasible)):
            front = feasible[ranks == rank]
            if len(chosen) + len(front) > size:
                front = self._survivors(losses, chosen, front, size - len(chosen))
            chosen = np.concatenate([chosen, front[np.argsort(ids[front], kind="stable")]])
            rank += 1
        others = np.flatnonzero(~np.isfinite(losses[:, 0]))
        others = others[np.lexsort((ids[others], violations[others]))]
        chosen = np.concatenate([chosen, others[: size - len(chosen)]])
        self._ids, self._genomes = ids[chosen], genomes[chosen]
        self._losses, self._violations = losses[chosen], violations[chosen]
        self._rank()

    def _rank(self) -> None:
        """The population has changed: prepare `_parents`."""

    def _feasible(self) -> FloatArray:
        """Losses of the feasible part of the population, which comes first."""
        return self._losses[: int((self._violations == 0).sum())]

    def _figures(self) -> dict[str, float]:
        figures = {
            "population": float(len(self._ids)),
            "feasible": float(len(self._feasible())),
        }
        if self.options.reference is not None and self.n_objectives <= LARGEST_VOLUME:
            reference = np.array(self.options.reference)
            figures["hypervolume"] = hypervolume(self._front.losses, reference)
        return figures

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        return {"size": self._size}, {
            "ids": self._ids,
            "genomes": self._genomes,
            "losses": self._losses,
            "violations": self._violations,
        }

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._size = own["size"]
        self._ids, self._genomes = arrays["ids"], arrays["genomes"]
        self._losses, self._violations = arrays["losses"], arrays["violations"]
        self._rank()
