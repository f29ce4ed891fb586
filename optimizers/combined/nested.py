"""An optimizer within an optimizer: its own ids, its own random state, its state as part of the outer one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

import optimizers
from optimizers import OptimizerError
from optimizers.base import Evaluated, FloatArray, IntArray, Observation, Optimizer, Told
from optimizers.space import Space

_ALONE = ("population_based_training", "portfolio", "successive_halving")
_SIZES = ("population", "swarm")


class Nested:
    """One inner optimizer of one objective. `own` maps the outer ids of its pending individuals to its own.

    Raises:
        OptimizerError: it does not suit, or it is one that cannot be within another.
    """

    def __init__(self, name: str, options: Mapping[str, Any], space: Space, seed: int) -> None:
        if name in _ALONE:
            raise OptimizerError(f"{name} says more than parameters, and cannot be within another.")
        if options.get("reevaluate"):
            raise OptimizerError(f"{name}: set reevaluate for the whole, not for an optimizer within it.")
        self.name = name
        cls = optimizers.get(name)
        options = dict(options)
        for size in _SIZES:
            if size in cls.Options.model_fields and options.get(size) is None:
                # Else it would be the first ask, which is only a part of what the outer optimizer is asked.
                options[size] = cls.default_batch(space.dimension)
        self.optimizer: Optimizer = cls(space, 1, options, seed)
        self.own: dict[int, int] = {}

    def ask(self, n: int, first_id: int) -> list[FloatArray]:
        """At most `n` >= 1 points of the unit cube; the outer ids are `first_id` and those that follow."""
        suggestions = self.optimizer.ask(n) if self.optimizer.stop_reason() is None else []
        for outer, one in enumerate(suggestions, first_id):
            if (one.origin, one.parent, one.tasks) != (None, None, None):
                raise OptimizerError(f"{self.name} says more than parameters, and cannot be within another.")
            self.own[outer] = one.id
        return [self.optimizer.space.encode(one.params) for one in suggestions]

    def tell(self, told: Told) -> None:
        """Tell those of its pending individuals that are among these."""
        evaluated = []
        for row, outer in enumerate(told.ids.tolist()):
            if outer in self.own:
                measures = {name: values[row] for name, values in told.measures.items()}
                evaluated.append(
                    _evaluated(self.own.pop(outer), told.losses[row, 0], told.violations[row], measures)
                )
        self.optimizer.tell(evaluated)

    def observe(self, units: FloatArray, losses: FloatArray) -> None:
        """Individuals that it did not ask for; finite losses, shape (n,)."""
        decode = self.optimizer.space.decode
        self.optimizer.observe(
            [Observation(decode(unit), (loss,)) for unit, loss in zip(units, losses.tolist(), strict=True)]
        )

    def save(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays for `load`."""
        own: IntArray = np.array(list(self.own.items()), dtype=np.int64).reshape(-1, 2)
        return {"state": np.frombuffer(self.optimizer.state(), dtype=np.uint8), "own": own}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Undo `save`."""
        like = self.optimizer
        self.optimizer = type(like).from_state(arrays["state"].tobytes(), like.space, 1, like.options)
        self.own = dict(arrays["own"].tolist())


def checked_options(name: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options of an inner optimizer, for a validator: pydantic adds the place of each mistake.

    Of an optimizer that there is not, nothing is checked; `Nested` refuses it.

    Raises:
        ValidationError: with every mistake.
    """
    if name in optimizers.names():
        optimizers.get(name).Options.model_validate(options)
    return options


def inner_seed(seed: int, index: int) -> int:
    """A seed for the inner optimizer number `index`."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def _evaluated(
    own: int, loss: float, violation: float, measures: Mapping[str, FloatArray | None]
) -> Evaluated:
    if math.isfinite(loss):
        kept = {name: values for name, values in measures.items() if values is not None}
        return Evaluated(own, (float(loss),), measures=kept)
    if math.isfinite(violation):
        return Evaluated(own, None, "infeasible", float(violation))
    return Evaluated(own, None, "failed")
