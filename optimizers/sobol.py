"""Scrambled Sobol sequence: individuals that fill the space evenly, however many there will be.

Individual i is a function of (seed, i) alone, so the state holds no random state of its own.

Sobol, "On the distribution of points in a cube and the approximate evaluation of integrals" (1967);
Owen, "Scrambled net variance for integrals of smooth functions", Annals of Statistics 25 (1997);
direction numbers of Joe and Kuo (2008), as in scipy.stats.qmc.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from optimizers import OptimizerError
from optimizers.base import Capabilities, FloatArray, Optimizer, Options


class SobolSearch(Optimizer):
    """A low-discrepancy design. Even coverage is best after a power of two of individuals."""

    name = "sobol"
    summary = "Scrambled Sobol sequence: covers the space evenly; for surveys and small budgets."
    format_version = 1
    Options: ClassVar[type[Options]] = Options
    capabilities = Capabilities(objectives="multi", asynchronous=True)

    def _start(self) -> None:
        if self.space.dimension > qmc.Sobol.MAXDIM:
            raise OptimizerError(
                f"sobol covers at most {qmc.Sobol.MAXDIM} dimensions, the space has {self.space.dimension}. "
                "Use random."
            )
        self._sequence = qmc.Sobol(self.space.dimension, scramble=True, rng=np.random.default_rng(self.seed))

    def _sample(self, n: int) -> FloatArray:
        parts = []
        if self._next_id == 0:
            # scipy warns when the first draw is no power of two; a first draw of one is.
            parts.append(self._sequence.random(1))
        if n > len(parts):
            parts.append(self._sequence.random(n - len(parts)))
        return np.concatenate(parts)

    def _learn(self, ids: npt.NDArray[np.int64], genomes: FloatArray, losses: FloatArray) -> None:
        """Nothing is learned."""

    def _save(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        return {}, {}

    def _restore(self, own: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> None:  # noqa: ARG002
        if self._next_id:  # scipy cannot skip 0 points
            self._sequence.fast_forward(self._next_id)
