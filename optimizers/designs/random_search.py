"""Random search: every individual uniform in the unit cube, independent of the others.

Bergstra and Bengio, "Random search for hyper-parameter optimization", JMLR 13 (2012).
"""

from __future__ import annotations

from typing import Any, ClassVar

from optimizers.base import Arrays, Capabilities, FloatArray, Optimizer, Options, Told


class RandomSearch(Optimizer):
    """Uniform samples. The state is the random state."""

    name = "random"
    summary = "Uniform random samples: the baseline that every other optimizer must beat."
    format_version = 1
    Options: ClassVar[type[Options]] = Options
    capabilities = Capabilities(objectives="any", asynchronous=True)

    def _start(self) -> None:
        """Nothing but the base's state."""

    def _sample(self, n: int) -> FloatArray:
        return self._rng.random((n, self.space.dimension))

    def _learn(self, told: Told) -> None:
        """Nothing is learned."""

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        return {}, {}

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        """Nothing but the base's state."""
