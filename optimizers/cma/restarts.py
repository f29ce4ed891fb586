"""When a run of CMA-ES has converged: with which population and step size the next one begins.

`ipop`: the population doubles (A. Auger and N. Hansen, "A restart CMA evolution strategy with increasing
population size", CEC 2005). `bipop`: besides, runs with smaller populations and first steps, as long as they
spent less than the large ones (N. Hansen, "Benchmarking a BI-population CMA-ES on the BBOB-2009 function
testbed", GECCO workshops 2009).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

Policy = Literal["ipop", "bipop", "none"]


@dataclass
class Restarts:
    """What runs there were. Counts of evaluations, but for the first three."""

    first: int = 0  # lambda of the first run; 0: not known yet
    doublings: int = 0
    small: int = 0  # small runs so far
    in_small: bool = True  # the first run counts as a small one: the next is a large one
    spent: int = 0  # by this run
    spent_small: int = 0
    spent_large: int = 0
    last_large: int = 0

    def cut(self) -> bool:
        """Whether a small run had its share: half of the last large one."""
        return self.small > 0 and self.in_small and self.spent >= self.last_large / 2

    def next(
        self, policy: Policy, largest: int, rng: np.random.Generator, least: int
    ) -> tuple[int, float] | None:
        """End this run: (population, factor of the first sigma) of the next; None when there is none."""
        if self.in_small:
            self.spent_small += self.spent
        else:
            self.spent_large += self.spent
            self.last_large = self.spent
        self.spent = 0
        if policy == "bipop" and self.spent_small < self.spent_large:
            self.small, self.in_small = self.small + 1, True
            power, shrink = rng.random(2)
            population = int(self.first * (2**self.doublings / 2) ** (power**2))
            return max(least, population), float(10 ** (-2 * shrink))
        if policy == "none" or self.doublings >= largest:
            return None
        self.doublings, self.in_small = self.doublings + 1, False
        return self.first * 2**self.doublings, 1.0

    def save(self) -> dict[str, Any]:
        return asdict(self)
