"""Spaces, loss functions and a fixed history of asks and tells, shared by the tests of optimizers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import optimizers
from optimizers import state
from optimizers.base import Evaluated, Observation, Optimizer, Suggestion
from optimizers.individuals import FloatArray
from optimizers.space import Categorical, Fixed, Float, Int, Ordinal, Space

REQUIRED: dict[str, dict[str, Any]] = {
    "gest": {"generator": "tests.optimizers.gest_generators:Climber"},
}
"""Options of optimizers that have some without a default."""

Loss = Callable[[npt.NDArray[np.float64]], float]

MIXED = Space(
    {
        "rate": Float(1e-4, 1.0, log=True, default=0.01),
        "weights": Float(-2.0, 2.0, shape=(2, 2)),
        "layers": Int(1, 5),
        "width": Int(1, 1000, log=True),
        "kernel": Categorical(["exp", "alpha", "delta"]),
        "order": Ordinal([1, 2, 4, 8]),
        "model": Fixed("iaf_psc_alpha"),
    }
)


def box(dimension: int, bound: float = 5.0) -> Space:
    """One array parameter x of this many reals in [-bound, bound]."""
    return Space({"x": Float(-bound, bound, shape=(dimension,))})


def mixed_loss(params: dict[str, Any]) -> float:
    """A loss over MIXED with its optimum inside; whole numbers and choices matter."""
    weights = np.array(params["weights"])
    return float(
        (math.log10(params["rate"]) + 2.5) ** 2
        + ((weights - 0.5) ** 2).sum()
        + abs(params["layers"] - 4)
        + abs(math.log(params["width"] / 30))
        + {"exp": 1.0, "alpha": 0.0, "delta": 2.0}[params["kernel"]]
        + abs(math.log2(params["order"]) - 2)
    )


def sphere(x: npt.NDArray[np.float64]) -> float:
    return float(((x - 0.3) ** 2).sum())


def rosenbrock(x: npt.NDArray[np.float64]) -> float:
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def ellipsoid(x: npt.NDArray[np.float64]) -> float:
    """Condition number 10^6."""
    return float((10 ** (6 * np.arange(len(x)) / (len(x) - 1)) * (x - 0.3) ** 2).sum())


def rastrigin(x: npt.NDArray[np.float64]) -> float:
    y = x - 0.3
    return float((10 + y**2 - 10 * np.cos(2 * np.pi * y)).sum())


def mixed(name: str) -> Space:
    """MIXED, with parameters fixed that are of a kind that this optimizer does not search."""
    kinds = optimizers.get(name).capabilities.kinds
    return MIXED.override(
        {n: p.start() for n, p in MIXED.parameters.items() if p.kind not in {"fixed", *kinds}}
    )


def n_objectives(name: str) -> int:
    """How many objectives to test an optimizer with."""
    return 2 if optimizers.get(name).capabilities.objectives == "multi" else 1


def fresh(name: str, space: Space | None = None, seed: int = 1, **options: Any) -> Optimizer:
    options = {**REQUIRED.get(name, {}), **options}
    return optimizers.get(name)(mixed(name) if space is None else space, n_objectives(name), options, seed)


def evaluated(optimizer: Optimizer, suggestion: Suggestion, loss: float, target: float = 0.53) -> Evaluated:
    """An ok individual. A second objective is the sum of the coordinates in the unit cube, d * `target` off;
    what an optimizer wants to be told besides are the coordinates and, as `targets`, where they should be."""
    unit = optimizer.space.encode(suggestion.params)
    losses = (loss, abs(float(unit.sum()) - len(unit) * target))[: optimizer.n_objectives]
    measures = {
        name: np.full((1, len(unit)), target) if name == "targets" else unit[None]
        for name in optimizer.measures(optimizer.options)
    }
    return Evaluated(suggestion.id, losses, measures=measures)


def restored(optimizer: Optimizer) -> Optimizer:
    """A copy by way of the state."""
    return type(optimizer).from_state(
        optimizer.state(), optimizer.space, optimizer.n_objectives, optimizer.options
    )


def arrays_of(optimizer: Optimizer) -> dict[str, FloatArray]:
    """The arrays of the state, the optimizer's own ones by their plain names."""
    _, arrays = state.load(optimizer.state())
    return {key.removeprefix("own."): array for key, array in arrays.items()}


def tell_sphere(optimizer: Optimizer, asked: list[Suggestion]) -> None:
    optimizer.tell([Evaluated(s.id, (sphere(np.array(s.params["x"])),)) for s in asked])


def best_in_steady_state(optimizer: Optimizer, in_flight: int, budget: int) -> float:
    """One told, one asked, first come, first told: the best loss on the sphere after `budget` evaluations."""
    waiting = optimizer.ask(in_flight)
    for _ in range(budget):
        tell_sphere(optimizer, [waiting.pop()])
        waiting = optimizer.ask(1) + waiting
    return optimizer.diagnostics()["best_loss"]


def search_mixed(optimizer: Optimizer, generations: int, batch: int) -> list[dict[str, Any]]:
    """Parameters asked in some generations of the mixed problem; every one is told."""
    params = []
    for _ in range(generations):
        asked = optimizer.ask(batch)
        params += [s.params for s in asked]
        optimizer.tell([evaluated(optimizer, s, mixed_loss(s.params)) for s in asked])
    return params


def minimise(optimizer: Optimizer, loss: Loss, budget: int, batch: int) -> float:
    """Spend up to `budget` evaluations on `loss` of the parameter x; the lowest loss seen."""
    best = math.inf
    for _ in range(budget // batch):
        asked = optimizer.ask(batch)
        losses = [loss(np.array(s.params["x"])) for s in asked]
        best = min([best, *losses])
        optimizer.tell([evaluated(optimizer, s, value) for s, value in zip(asked, losses, strict=True)])
    return best


def judged(optimizer: Optimizer, suggestion: Suggestion) -> Evaluated:
    """Every third individual fails, every seventh is infeasible; the losses of the others have ties."""
    if suggestion.id % 3 == 1:
        return Evaluated(suggestion.id, None, "failed")
    if suggestion.id % 7 == 3:
        return Evaluated(suggestion.id, None, "infeasible", violation=1.0 + suggestion.id % 2)
    return evaluated(optimizer, suggestion, float(round(mixed_loss(suggestion.params) * 2)))


def outcome(optimizer: Optimizer) -> str:
    """What the optimizer holds for the best, as a text."""
    recommendation = optimizer.recommend()
    return json.dumps(
        [recommendation and recommendation.params, [b.individual for b in optimizer.pareto_front()]]
    )


def winners(optimizer: Optimizer) -> list[int]:
    """Individuals that the optimizer calls the best, or not dominated."""
    best = optimizer.best()
    return [b.individual for b in optimizer.pareto_front()] if best is None else [best.individual]


def elsewhere(optimizer: Optimizer) -> list[Observation]:
    """Five evaluated parameter sets of the optimizer's space, and three that are of no use."""
    chance = np.random.Generator(np.random.PCG64(9))
    space, n = optimizer.space, optimizer.n_objectives
    good = [space.decode(chance.random(space.dimension)) for _ in range(5)]
    return [
        *[Observation(params, (float(i), float(9 - i))[:n]) for i, params in enumerate(good)],
        Observation({"nosuch": 1}, (0.0,) * n),
        Observation(good[0], (math.nan,) * n),
        Observation(good[0], (0.0,) * (n + 1)),
    ]


STEPS = 24


def history(
    optimizer: Optimizer, first: int = 0, pending: dict[int, Suggestion] | None = None
) -> Iterator[str]:
    """Steps `first` to STEPS - 1 of a fixed history; yields a text about each step that was done.

    Even steps ask for a varying number, odd ones tell a part of those pending, newest first; before step 8
    some individuals from elsewhere are observed. `pending` are the suggestions in flight when step `first`
    begins; it is kept up to date.
    """
    pending = {} if pending is None else pending
    for step in range(first, STEPS):
        if step == 8:
            optimizer.observe(elsewhere(optimizer))
        if step % 2 == 0:
            asked = optimizer.ask(5 + step % 5)
            pending.update({s.id: s for s in asked})
            yield json.dumps([[s.id, s.params, s.origin, s.parent, s.tasks] for s in asked])
        else:
            chosen = sorted(pending, reverse=True)[: max(1, len(pending) - step % 4)]
            optimizer.tell([judged(optimizer, pending.pop(i)) for i in chosen])
            yield outcome(optimizer)


def digest(texts: list[str], optimizer: Optimizer) -> str:
    """sha256 of what happened and of the state it led to."""
    whole = "\n".join(texts).encode() + optimizer.state()
    return hashlib.sha256(whole).hexdigest()
