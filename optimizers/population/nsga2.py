"""NSGA-II: the standard for two objectives.

Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE
Transactions on Evolutionary Computation 6 (2002). In a steady state (Durillo et al., "On the effect of the
steady-state selection scheme in multi-objective genetic algorithms", 2009): individuals join the population
as they are told. Of a front that must be split, the most crowded one leaves, again and again.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from optimizers.base import Capabilities, FloatArray, IntArray
from optimizers.pareto import crowding_distance, nondominated_ranks, thin
from optimizers.population.nondominated_sorting import NSGA, NSGAOptions


class NSGA2(NSGA):
    """Population of mu; ranks and crowding distances are functions of it, so they are no state."""

    name = "nsga2"
    summary = "NSGA-II: the Pareto front of two or three objectives; keeps every node busy."
    format_version = 1
    Options: ClassVar[type[NSGAOptions]] = NSGAOptions
    capabilities = Capabilities(objectives="multi", asynchronous=True, constraints=True)

    def _survivors(self, losses: FloatArray, rows: IntArray, front: IntArray, room: int) -> IntArray:  # noqa: ARG002
        return front[thin(losses[front], room)]

    def _rank(self) -> None:
        losses = self._feasible()
        n = len(losses)
        self._ranks = np.full(len(self._ids), n)  # of infeasible ones: after all feasible ones, by violation
        self._ranks[n:] += np.unique(self._violations[n:], return_inverse=True)[1].reshape(-1)
        self._ranks[:n] = nondominated_ranks(losses)
        self._crowding = np.zeros(len(self._ids))
        for rank in range(int(self._ranks[:n].max(initial=-1)) + 1):
            front = np.flatnonzero(self._ranks[:n] == rank)
            self._crowding[front] = crowding_distance(losses[front])

    def _parents(self, n: int, among: int) -> IntArray:
        """Binary tournaments by front, then by crowding."""
        one, other = self._rng.integers(0, among, (2, n))
        ranks, crowding = self._ranks, self._crowding
        same = ranks[one] == ranks[other]
        lost = (ranks[one] > ranks[other]) | (same & (crowding[one] < crowding[other]))
        winners: IntArray = np.where(lost, other, one)
        return winners
