"""Whether what is told can be learned from."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

import numpy as np

from optimizers import OptimizerError
from optimizers.individuals import Evaluated


def check_told(
    evaluated: Sequence[Evaluated],
    pending: Container[int],
    next_id: int,
    n_objectives: int,
    measures: Sequence[str],
) -> None:
    """Raise OptimizerError for the first individual that cannot be told."""
    seen: set[int] = set()
    for one in evaluated:
        if one.id in seen or one.id not in pending:
            told = one.id in seen or 0 <= one.id < next_id
            why = "was told already" if told else "was never asked"
            raise OptimizerError(f"tell: individual {one.id} {why}. Nothing was learned.")
        seen.add(one.id)
        if (one.status == "ok") != (one.losses is not None):
            raise OptimizerError(f"tell: individual {one.id} is {one.status} with losses {one.losses!r}.")
        if one.losses is not None:
            _check_ok(one, one.losses, n_objectives, measures)


def _check_ok(one: Evaluated, losses: Sequence[float], n_objectives: int, measures: Sequence[str]) -> None:
    if len(losses) != n_objectives:
        raise OptimizerError(
            f"tell: individual {one.id} has {len(losses)} losses, {n_objectives} are needed."
        )
    if not all(math.isfinite(loss) for loss in losses):
        raise OptimizerError(
            f"tell: individual {one.id} has losses {losses}, which are not finite. "
            "Tell it as failed, with losses None."
        )
    for name in measures:
        values = one.measures.get(name)
        if values is None or values.dtype != np.float64 or not np.isfinite(values).all():
            raise OptimizerError(
                f"tell: individual {one.id} has no finite metric {name!r} to learn from. The optimizee must "
                "return it with every result."
            )


def violation(one: Evaluated) -> float:
    """How far from feasible: 0 for ok, infinite for failed ones and where it is not known."""
    if one.status == "ok":
        return 0.0
    if one.status == "failed" or one.violation is None or not one.violation > 0:
        return math.inf
    return float(one.violation)
