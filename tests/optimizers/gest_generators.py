"""Generators with the gest-api protocol, for the tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from gest_api import Generator
from gest_api.vocs import VOCS, DiscreteVariable


class Climber(Generator):  # type: ignore[misc]
    """Points near the best one told, nearer and nearer; it knows its points by id."""

    returns_id = True

    def __init__(self, vocs: VOCS, seed: int = 0, start: str = "anywhere") -> None:
        super().__init__(vocs)
        self.vocs, self.start = vocs, start
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.best: dict[str, Any] | None = None
        self.waiting: set[int] = set()
        self.count = 0
        self.foreign = 0

    def _validate_vocs(self, vocs: VOCS) -> None:
        if not vocs.objectives:
            raise ValueError("an objective is needed")

    def suggest(self, num_points: int | None) -> list[dict[str, Any]]:
        return [self._point() for _ in range(num_points or 1)]

    def _point(self) -> dict[str, Any]:
        point: dict[str, Any] = {"_id": self.count}
        self.waiting.add(self.count)
        self.count += 1
        reach = max(0.02, 0.97**self.count)
        for name, variable in self.vocs.variables.items():
            if isinstance(variable, DiscreteVariable):
                point[name] = int(self.rng.choice(sorted(variable.values)))
                continue
            low, high = variable.domain
            value = self.rng.uniform(low, high)
            if self.best is not None and self.rng.random() < 0.8:
                value = self.best[name] + reach * (high - low) * self.rng.normal() / 2
            point[name] = float(np.clip(value, low, high))
        return point

    def ingest(self, results: list[dict[str, Any]]) -> None:
        first = next(iter(self.vocs.objectives))
        for result in results:
            if "_id" not in result:
                self.foreign += 1
            elif result["_id"] not in self.waiting:
                raise ValueError(f"unknown id {result['_id']}")
            self.waiting.discard(result.get("_id", -1))
            assert all(np.isfinite(result[name]) for name in self.vocs.objectives)
            if self.best is None or result[first] < self.best[first]:
                self.best = result


class Pairs(Climber):
    """Gives two points or none at all while it waits for results of earlier ones."""

    def suggest(self, num_points: int | None) -> list[dict[str, Any]]:
        if num_points is not None and num_points != 2:
            raise ValueError("two points only")
        return [] if len(self.waiting) >= 6 else super().suggest(2)


class Unseeded(Climber):
    """Not deterministic."""

    def __init__(self, vocs: VOCS) -> None:
        super().__init__(vocs)
        self.rng = np.random.default_rng()


class Outside(Climber):
    """Leaves the bounds."""

    def suggest(self, num_points: int | None) -> list[dict[str, Any]]:
        return [{**point, "x": 1.5} for point in super().suggest(num_points)]


class NoGenerator:
    """Has none of the methods."""
