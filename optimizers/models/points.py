"""Sets of points of the unit cube, for optimizers that model the loss."""

from __future__ import annotations

import numpy as np

from optimizers.individuals import FloatArray, IntArray


def unknown(points: FloatArray, known: FloatArray) -> FloatArray:
    """The different rows of `points` that are no rows of `known`, in the order of `points`."""
    seen = {row.tobytes() for row in known}
    kept = []
    for i, row in enumerate(points):
        key = row.tobytes()
        if key not in seen:
            seen.add(key)
            kept.append(i)
    return points[kept]


def best_and_newest(losses: FloatArray, number: int) -> IntArray:
    """Ascending rows of the better half of `number` with the lowest losses, and else of the newest."""
    if len(losses) <= number:
        return np.arange(len(losses))
    best = np.argsort(losses, kind="stable")[: number // 2]
    others = np.setdiff1d(np.arange(len(losses)), best)
    return np.sort(np.concatenate([best, others[-(number - len(best)) :]]))
