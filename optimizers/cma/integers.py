"""Whole numbers and choices in CMA-ES: their coordinates must not become narrower than their bins.

Losses are flat within a bin, and selection there says nothing. Left alone, the distribution shrinks into one
bin and the value is never searched again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from optimizers.bins import bins
from optimizers.bounds import fold, from_unit, to_unit
from optimizers.cma.model import Model
from optimizers.space import Space


def keep_margin(model: Model, space: Space, chosen: npt.NDArray[np.bool_], alpha: float) -> None:
    """Move and widen the distribution so that each of the `chosen` coordinates leaves its bin with a
    probability of at least `alpha`, in each direction alpha / 2 where the bin has two neighbours.

    R. Hamano, S. Saito, M. Nomura and S. Shirakawa, "CMA-ES with margin: lower-bounding marginal probability
    for mixed-integer black-box optimization", GECCO 2022.
    """
    if not chosen.any():
        return
    mean = model.mean.copy()
    mean[chosen] = fold(mean[chosen])
    low, high = (end[chosen] for end in bins(space, to_unit(mean)))
    first, last = low < 1e-12, high > 1 - 1e-12
    low, high, m = from_unit(np.clip(low, 0, 1)), from_unit(np.clip(high, 0, 1)), mean[chosen]
    spread = np.broadcast_to(model.spread, mean.shape).copy()
    root = model.sigma * np.sqrt(model.shape.variances()[chosen])
    std = root * spread[chosen]

    far = -ndtri(alpha) * std  # of a threshold that is passed with the probability alpha
    m = np.where(first & ~last, np.maximum(m, high - far), m)
    m = np.where(last & ~first, np.minimum(m, low + far), m)

    below, above = ndtr((low - m) / std), ndtr((m - high) / std)
    short = ~first & ~last & (np.minimum(below, above) < alpha / 2)
    inner = 1 - below - above
    p_low, p_high = np.maximum(below, alpha / 2), np.maximum(above, alpha / 2)
    excess = (1 - p_low - p_high - inner) / np.maximum(p_low + p_high + inner - 1.5 * alpha, 1e-12)
    p_low = np.clip(p_low + excess * (p_low - alpha / 2), 1e-10, 0.5 - 1e-10)
    p_high = np.clip(p_high + excess * (p_high - alpha / 2), 1e-10, 0.5 - 1e-10)
    left, right = -ndtri(p_low), -ndtri(p_high)  # distances of the ends, in standard deviations
    m = np.where(short, (low * right + high * left) / (left + right), m)
    std = np.where(short, (high - low) / (left + right), std)
    mean[chosen], spread[chosen] = m, np.minimum(std, model.LARGEST_STD) / root
    model.mean, model.spread = mean, spread
