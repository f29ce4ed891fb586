"""The contract of all optimizers: ask for individuals, tell their losses, save and restore the state.

    optimizer = optimizers.get("cmaes")(space, 1, {}, seed=1)
    for suggestion in optimizer.ask(10): ...               # new individuals
    optimizer.tell([Evaluated(0, (0.3,)), ...])            # any subset of those asked, in any order
    optimizer.best()                                       # the best individual, or pareto_front()
    data = optimizer.state()                               # bytes
    optimizer = optimizers.get("cmaes").from_state(data, space, 1, {})

Rules that every optimizer keeps, and that one conformance suite tests:

* Losses are minimised. A failed or infeasible individual ranks after every one that has a loss; no optimizer
  ever sees NaN.
* What is asked is a function of the space, the options, the seed and what was told. The order within one
  `tell` does not matter. Global random state is neither read nor changed.
* A restored optimizer goes on as the saved one would have, to the bit, on the same numpy, BLAS and kind of
  CPU. Individuals that were asked and not yet told are part of the state. A state of any older release is
  read; one of a newer release is refused.
* With `reevaluate: k`, every ask repeats the k best individuals; they are judged by the mean of their losses.
* Time and state depend on the individuals in flight and the population, not on how many were told before.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel

from optimizers import OptimizerError, state
from optimizers.capabilities import ALL_KINDS, NUMBERS, Capabilities, check_problem
from optimizers.checks import check_told, violation
from optimizers.elite import Elite
from optimizers.individuals import (
    Best,
    Evaluated,
    FloatArray,
    IntArray,
    Observation,
    Proposal,
    Recommendation,
    Suggestion,
    Told,
    stacked,
)
from optimizers.options import Options, stored_options, valid_options
from optimizers.pareto import Front
from optimizers.space import Space, SpaceError
from optimizers.versions import BASE_VERSION, Arrays, Migration, check_same, fingerprint, migrate, part

__all__ = [
    "ALL_KINDS", "NUMBERS", "Arrays", "Best", "Capabilities", "Evaluated", "FloatArray", "IntArray",
    "Migration", "Observation", "Optimizer", "OptimizerError", "Options", "Proposal", "Recommendation",
    "Suggestion", "Told",
]  # fmt: skip


class Optimizer(ABC):
    """See the module's docstring for the contract.

    A subclass searches in *genomes*, real vectors of shape (dimension,). It provides `_start`, `_learn`,
    `_save`, `_restore`, and `_sample` (or, to say more about its individuals, `_propose`); `_unit` and
    `_genome` when its genomes are not points of the unit cube; and `_observe` and `_revise` where learning
    from observations and better estimates differs from learning from its own individuals.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    format_version: ClassVar[int]
    migrations: ClassVar[Mapping[int, Migration]] = {}
    Options: ClassVar[type[Options]]
    capabilities: ClassVar[Capabilities]

    def __init__(
        self,
        space: Space,
        n_objectives: int,
        options: BaseModel | Mapping[str, Any],
        seed: int,
        first_id: int = 0,
    ) -> None:
        """A fresh optimizer; `seed` >= 0; its individuals count from `first_id`.

        Raises:
            OptimizerError: the options, the space or the number of objectives do not suit.
        """
        self.space = space
        self.n_objectives = n_objectives
        self.seed = seed
        check_problem(self.name, self.capabilities, space, n_objectives)
        if seed < 0:
            raise OptimizerError(f"The seed must be 0 or more, got {seed}.")
        self.options = valid_options(self.name, self.Options, options)
        if self.options.reevaluate and n_objectives > 1:
            raise OptimizerError(
                f"Options of {self.name}: reevaluate needs one objective, got {n_objectives}."
            )
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._next_id = first_id
        self._pending: dict[int, FloatArray] = {}
        self._again: dict[int, int] = {}  # pending re-evaluation -> the elite it is of
        self._told = 0
        self._failed = 0
        self._observed = 0
        self._elite = Elite(space.dimension, self.options.reevaluate)
        self._front = Front(space.dimension, n_objectives)
        self._start()

    @classmethod
    def default_batch(cls, dimension: int) -> int:  # noqa: ARG003
        """How many individuals a generation should have when the user does not say."""
        return 32

    @classmethod
    def measures(cls, options: BaseModel) -> tuple[str, ...]:  # noqa: ARG003
        """Names of the optimizee's metrics that must be told with every ok individual."""
        return ()

    @classmethod
    def tasks_needed(cls, options: BaseModel) -> int:  # noqa: ARG003
        """Tasks that a campaign must have at least; more than 1: it chooses among them, so they stay."""
        return 1

    @classmethod
    def in_flight_needed(cls, options: BaseModel) -> int:  # noqa: ARG003
        """Individuals that a campaign must keep in flight at least, re-evaluations not counted."""
        return 1

    def individuals_needed(self) -> int:
        """Individuals without which there is no result: all of a design; 0: any number says something."""
        return 0

    def ask(self, n: int) -> list[Suggestion]:
        """`n` >= 1 new individuals, pending until they are told; fewer only if `stop_reason` says why."""
        if n < 1:
            raise OptimizerError(f"ask({n}): at least one individual must be asked for.")
        again = min(self.options.reevaluate, n - 1)
        rows = self._elite.choose(again, set(self._again.values()))
        suggestions = [self._suggest(proposal) for proposal in self._propose(n - again)]
        if again > len(rows):  # there are too few elites at the beginning
            suggestions += [self._suggest(proposal) for proposal in self._propose(again - len(rows))]
        for row in rows:
            origin = int(self._elite.ids[row])
            self._again[self._next_id] = origin
            suggestions.append(self._suggest(Proposal(self._elite.genomes[row].copy(), origin)))
        return suggestions

    def tell(self, evaluated: Sequence[Evaluated]) -> None:
        """Learn from pending individuals, in any order; those not told stay pending.

        Raises:
            OptimizerError: an id is not pending or comes twice, losses or measures are missing, too many or
                not finite. Nothing is learned then.
        """
        check_told(evaluated, self._pending, self._next_id, self.n_objectives, self.measures(self.options))
        told = sorted(evaluated, key=lambda one: one.id)
        self._told += len(told)
        self._failed += sum(one.losses is None for one in told)
        for one in told:
            if one.id in self._again:
                del self._pending[one.id]
                self._tell_again(self._again.pop(one.id), one.losses)
        new = [one for one in told if one.id in self._pending]
        if new:
            rows = self._told_of(new, [self._pending.pop(one.id) for one in new])
            self._remember(rows)
            self._learn(rows)

    def observe(self, observations: Sequence[Observation]) -> int:
        """Learn from individuals that were asked elsewhere; returns how many were of use.

        Left out are parameter sets that are not in this space and losses that are not finite.
        """
        kept, genomes = [], []
        for one in observations:
            if len(one.losses) == self.n_objectives and all(map(math.isfinite, one.losses)):
                try:
                    genomes.append(self._genome(self.space.encode(one.params)))
                except SpaceError:
                    continue
                own = one.individual
                kept.append(Evaluated(-1 - self._observed if own is None else own, one.losses))
                self._observed += own is None
        if kept:
            order = np.argsort([one.id for one in kept], kind="stable")
            told = self._told_of([kept[i] for i in order], [genomes[i] for i in order])
            self._remember(told.rows(told.ids >= 0))
            self._observe(told)
        return len(kept)

    def best(self) -> Best | None:
        """The best individual told, by the mean of its losses; None before the first ok one, and with several
        objectives. Where elites are evaluated again, one that was not is named only while none has been."""
        row = self._elite.best()
        if row is None:
            return None
        individual, mean = int(self._elite.ids[row]), float(self._elite.means[row])
        return Best(individual, self._params(self._elite.genomes[row]), (mean,), int(self._elite.counts[row]))

    def pareto_front(self) -> list[Best]:
        """Individuals told that no other dominates, by id, at most pareto.CAPACITY; [] with one objective."""
        front = self._front
        return [
            Best(individual, self._params(genome), tuple(losses))
            for individual, genome, losses in zip(
                front.ids.tolist(), front.genomes, front.losses.tolist(), strict=True
            )
        ]

    def recommend(self) -> Recommendation | None:
        """What to use if the campaign ended now: `best` or the model's own point; None when there is none."""
        best = self.best()
        return None if best is None else Recommendation(best.params, best.losses[0], best.individual)

    def stop_reason(self) -> str | None:
        """Why there is nothing left to ask for, in a few words; None while there is."""
        return None

    def diagnostics(self) -> dict[str, float]:
        """Finite figures about the search, for plots over the generations."""
        values = {
            "asked": self._next_id,
            "told": self._told,
            "pending": len(self._pending),
            "observed": self._observed,
            "failed_share": self._failed / max(1, self._told),
            **self._figures(),
        }
        best = self._elite.best()
        if best is not None:
            values["best_loss"] = float(self._elite.means[best])
            values["best_evaluations"] = int(self._elite.counts[best])
        if self.n_objectives > 1:
            values["front"] = len(self._front.ids)
        return {key: float(value) for key, value in values.items() if math.isfinite(value)}

    def state(self) -> bytes:
        """All that is needed to go on; equal states are equal bytes."""
        own, arrays = self._save()
        meta = {
            "name": self.name,
            "base_version": BASE_VERSION,
            "format_version": self.format_version,
            "seed": self.seed,
            "n_objectives": self.n_objectives,
            "space": fingerprint(self.space),
            "options": self.options.model_dump(mode="json"),
            "rng": self._rng.bit_generator.state,
            "next_id": self._next_id,
            "told": self._told,
            "failed": self._failed,
            "observed": self._observed,
            "own": own,
        }
        arrays = {f"own.{name}": array for name, array in arrays.items()}
        ids = list(self._pending)
        arrays["pending.ids"] = np.array(ids, dtype=np.int64)
        arrays["pending.origins"] = np.array([self._again.get(i, -1) for i in ids], dtype=np.int64)
        arrays["pending.genomes"] = stacked(self._pending.values(), self.space.dimension)
        kept = {"elite": self._elite.save()} if self.n_objectives == 1 else {"front": self._front.save()}
        for owner, members in kept.items():
            arrays |= {f"{owner}.{name}": array for name, array in members.items()}
        return state.dump(meta, arrays)

    @classmethod
    def from_state(
        cls, data: bytes, space: Space, n_objectives: int, options: BaseModel | Mapping[str, Any]
    ) -> Self:
        """The optimizer whose `state()` this is, made by this or any older release.

        Raises:
            OptimizerError: unreadable bytes, another optimizer's state, a state of a newer version, or one
                made for another space, number of objectives or other options. Options that are not given
                are those of the state, whatever the defaults are now.
        """
        meta, arrays = state.load(data)
        if meta.get("name") != cls.name:
            raise OptimizerError(f"This is a state of optimizer {meta.get('name')!r}, not of {cls.name!r}.")
        try:
            return cls._from_parts(meta, arrays, space, n_objectives, options)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise OptimizerError(
                f"The state of {cls.name} cannot be read: {error!r}. Restore an earlier state."
            ) from error

    @classmethod
    def _from_parts(
        cls,
        meta: dict[str, Any],
        arrays: Arrays,
        space: Space,
        n_objectives: int,
        options: BaseModel | Mapping[str, Any],
    ) -> Self:
        migrate(meta, arrays, cls.name, cls.format_version, cls.migrations)
        check_same(meta, space, n_objectives)
        going_on = stored_options(cls.name, cls.Options, meta["options"], options)
        new = cls(space, n_objectives, going_on, meta["seed"])
        new._rng.bit_generator.state = meta["rng"]
        new._next_id, new._told, new._failed = meta["next_id"], meta["told"], meta["failed"]
        new._observed = meta["observed"]
        ids, origins = arrays["pending.ids"].tolist(), arrays["pending.origins"].tolist()
        new._pending = dict(zip(ids, arrays["pending.genomes"], strict=True))
        new._again = {i: origin for i, origin in zip(ids, origins, strict=True) if origin >= 0}
        if n_objectives == 1:
            new._elite.load(part(arrays, "elite."))
        else:
            new._front.load(part(arrays, "front."))
        new._restore(meta["own"], part(arrays, "own."))
        return new

    @abstractmethod
    def _start(self) -> None:
        """Set the state before the first ask. `space`, `options` and `_rng` are there."""

    def _sample(self, n: int) -> FloatArray:
        """Genomes of `n` new individuals, shape (n, dimension); their ids follow from `_next_id`."""
        raise NotImplementedError

    def _propose(self, n: int) -> list[Proposal]:
        """`n` new individuals; fewer only with a `stop_reason`."""
        return [Proposal(genome) for genome in self._sample(n)]

    @abstractmethod
    def _learn(self, told: Told) -> None:
        """Take in told individuals (no re-evaluations)."""

    def _observe(self, told: Told) -> None:
        """Take in individuals that were not asked here, all ok; maybe before the first `_sample`."""
        self._learn(told)

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: B027
        """A told individual's mean loss over `evaluations` is now this; it may be long forgotten."""

    @abstractmethod
    def _save(self) -> tuple[dict[str, Any], Arrays]:
        """The subclass's own state as JSON (finite numbers) and arrays."""

    @abstractmethod
    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        """Undo `_save`, on an instance that went through `_start`."""

    def _unit(self, genome: FloatArray) -> FloatArray:
        """The point of the unit cube that a genome stands for."""
        return genome

    def _genome(self, unit: FloatArray) -> FloatArray:
        """A genome that stands for a point of the unit cube: the inverse of `_unit`."""
        return unit

    def _figures(self) -> dict[str, float]:
        """The subclass's own diagnostics."""
        return {}

    def _size_for(self, n: int, least: int) -> int:
        """How many a population has where the user does not say: `n`, the first ask, unless below `least`."""
        return n if n >= least else self.default_batch(self.space.dimension)

    def _params(self, genome: FloatArray) -> dict[str, Any]:
        return self.space.decode(self._unit(genome))

    def _suggest(self, proposal: Proposal) -> Suggestion:
        """Number a proposal and keep it as pending."""
        params = self._params(proposal.genome)
        made = Suggestion(self._next_id, params, proposal.origin, proposal.parent, proposal.tasks)
        self._pending[made.id] = proposal.genome
        self._next_id += 1
        return made

    def _told_of(self, evaluated: Sequence[Evaluated], genomes: Sequence[FloatArray]) -> Told:
        worst = (math.inf,) * self.n_objectives
        names = self.measures(self.options)
        return Told(
            np.array([one.id for one in evaluated], dtype=np.int64),
            np.array(genomes),
            np.array([worst if one.losses is None else one.losses for one in evaluated], dtype=np.float64),
            np.array([violation(one) for one in evaluated], dtype=np.float64),
            {name: [one.measures.get(name) for one in evaluated] for name in names},
        )

    def _remember(self, told: Told) -> None:
        if self.n_objectives == 1:
            self._elite.admit(told.ids, told.genomes, told.losses[:, 0])
        else:
            self._front.admit(told.ids, told.genomes, told.losses)

    def _tell_again(self, origin: int, losses: tuple[float, ...] | None) -> None:
        """A failed re-evaluation says nothing about the loss."""
        revised = None if losses is None else self._elite.again(origin, losses[0])
        if revised is not None:
            self._revise(origin, *revised)
