"""Scrambled Sobol sequence: individuals that fill the space evenly, however many there will be.

Point i is a function of (seed, i) alone, so the state holds no random state of its own.

Sobol, "On the distribution of points in a cube and the approximate evaluation of integrals" (1967);
Owen, "Scrambled net variance for integrals of smooth functions", Annals of Statistics 25 (1997);
direction numbers of Joe and Kuo (2008), as in scipy.stats.qmc.
"""

from __future__ import annotations

from typing import Any, ClassVar

from scipy.stats import qmc

from optimizers import OptimizerError
from optimizers.base import Arrays, Capabilities, FloatArray, Migration, Optimizer, Options, Told
from optimizers.low_discrepancy import next_points, sobol_sequence


class SobolSearch(Optimizer):
    """A low-discrepancy design. Even coverage is best after a power of two of individuals."""

    name = "sobol"
    summary = "Scrambled Sobol sequence: covers the space evenly; for surveys and small budgets."
    format_version = 2
    migrations: ClassVar[dict[int, Migration]] = {
        1: lambda meta, _: meta["own"].update(drawn=meta["next_id"])
    }
    Options: ClassVar[type[Options]] = Options
    capabilities = Capabilities(objectives="any", asynchronous=True)

    def _start(self) -> None:
        if self.space.dimension > qmc.Sobol.MAXDIM:
            raise OptimizerError(
                f"sobol covers at most {qmc.Sobol.MAXDIM} dimensions, the space has {self.space.dimension}. "
                "Use random."
            )
        self._drawn = 0
        self._sequence: qmc.Sobol | None = None  # from `_drawn` on; made when the first point is needed

    def _sample(self, n: int) -> FloatArray:
        if self._sequence is None:
            self._sequence = sobol_sequence(self.space.dimension, self.seed, self._drawn)
        self._drawn += n
        return next_points(self._sequence, n)

    def _learn(self, told: Told) -> None:
        """Nothing is learned."""

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        return {"drawn": self._drawn}, {}

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:  # noqa: ARG002
        self._drawn = own["drawn"]
