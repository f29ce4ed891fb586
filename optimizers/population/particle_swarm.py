"""Particle swarm: individuals fly on, drawn to their own best point and to that of their neighbours.

Kennedy and Eberhart, "Particle swarm optimization" (1995); the default coefficients are the constriction of
Clerc and Kennedy, "The particle swarm - explosion, stability, and convergence in a multidimensional complex
space", IEEE Transactions on Evolutionary Computation 6 (2002). The update with constriction and the one with
an inertia weight are the same formula with other coefficients, so `inertia`, `cognitive` and `social` are
options. Ring: Kennedy and Mendes, "Population structure and particle swarm performance" (2002).

Asynchronous: a particle moves when it is its turn, by the best points known then. One whose last position is
still being evaluated flies on only if all others are under way too.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from optimizers.base import Arrays, Capabilities, FloatArray, IntArray, Optimizer, Options, Told

SMALLEST_SWARM = 3
LARGEST_DEFAULT = 20  # with more, small budgets have too few moves
_BOUNCE = -0.5  # of the velocity at a bound
_FASTEST = 0.5  # of the cube, per move


class ParticleSwarmOptions(Options):
    """Options of `particle_swarm`."""

    swarm: int | None = Field(
        None,
        ge=SMALLEST_SWARM,
        description=f"particles; null: as many as the first ask, at most {LARGEST_DEFAULT}",
    )
    topology: Literal["ring", "global"] = Field(
        "global", description="who informs a particle: both neighbours (slower, wider search) or all"
    )
    inertia: float = Field(0.7298, ge=0, lt=1, description="share of the velocity that is kept")
    cognitive: float = Field(1.49618, ge=0, le=4, description="pull of a particle's own best point")
    social: float = Field(1.49618, ge=0, le=4, description="pull of the best point of its neighbours")


class ParticleSwarm(Optimizer):
    """Positions, velocities and best points of the particles."""

    name = "particle_swarm"
    summary = "Particle swarm: quick progress on smooth and moderately rugged losses; keeps every node busy."
    format_version = 1
    Options: ClassVar[type[ParticleSwarmOptions]] = ParticleSwarmOptions
    capabilities = Capabilities(objectives="single", asynchronous=True, constraints=True)
    options: ParticleSwarmOptions

    @classmethod
    def default_batch(cls, dimension: int) -> int:
        return 10 + int(2 * math.sqrt(dimension))

    def _start(self) -> None:
        d = self.space.dimension
        self._size = 0  # particles; 0: the first ask will tell
        self._flights: dict[int, int] = {}  # pending individual -> particle
        self._moves = 0
        self._moved: IntArray = np.empty(0, dtype=np.int64)  # when each particle moved last; 0: never
        self._positions = np.empty((0, d))
        self._velocities = np.empty((0, d))
        # Best point of each particle; before the first ask, what was observed.
        self._ids: IntArray = np.empty(0, dtype=np.int64)
        self._genomes = np.empty((0, d))
        self._losses = np.empty(0)
        self._violations = np.empty(0)

    def _begin(self, size: int) -> None:
        """Place the particles at random; the best of what was observed are best points."""
        d, known = self.space.dimension, min(size, len(self._ids))
        best = np.lexsort((self._ids, self._violations, self._losses))[:known]
        genomes, losses, violations = self._genomes[best], self._losses[best], self._violations[best]
        self._size = size
        self._positions = self._rng.random((size, d))
        self._velocities = self._rng.uniform(-0.25, 0.25, (size, d))
        self._moved = np.zeros(size, dtype=np.int64)
        self._ids = np.append(self._ids[best], np.full(size - known, -1))
        self._genomes = np.concatenate([genomes, self._positions[known:]])
        self._losses = np.append(losses, np.full(size - known, np.inf))
        self._violations = np.append(violations, np.full(size - known, np.inf))

    def _sample(self, n: int) -> FloatArray:
        if not self._size:
            self._begin(self.options.swarm or self._size_for(min(n, LARGEST_DEFAULT), SMALLEST_SWARM))
        best = self._informants()
        points = []
        for individual, particle in enumerate(self._turns(n), self._next_id):
            self._flights[individual] = particle
            if self._moved[particle]:
                self._move(particle, int(best[particle]))
            self._moves += 1
            self._moved[particle] = self._moves
            points.append(self._positions[particle].copy())
        return np.array(points)

    def _turns(self, n: int) -> list[int]:
        """The next `n` particles: those with the fewest flights under way, then those that moved first."""
        particles = np.array(list(self._flights.values()), dtype=np.int64)
        in_flight = np.bincount(particles, minlength=self._size)
        moved = self._moved.copy()
        turns: list[int] = []
        while len(turns) < n:
            order = np.lexsort((moved, in_flight))
            level = order[in_flight[order] == in_flight[order[0]]][: n - len(turns)]
            in_flight[level] += 1
            moved[level] = moved.max() + 1 + np.arange(len(level))
            turns += level.tolist()
        return turns

    def _informants(self) -> IntArray:
        """For each particle, the one whose best point draws it."""
        order = np.lexsort((self._ids, self._violations, self._losses))
        if self.options.topology == "global":
            return np.full(self._size, order[0])
        rank = np.empty(self._size, dtype=np.int64)
        rank[order] = np.arange(self._size)
        near = np.arange(self._size)[:, None] + np.array([-1, 0, 1])
        near %= self._size
        chosen: IntArray = near[np.arange(self._size), rank[near].argmin(axis=1)]
        return chosen

    def _move(self, particle: int, informant: int) -> None:
        d, options = self.space.dimension, self.options
        position = self._positions[particle]
        velocity = options.inertia * self._velocities[particle]
        pulls = ((particle, options.cognitive), (informant, options.social))
        for best, pull in pulls:
            chance = self._rng.random(d)
            if np.isfinite(self._violations[best]):  # a failure draws nobody
                velocity = velocity + pull * chance * (self._genomes[best] - position)
        if not np.isfinite(self._violations[informant]):
            # Nothing is known around here: it would only come to rest among the failures.
            position, velocity = self._rng.random(d), self._rng.uniform(-0.25, 0.25, d)
        velocity = np.clip(velocity, -_FASTEST, _FASTEST)
        moved = position + velocity
        outside = (moved < 0) | (moved > 1)
        self._velocities[particle] = np.where(outside, _BOUNCE * velocity, velocity)
        self._positions[particle] = np.clip(moved, 0.0, 1.0)

    def _learn(self, told: Told) -> None:
        for row in range(len(told.ids)):
            particle = self._flights.pop(int(told.ids[row]))
            self._improve(particle, told, row)

    def _observe(self, told: Told) -> None:
        """The best points known are remembered by those particles that have the worst ones."""
        if not self._size:
            self._ids = np.concatenate([self._ids, told.ids])
            self._genomes = np.concatenate([self._genomes, told.genomes])
            self._losses = np.concatenate([self._losses, told.losses[:, 0]])
            self._violations = np.concatenate([self._violations, told.violations])
            return
        for row in told.order().tolist():
            worst = np.lexsort((self._ids, self._violations, self._losses))[-1]
            self._improve(int(worst), told, row)

    def _improve(self, particle: int, told: Told, row: int) -> None:
        """A particle's best point is this one, if it is better."""
        new = float(told.losses[row, 0]), float(told.violations[row])
        if new < (self._losses[particle], self._violations[particle]):
            self._ids[particle], self._genomes[particle] = told.ids[row], told.genomes[row]
            self._losses[particle], self._violations[particle] = new

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._losses[self._ids == individual] = loss

    def _figures(self) -> dict[str, float]:
        if not self._size:
            return {"swarm": 0.0}
        return {
            "swarm": float(self._size),
            "speed": float(np.abs(self._velocities).mean()),
            # Mean over the coordinates of the standard deviation; 0 means that the swarm is one point.
            "diversity": float(self._positions.std(axis=0).mean()),
        }

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        flights = sorted(self._flights.items())
        return {"size": self._size, "moves": self._moves}, {
            "flights": np.array(flights, dtype=np.int64).reshape(-1, 2),
            "moved": self._moved,
            "positions": self._positions,
            "velocities": self._velocities,
            "ids": self._ids,
            "genomes": self._genomes,
            "losses": self._losses,
            "violations": self._violations,
        }

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._size, self._moves = own["size"], own["moves"]
        self._flights = dict(arrays["flights"].tolist())
        self._moved = arrays["moved"]
        self._positions, self._velocities = arrays["positions"], arrays["velocities"]
        self._ids, self._genomes = arrays["ids"], arrays["genomes"]
        self._losses, self._violations = arrays["losses"], arrays["violations"]
