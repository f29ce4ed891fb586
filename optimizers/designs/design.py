"""What fixed designs share: a known number of individuals in a fixed order, then there is nothing left."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import numpy as np

from optimizers import OptimizerError
from optimizers.base import Arrays, FloatArray, Optimizer, Proposal, Told

LARGEST = 10_000_000  # individuals


class Design(Optimizer):
    """A subclass sets `_total` in `_start` by `_set_total`, and gives the rows of its design.

    What is left does not depend on what was told; failed individuals are not asked again.
    """

    def _set_total(self, total: int, hint: str) -> None:
        if total > LARGEST:
            number = str(total) if total < 10**15 else f"10^{math.log10(total):.0f}"
            raise OptimizerError(f"{self.name}: {number} individuals, at most {LARGEST} are possible. {hint}")
        self._total = total
        self._drawn = 0

    @abstractmethod
    def _rows(self, first: int, last: int) -> FloatArray:
        """Genomes `first` to `last` - 1 of the design, shape (last - first, dimension); asked in order."""

    def _propose(self, n: int) -> list[Proposal]:
        first, last = self._drawn, min(self._drawn + n, self._total)
        if first == last:
            return []
        self._drawn = last
        return [Proposal(genome) for genome in self._rows(first, last)]

    def individuals_needed(self) -> int:
        return self._total

    def stop_reason(self) -> str | None:
        return f"all {self._total} individuals were asked for" if self._drawn == self._total else None

    def _learn(self, told: Told) -> None:
        """Nothing is learned."""

    def _figures(self) -> dict[str, float]:
        return {"design": float(self._total), "design_asked_share": self._drawn / self._total}

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        return {"drawn": self._drawn}, {}

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:  # noqa: ARG002
        self._drawn = own["drawn"]


def coordinate_names(optimizer: Optimizer) -> list[str]:
    """Of each coordinate of the space: the parameter's name, for elements of arrays with indices, x[0][1]."""
    names = []
    for name, cut in optimizer.space.slices.items():
        shape = getattr(optimizer.space.parameters[name], "shape", ())
        size = cut.stop - cut.start
        names += [name + "".join(f"[{i}]" for i in index) for index in np.ndindex(*shape)] if size else []
    return names
