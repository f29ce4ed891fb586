"""The contract of all optimizers: ask for individuals, tell their losses, save and restore the state.

    optimizer = optimizers.get("cmaes")(space, 1, {}, seed=1)
    for suggestion in optimizer.ask(10): ...               # new individuals
    optimizer.tell([Evaluated(0, (0.3,)), ...])            # any subset of those asked, in any order
    data = optimizer.state()                               # bytes
    optimizer = optimizers.get("cmaes").from_state(data, space, 1, {})

Rules that every optimizer keeps, and that one conformance suite tests:

* Losses are minimised. A failed or infeasible individual ranks after every one that has a loss.
* What is asked is a function of the space, the options, the seed and what was told. The order within one
  `tell` does not matter. Global random state is neither read nor changed.
* A restored optimizer goes on as the saved one would have, to the bit, on the same numpy, BLAS and kind of
  CPU. Individuals that were asked and not yet told are part of the state.
* Time and state depend on the individuals in flight and the population, not on how many were told before.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from optimizers import OptimizerError, state
from optimizers.space import Space

FloatArray = npt.NDArray[np.float64]
Status = Literal["ok", "failed", "infeasible"]


@dataclass(frozen=True)
class Suggestion:
    """A new individual. Ids count from 0 and are unique within a campaign."""

    id: int
    params: dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """What became of a suggestion. `losses`: one per objective, minimised; None unless ok."""

    id: int
    losses: tuple[float, ...] | None
    status: Status = "ok"


@dataclass(frozen=True)
class Recommendation:
    """The parameters to use if the campaign ended now.

    `individual` and `loss` are None when the point is the model's own and was never evaluated.
    """

    params: dict[str, Any]
    loss: float | None
    individual: int | None


@dataclass(frozen=True)
class Capabilities:
    """What an optimizer can do.

    objectives: "single" or "multi" (any number).
    asynchronous: may be asked for more before all earlier individuals are told.
    """

    objectives: Literal["single", "multi"]
    asynchronous: bool


class Options(BaseModel):
    """Base of the options of all optimizers."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimizer(ABC):
    """See the module's docstring for the contract.

    A subclass searches in *genomes*, real vectors of shape (dimension,). It provides `_start`, `_sample`,
    `_learn`, `_save` and `_restore`, and `_unit` when its genomes are not points of the unit cube.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    format_version: ClassVar[int]
    Options: ClassVar[type[BaseModel]]
    capabilities: ClassVar[Capabilities]

    def __init__(
        self, space: Space, n_objectives: int, options: BaseModel | Mapping[str, Any], seed: int
    ) -> None:
        """A fresh optimizer; `seed` >= 0.

        Raises:
            OptimizerError: the options, the space or the number of objectives do not suit.
        """
        if space.dimension < 1:
            raise OptimizerError("Nothing to optimise: every parameter is fixed. Free one of them.")
        if n_objectives < 1 or (n_objectives > 1 and self.capabilities.objectives == "single"):
            raise OptimizerError(f"{self.name} optimises one objective, the optimizee has {n_objectives}.")
        if seed < 0:
            raise OptimizerError(f"The seed must be 0 or more, got {seed}.")
        self.space = space
        self.n_objectives = n_objectives
        self.options = self._valid_options(options)
        self.seed = seed
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._next_id = 0
        self._pending: dict[int, FloatArray] = {}
        self._told = 0
        self._failed = 0
        self._best: tuple[float, int, FloatArray] | None = None
        self._start()

    @classmethod
    def default_batch(cls, dimension: int) -> int:  # noqa: ARG003
        """How many individuals a generation should have when the user does not say."""
        return 32

    def ask(self, n: int) -> list[Suggestion]:
        """`n` >= 1 new individuals, pending until they are told."""
        if n < 1:
            raise OptimizerError(f"ask({n}): at least one individual must be asked for.")
        suggestions = []
        for genome in self._sample(n):
            suggestions.append(Suggestion(self._next_id, self.space.decode(self._unit(genome))))
            self._pending[self._next_id] = genome
            self._next_id += 1
        return suggestions

    def tell(self, evaluated: Sequence[Evaluated]) -> None:
        """Learn from pending individuals, in any order; those not told stay pending.

        Raises:
            OptimizerError: an id is not pending or comes twice, or losses are missing, too many or not
                finite. Nothing is learned then.
        """
        self._check(evaluated)
        if not evaluated:
            return
        told = sorted(evaluated, key=lambda one: one.id)
        ids = np.array([one.id for one in told], dtype=np.int64)
        genomes = np.array([self._pending.pop(one.id) for one in told])
        worst = (math.inf,) * self.n_objectives
        losses = np.array([worst if one.losses is None else one.losses for one in told], dtype=np.float64)
        self._told += len(told)
        self._failed += sum(one.losses is None for one in told)
        if self.n_objectives == 1:
            self._remember_best(ids, genomes, losses[:, 0])
        self._learn(ids, genomes, losses)

    def recommend(self) -> Recommendation | None:
        """The best individual told; None before the first ok one, and with several objectives."""
        if self._best is None:
            return None
        loss, individual, genome = self._best
        return Recommendation(self.space.decode(self._unit(genome)), loss, individual)

    def diagnostics(self) -> dict[str, float]:
        """Finite figures about the search, for plots over the generations."""
        values = {
            "asked": self._next_id,
            "told": self._told,
            "pending": len(self._pending),
            "failed_share": self._failed / max(1, self._told),
            **self._figures(),
        }
        if self._best is not None:
            values["best_loss"] = self._best[0]
        return {key: float(value) for key, value in values.items() if math.isfinite(value)}

    def state(self) -> bytes:
        """All that is needed to go on; equal states are equal bytes."""
        own, arrays = self._save()
        meta = {
            "name": self.name,
            "format_version": self.format_version,
            "seed": self.seed,
            "n_objectives": self.n_objectives,
            "space": _fingerprint(self.space),
            "options": self.options.model_dump(mode="json"),
            "rng": self._rng.bit_generator.state,
            "next_id": self._next_id,
            "told": self._told,
            "failed": self._failed,
            "best": None if self._best is None else [self._best[0], self._best[1]],
            "own": own,
        }
        arrays = {f"own.{name}": array for name, array in arrays.items()}
        arrays["pending.ids"] = np.array(list(self._pending), dtype=np.int64)
        arrays["pending.genomes"] = _rows(self._pending.values(), self.space.dimension)
        if self._best is not None:
            arrays["best.genome"] = self._best[2]
        return state.dump(meta, arrays)

    @classmethod
    def from_state(
        cls, data: bytes, space: Space, n_objectives: int, options: BaseModel | Mapping[str, Any]
    ) -> Self:
        """The optimizer whose `state()` this is.

        Raises:
            OptimizerError: unreadable bytes, another optimizer's state, a state of a newer version, or one
                made for another space, number of objectives or other options.
        """
        meta, arrays = state.load(data)
        if meta.get("name") != cls.name:
            raise OptimizerError(f"This is a state of optimizer {meta.get('name')!r}, not of {cls.name!r}.")
        version = meta.get("format_version")
        if version != cls.format_version:
            raise OptimizerError(
                f"This state of {cls.name} has format version {version}, this installation reads "
                f"{cls.format_version}. Install the release that wrote it, or a newer one."
            )
        new = cls(space, n_objectives, options, meta["seed"])
        new._check_same(meta)
        new._rng.bit_generator.state = meta["rng"]
        new._next_id, new._told, new._failed = meta["next_id"], meta["told"], meta["failed"]
        ids, genomes = arrays["pending.ids"].tolist(), arrays["pending.genomes"]
        new._pending = dict(zip(ids, genomes, strict=True))
        if meta["best"] is not None:
            new._best = (meta["best"][0], meta["best"][1], arrays["best.genome"])
        own = {key.removeprefix("own."): value for key, value in arrays.items() if key.startswith("own.")}
        new._restore(meta["own"], own)
        return new

    @abstractmethod
    def _start(self) -> None:
        """Set the state before the first ask. `space`, `options` and `_rng` are there."""

    @abstractmethod
    def _sample(self, n: int) -> FloatArray:
        """Genomes of `n` new individuals, shape (n, dimension); their ids follow from `_next_id`."""

    @abstractmethod
    def _learn(self, ids: npt.NDArray[np.int64], genomes: FloatArray, losses: FloatArray) -> None:
        """Take in told individuals, ids ascending; losses of shape (n, n_objectives), inf for failures."""

    @abstractmethod
    def _save(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """The subclass's own state as JSON (finite numbers) and arrays."""

    @abstractmethod
    def _restore(self, own: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Undo `_save`, on an instance that went through `_start`."""

    def _unit(self, genome: FloatArray) -> FloatArray:
        """The point of the unit cube that a genome stands for."""
        return genome

    def _figures(self) -> dict[str, float]:
        """The subclass's own diagnostics."""
        return {}

    def _check(self, evaluated: Sequence[Evaluated]) -> None:
        seen: set[int] = set()
        for one in evaluated:
            if one.id in seen or one.id not in self._pending:
                told = one.id in seen or 0 <= one.id < self._next_id
                why = "was told already" if told else "was never asked"
                raise OptimizerError(f"tell: individual {one.id} {why}. Nothing was learned.")
            seen.add(one.id)
            if (one.status == "ok") != (one.losses is not None):
                raise OptimizerError(f"tell: individual {one.id} is {one.status} with losses {one.losses!r}.")
            losses = one.losses or ()
            if one.losses is not None and len(losses) != self.n_objectives:
                raise OptimizerError(
                    f"tell: individual {one.id} has {len(losses)} losses, {self.n_objectives} are needed."
                )
            if not all(math.isfinite(loss) for loss in losses):
                raise OptimizerError(
                    f"tell: individual {one.id} has losses {losses}, which are not finite. "
                    "Tell it as failed, with losses None."
                )

    def _remember_best(self, ids: npt.NDArray[np.int64], genomes: FloatArray, losses: FloatArray) -> None:
        i = int(np.argmin(losses))
        if math.isfinite(losses[i]) and (self._best is None or losses[i] < self._best[0]):
            self._best = (float(losses[i]), int(ids[i]), genomes[i].copy())

    def _check_same(self, meta: Mapping[str, Any]) -> None:
        if meta["space"] != _fingerprint(self.space):
            raise OptimizerError(f"This state of {self.name} was made for another search space.")
        if meta["n_objectives"] != self.n_objectives:
            raise OptimizerError(
                f"This state of {self.name} was made for another number of objectives: "
                f"{meta['n_objectives']}, now {self.n_objectives}."
            )
        now = self.options.model_dump(mode="json")
        # An option that a later release adds has its default, which must mean the behaviour before it.
        other = {key: value for key, value in meta["options"].items() if key in now and now[key] != value}
        if other:
            raise OptimizerError(f"This state of {self.name} was made with the options {other}, now {now}.")

    def _valid_options(self, options: BaseModel | Mapping[str, Any]) -> BaseModel:
        try:
            return self.Options.model_validate(options)
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise OptimizerError(f"Options of {self.name}: {'; '.join(lines)}") from error


def _fingerprint(space: Space) -> str:
    # PostgreSQL's jsonb turns 1e22 into a whole number, which is the same parameter all the same.
    numbers_alike = json.loads(json.dumps(space.to_json()), parse_int=float)
    return hashlib.sha256(json.dumps(numbers_alike, sort_keys=True).encode()).hexdigest()


def _rows(rows: Any, columns: int) -> FloatArray:
    """The vectors as one array of shape (number, columns), also when there are none."""
    return np.array(list(rows), dtype=np.float64).reshape(-1, columns)
