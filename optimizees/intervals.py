"""A family of tasks that differ in one number, with training and test numbers that cannot meet."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

from optimizees.base import SPLITS, TaskFamily


class IntervalTasks(TaskFamily):
    """Tasks {name: number in [low, high)}.

    The interval is cut into equal slices. Training takes its numbers from the first, third, ... slice, test
    from the others: both cover the whole interval, and no test task was ever seen by the optimizer.
    """

    def __init__(self, name: str, low: float, high: float, slices: int = 20) -> None:
        self.name, self.low, self.high, self.slices = name, low, high, slices

    def task(self, split: str, index: int, seed: int) -> Dict[str, Any]:
        offset = SPLITS.index(split)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, offset])))
        slice_ = offset + len(SPLITS) * int(rng.integers(self.slices // len(SPLITS)))
        place = (slice_ + float(rng.random())) / self.slices
        return {self.name: self.low + (self.high - self.low) * place}
