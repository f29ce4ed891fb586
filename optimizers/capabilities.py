"""What an optimizer declares that it can do, and whether a problem asks for more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from optimizers import OptimizerError
from optimizers.space import Space

ALL_KINDS = frozenset({"float", "int", "categorical", "ordinal"})
NUMBERS = ALL_KINDS - {"categorical"}


@dataclass(frozen=True)
class Capabilities:
    """What an optimizer can do.

    Attributes:
        objectives: "single", "multi" (two or more) or "any" number.
        asynchronous: may be asked for more before all earlier individuals are told.
        constraints: ranks infeasible individuals by how far they are from being feasible; others rank all of
            them alike.
        kinds: of parameters that it searches; spaces with others are refused.
        inherits: its individuals go on with the learners of earlier ones, from their checkpoints, by task.
    """

    objectives: Literal["single", "multi", "any"]
    asynchronous: bool
    constraints: bool = False
    kinds: frozenset[str] = ALL_KINDS
    inherits: bool = False


def check_problem(name: str, can: Capabilities, space: Space, n_objectives: int) -> None:
    """Raise OptimizerError unless the optimizer `name` can take this space and number of objectives."""
    if space.dimension < 1:
        raise OptimizerError("Nothing to optimise: every parameter is fixed. Free one of them.")
    if n_objectives < 1 or (n_objectives > 1 and can.objectives == "single"):
        raise OptimizerError(f"{name} optimises one objective, the optimizee has {n_objectives}.")
    if n_objectives == 1 and can.objectives == "multi":
        raise OptimizerError(f"{name} is for several objectives, the optimizee has one.")
    kinds = can.kinds | {"fixed"}
    if bad := [parameter for parameter, p in space.parameters.items() if p.kind not in kinds]:
        raise OptimizerError(
            f"{name} searches parameters of the kinds {', '.join(sorted(can.kinds))}; {', '.join(bad)} is of "
            "another. Fix it, or take another optimizer."
        )
