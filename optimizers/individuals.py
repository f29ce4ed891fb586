"""What passes between a campaign and its optimizer: individuals asked, evaluated, known from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Status = Literal["ok", "failed", "infeasible"]


@dataclass(frozen=True)
class Suggestion:
    """A new individual. Ids are whole numbers that go on by one and are unique within a campaign.

    Attributes:
        origin: the earlier individual with the same parameters, of which this is another evaluation.
        parent: the individual whose learner this one goes on with (population-based training).
        tasks: (first, number) of the campaign's tasks that it is evaluated on; None: all of them.
    """

    id: int
    params: dict[str, Any]
    origin: int | None = None
    parent: int | None = None
    tasks: tuple[int, int] | None = None


@dataclass(frozen=True)
class Evaluated:
    """What became of a suggestion.

    Attributes:
        losses: one per objective, minimised; None unless ok.
        violation: how far an infeasible individual is from being feasible, > 0; None: not known.
        measures: of an ok individual, what `Optimizer.measures` names, each an array of numbers with one
            row for each evaluation, in the order of tasks and repeats.
    """

    id: int
    losses: tuple[float, ...] | None
    status: Status = "ok"
    violation: float | None = None
    measures: Mapping[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True)
class Observation:
    """An evaluated parameter set that this optimizer did not ask for: of an earlier campaign, of another
    optimizer, or (then with its id) of this campaign before its optimizer was changed."""

    params: Mapping[str, Any]
    losses: tuple[float, ...]
    individual: int | None = None


@dataclass(frozen=True)
class Best:
    """An individual with its losses: the means over its `evaluations`, the re-evaluations included."""

    individual: int
    params: dict[str, Any]
    losses: tuple[float, ...]
    evaluations: int = 1


@dataclass(frozen=True)
class Recommendation:
    """The parameters to use if the campaign ended now.

    `individual` and `loss` are None when the point is the model's own and was never evaluated.
    """

    params: dict[str, Any]
    loss: float | None
    individual: int | None


@dataclass(frozen=True)
class Proposal:
    """An individual as an optimizer makes it: a genome, and what Suggestion says about the rest."""

    genome: FloatArray
    origin: int | None = None
    parent: int | None = None
    tasks: tuple[int, int] | None = None


@dataclass(frozen=True)
class Told:
    """Evaluated individuals as arrays of n rows, ids ascending; negative ids are observations from elsewhere.

    Attributes:
        ids: shape (n,).
        genomes: shape (n, dimension).
        losses: shape (n, n_objectives); infinite in rows of individuals that are not ok.
        violations: shape (n,); 0 for ok ones, infinite where nothing is known.
        measures: name -> one array (or None for an individual that is not ok) per row.
    """

    ids: IntArray
    genomes: FloatArray
    losses: FloatArray
    violations: FloatArray
    measures: Mapping[str, list[FloatArray | None]] = field(default_factory=dict)

    @property
    def ok(self) -> npt.NDArray[np.bool_]:
        """Which rows have losses, shape (n,)."""
        return np.isfinite(self.losses[:, 0])

    def order(self) -> IntArray:
        """Rows, the best first, by the first objective: ok ones by loss, infeasible ones by violation, then
        failed ones (Deb, "An efficient constraint handling method for genetic algorithms", 2000)."""
        return np.lexsort((self.ids, self.violations, self.losses[:, 0]))

    def rows(self, chosen: npt.NDArray[Any]) -> Told:
        """Some of the rows: a mask or ascending indices."""
        indices = np.arange(len(self.ids))[chosen]
        measures = {name: [values[i] for i in indices] for name, values in self.measures.items()}
        return Told(
            self.ids[chosen], self.genomes[chosen], self.losses[chosen], self.violations[chosen], measures
        )


def stacked(rows: Iterable[FloatArray], columns: int) -> FloatArray:
    """The vectors as one array of shape (number, columns), also when there are none."""
    return np.array(list(rows), dtype=np.float64).reshape(-1, columns)
