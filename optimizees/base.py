"""The contract of an optimizee: the inner loop of learning to learn, run at the site for one individual.

This module is staged to the site with every optimizee: standard library and numpy, Python 3.8 syntax.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Sequence, cast

import numpy as np

from optimizers.space import Space

DIRECTIONS = ("minimize", "maximize")
SPLITS = ("train", "test")
REASON_CHARS = 2000  # what is kept of the reason of an infeasible evaluation


class Infeasible(Exception):
    """The parameters cannot be simulated (a blow-up, a broken constraint): an answer, not a failure."""


class OptimizeeError(ValueError):
    """An optimizee that is unknown, cannot be imported, was given wrong options, or breaks the contract."""


class OptionsError(OptimizeeError):
    """Options that an optimizee does not take."""


@dataclass(frozen=True)
class Objective:
    """One component of the fitness: its name and whether it is minimised or maximised."""

    name: str
    direction: str = "minimize"

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise OptimizeeError(
                f"objective {self.name!r}: direction must be 'minimize' or 'maximize', got {self.direction!r}"
            )


@dataclass(frozen=True)
class Result:
    """What one evaluation found.

    Attributes:
        fitness: one finite number per objective, in the order and the direction of the objectives.
        metrics: further numbers that are recorded but not optimised. Some optimizers learn from them, some of
            these from arrays of numbers, which are recorded row by row.
        curve: performance of the inner loop against its own experience (empty when there is none).
    """

    fitness: Sequence[float]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    curve: Sequence[float] = ()


@dataclass(frozen=True)
class Context:
    """Where and until when an evaluation runs.

    Attributes:
        seed: the evaluation's seed, for simulators that want a number rather than a numpy generator.
        scratch: an existing folder of this evaluation's own, its current directory; the worker removes it.
        deadline: the time (s since the epoch) at which the evaluation is killed; None: no limit.
        checkpoint: an existing folder of this evaluation that stays when an attempt fails or a worker's time
            is up: the next attempt finds there what this one wrote.
        inherited: the checkpoint folder of the individual whose learner this one goes on with (at the same
            task and repeat), for reading only; None: begin anew.
        artifacts: an existing, empty folder of this attempt for files to keep (figures, spikes, weights). If
            the attempt succeeds they stay at the site, in `artifacts/<individual.task.repeat>` of the
            campaign's folder (`l2l show` names it); nobody fetches them. Else they are removed.
    """

    seed: int
    scratch: Path
    deadline: Optional[float] = None
    checkpoint: Path = Path()
    inherited: Optional[Path] = None
    artifacts: Path = Path()

    def remaining(self) -> float:
        """Seconds until the deadline (negative when it has passed, infinite when there is none)."""
        return math.inf if self.deadline is None else self.deadline - time.time()


class TaskFamily:
    """The tasks that an individual may be confronted with, sampled by (split, index, seed).

    `size` is the number of different training tasks (indices are below it), `test_size` that of held-out
    ones; None when every index gives another task.
    """

    size: Optional[int] = None
    test_size: Optional[int] = None

    def task(self, split: str, index: int, seed: int) -> Dict[str, Any]:
        """The task as JSON values: the same arguments always give the same task, in every process.

        `split` is "train" (seen by the optimizer) or "test" (held out); they must not overlap.
        """
        raise NotImplementedError


class SingleTask(TaskFamily):
    """The family of optimizees that know one task only; it has no parameters, and nothing is held out."""

    size = 1
    test_size = 0

    def task(self, split: str, index: int, seed: int) -> Dict[str, Any]:  # noqa: ARG002
        return {}


class Optimizee(ABC):
    """An inner loop. Subclasses give `space` and `evaluate`, and options as keyword arguments of `__init__`.

    The controller imports the class too (for its space, objectives and tasks), so simulators are imported
    inside `evaluate` only. `__init__` raises ValueError or TypeError with a clear text for wrong options.
    An evaluation depends on its arguments only: the same parameters, task and seed give the same result.

    Long evaluations save what they reached in `context.checkpoint` now and then, in a file that they rename
    when it is complete, and look there first. Optimizers that go on with the learner of an earlier individual
    (population-based training) give its folder as `context.inherited`; a campaign for them needs
    `tasks: {fresh: false}`. Checkpoints are kept while the individual is pending or a parent of one that is,
    and for two generations after it was told; where elites of such an optimizer are evaluated again, all are.
    """

    summary: ClassVar[str] = ""
    environment: str = ""  # Python environment that it needs (environments/<name>.txt); "": numpy
    objectives: Sequence[Objective] = (Objective("loss"),)

    @abstractmethod
    def space(self) -> Space:
        """The parameters that the optimizer chooses."""

    def family(self) -> TaskFamily:
        """The family of tasks that individuals are evaluated on."""
        return SingleTask()

    @abstractmethod
    def evaluate(
        self, params: Dict[str, Any], task: Dict[str, Any], rng: np.random.Generator, context: Context
    ) -> Result:
        """Run the inner loop once; raises Infeasible for parameters that cannot be simulated.

        `params` are JSON values as `Space.decode` gives them. Any other exception is a failed evaluation.
        """

    def _draw(self, split: str, index: int, seed: int) -> Dict[str, Any]:
        """The task of that name; the indices of fresh tasks go on for ever, a finite family begins again."""
        family = self.family()
        size = family.size if split == "train" else family.test_size
        return dict(family.task(split, index if size is None else index % max(size, 1), seed))

    def evaluate_json(self, request: Mapping[str, Any]) -> Dict[str, Any]:
        """Answer a request of the worker; final. Exceptions other than Infeasible propagate.

        Args:
            request: {"params", "task": {"split", "index", "seed"}, "seed", "scratch": path,
                "deadline": s since the epoch or None, "checkpoint": path, "inherited": path or None,
                "artifacts": path}.

        Returns:
            {"status": "ok", "fitness", "metrics", "curve"} or {"status": "infeasible", "reason"}. Values
            are handed on as they are, only as JSON types: it is the worker that refuses NaN and the like.
        """
        task = self._draw(**request["task"])
        scratch, inherited = Path(request["scratch"]), request.get("inherited")
        context = Context(
            int(request["seed"]),
            scratch,
            request.get("deadline"),
            Path(request.get("checkpoint") or scratch),
            None if inherited is None else Path(inherited),
            Path(request.get("artifacts") or scratch),
        )
        rng = np.random.Generator(np.random.PCG64(context.seed))
        try:
            result = cast(object, self.evaluate(dict(request["params"]), task, rng, context))
        except Infeasible as reason:
            return {"status": "infeasible", "reason": str(reason)[:REASON_CHARS] or "no reason given"}
        if not isinstance(result, Result):
            name = type(self).__name__
            raise OptimizeeError(f"{name}.evaluate must return a Result, got {type(result).__name__}")
        return {
            "status": "ok",
            "fitness": [_plain(value) for value in result.fitness],
            "metrics": {str(key): _plain(_flat(value)) for key, value in result.metrics.items()},
            "curve": [_plain(value) for value in result.curve],
        }


def check_number(
    name: str, value: object, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> float:
    """`value` as a finite float within [low, high] (or above `low`); OptionsError names the option."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise OptionsError(f"option {name!r} must be a number, got {value!r}")
    if value < low or value > high or (open_low and value == low):
        lower = f"above {low:g}" if open_low else f"at least {low:g}"
        upper = "" if math.isinf(high) else f" and at most {high:g}"
        raise OptionsError(f"option {name!r} must be {lower}{upper}, got {value!r}")
    return float(value)


def check_whole(name: str, value: object, low: int) -> int:
    """`value` as an int of at least `low`; OptionsError with the option's name."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise OptionsError(f"option {name!r} must be a whole number, got {value!r}")
    if value < low:
        raise OptionsError(f"option {name!r} must be at least {low}, got {value!r}")
    return value


def check_path(name: str, value: object) -> str:
    """`value` as an absolute path at the site, or "" for none; OptionsError with the option's name."""
    if not isinstance(value, str) or (value and not PurePosixPath(value).is_absolute()):
        raise OptionsError(f"option {name!r} must be an absolute path at the site, got {value!r}")
    return value


def _flat(value: Any) -> Any:
    """An array of numbers in one dimension; everything else untouched."""
    return value.ravel() if isinstance(value, np.ndarray) and value.ndim > 1 else value


def _plain(value: Any) -> Any:
    """numpy scalars and arrays as Python's own types; everything else untouched."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        items: List[Any] = [_plain(item) for item in value]
        return items
    return value
