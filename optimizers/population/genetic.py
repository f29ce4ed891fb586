"""Real-coded genetic algorithm: robust on rugged and mixed spaces, and never waits for a generation.

(mu + lambda) selection, binary choice between blend crossover and a copy of a parent, Gaussian mutation.
The operators and the strong selection (tournaments of 15) are those of the L2L framework's genetic
algorithm (Yegenoglu et al., "Exploring parameter and hyper-parameter spaces of neuroscience models on
high performance computers with Learning to Learn", Frontiers in Computational Neuroscience 16, 2022);
blend crossover: Eshelman and Schaffer, "Real-coded genetic algorithms and interval-schemata" (1993).
Elitism and the refusal of duplicates are added.

Steady state comes for free: parents are always the best mu told so far, whoever is still being evaluated.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from optimizers.base import Arrays, Capabilities, FloatArray, IntArray, Migration, Optimizer, Options, Told
from optimizers.population.variation import distinct

SMALLEST_POPULATION = 4


class GeneticOptions(Options):
    """Options of `genetic`."""

    population: int | None = Field(
        None, ge=SMALLEST_POPULATION, description="mu, parents kept; null: as many as the first ask"
    )
    tournament: int = Field(15, ge=1, le=1000, description="candidates for each parent; more is greedier")
    crossover: float = Field(0.5, ge=0, le=1, description="probability that a child has two parents")
    blend: float = Field(0.5, ge=0, le=100, description="how far a child may lie outside its parents (alpha)")
    mutation: float = Field(0.1, gt=0, le=1, description="standard deviation, as a share of each range")
    mutation_rate: float | None = Field(
        None, gt=0, le=1, description="probability per coordinate; null: 0.3 / dimension, at least 0.02"
    )


def _to_2(meta: dict[str, Any], arrays: Arrays) -> None:  # noqa: ARG001
    """Version 1 did not know how far infeasible individuals were from being feasible."""
    arrays["violations"] = np.where(np.isfinite(arrays["losses"]), 0.0, np.inf)


class Genetic(Optimizer):
    """Population of the best mu individuals told, sorted by loss."""

    name = "genetic"
    summary = "Genetic algorithm: robust on rugged or mixed spaces; keeps every node busy."
    format_version = 2
    migrations: ClassVar[dict[int, Migration]] = {1: _to_2}
    Options: ClassVar[type[GeneticOptions]] = GeneticOptions
    capabilities = Capabilities(objectives="single", asynchronous=True, constraints=True)
    options: GeneticOptions

    def _start(self) -> None:
        self._size = self.options.population or 0  # 0: the first ask will tell
        self._ids: IntArray = np.empty(0, dtype=np.int64)
        self._genomes = np.empty((0, self.space.dimension))
        self._losses = np.empty(0)
        self._violations = np.empty(0)

    def _sample(self, n: int) -> FloatArray:
        if not self._size:
            self._size = self._size_for(n, SMALLEST_POPULATION)
            self._keep(self._ids, self._genomes, self._losses, self._violations)
        known = np.concatenate([self._genomes, *(genome[None] for genome in self._pending.values())])
        # A parent that is crossed with itself gives children that differ from it in the last bit at most.
        return distinct(self.space, known, n, self._children)

    def _children(self, n: int) -> FloatArray:
        """`n` new genomes: uniform ones until mu individuals were told and one of them can be ranked."""
        parents = int(np.isfinite(self._violations).sum())
        d, rng = self.space.dimension, self._rng
        if len(self._losses) < self._size or not parents:
            return rng.random((n, d))
        # The population is sorted, so the smallest index wins a tournament.
        first, second = rng.integers(0, parents, (2, self.options.tournament, n)).min(axis=1)
        one, other = self._genomes[first], self._genomes[second]
        alpha = self.options.blend
        share = (1 + 2 * alpha) * rng.random((n, d)) - alpha
        crossed = rng.random((n, 1)) < self.options.crossover
        child: FloatArray = np.where(crossed, (1 - share) * one + share * other, one)
        rate = self.options.mutation_rate or max(0.02, 0.3 / d)
        mutated = rng.random((n, d)) < rate
        # Whoever would be a copy of a parent is mutated in at least one coordinate.
        mutated[np.arange(n), rng.integers(0, d, n)] |= (child == one).all(axis=1)
        child = child + mutated * rng.standard_normal((n, d)) * self.options.mutation
        return np.clip(child, 0.0, 1.0)

    def _learn(self, told: Told) -> None:
        ids = np.concatenate([self._ids, told.ids])
        losses = np.concatenate([self._losses, told.losses[:, 0]])
        violations = np.concatenate([self._violations, told.violations])
        self._keep(ids, np.concatenate([self._genomes, told.genomes]), losses, violations)

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._losses[self._ids == individual] = loss
        self._keep(self._ids, self._genomes, self._losses, self._violations)

    def _keep(self, ids: IntArray, genomes: FloatArray, losses: FloatArray, violations: FloatArray) -> None:
        """The best mu of these: ok ones by loss, then infeasible ones by violation, then failed ones."""
        best = np.lexsort((ids, violations, losses))
        best = best[: self._size or len(best)]  # observed before the first ask
        self._ids, self._genomes = ids[best], genomes[best]
        self._losses, self._violations = losses[best], violations[best]

    def _figures(self) -> dict[str, float]:
        finite = self._losses[np.isfinite(self._losses)]
        figures = {"population": float(len(self._losses)), "parents": float(len(finite))}
        if len(finite):
            figures["median_loss"] = 2 * float(np.median(finite / 2))
            # Mean over the coordinates of the standard deviation; 0 means that the population is one point.
            figures["diversity"] = float(self._genomes[: len(finite)].std(axis=0).mean())
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
