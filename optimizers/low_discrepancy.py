"""Scrambled Sobol sequences as scipy makes them, whose point i is a function of the seed and i alone."""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

from optimizers.individuals import FloatArray


def sobol_sequence(dimension: int, seed: int | list[int], first: int) -> qmc.Sobol:
    """The sequence from point `first` on."""
    sequence = qmc.Sobol(dimension, scramble=True, rng=np.random.default_rng(seed))
    if first:  # scipy cannot skip 0 points
        sequence.fast_forward(first)
    return sequence


def next_points(sequence: qmc.Sobol, n: int) -> FloatArray:
    """The next `n` >= 1 points, shape (n, dimension)."""
    if sequence.num_generated or n == 1:
        return np.asarray(sequence.random(n))
    # scipy warns when the first draw is no power of two; a first draw of one is.
    return np.concatenate([sequence.random(1), sequence.random(n - 1)])
