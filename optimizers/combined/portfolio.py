"""Several optimizers side by side, which share their best and get individuals by their recent success.

Which optimizer suits a problem is rarely known before. Each ask is divided among the members. A member's part
grows with its share of *successes* among the individuals told lately: those among the best quarter of their
time. Only ranks count, so scale and offset of the losses do not matter; every member keeps a least part, so
one that suits later phases is not lost. (The idea of credit by ranks in a sliding window: Fialho, Da Costa,
Schoenauer and Sebag, "Analyzing bandit-based adaptive operator selection mechanisms", 2010. Portfolios of
optimizers that share results: e.g. Turner et al., "Bayesian optimization is superior to random search for
machine learning hyperparameter tuning", NeurIPS 2020 competition.)
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

import optimizers
from optimizers import OptimizerError
from optimizers.base import Arrays, Capabilities, FloatArray, IntArray, Optimizer, Options, Told
from optimizers.combined.nested import Nested, checked_options, inner_seed
from optimizers.versions import part

_GOOD = 0.25  # the best part of the individuals of a time, which are successes
_GENERATIONS = 5  # asks that the window covers
_SMALLEST_WINDOW, _LARGEST_WINDOW = 40, 1000


class Member(BaseModel):
    """One optimizer of a portfolio."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="of the optimizer")
    options: dict[str, Any] = Field(default_factory=dict, description="of the optimizer")

    @field_validator("options")
    @classmethod
    def _known(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return checked_options(info.data.get("name"), options)


class PortfolioOptions(Options):
    """Options of `portfolio`."""

    members: tuple[Member, ...] = Field(
        (Member(name="cmaes"), Member(name="differential_evolution"), Member(name="genetic")),
        min_length=2,
        max_length=20,
        description="optimizers that run side by side, each with name and options",
    )
    share_every: int = Field(
        3, ge=0, description="asks after which all are told of the best one; 0: they share nothing"
    )
    floor: float = Field(
        0.1,
        ge=0,
        le=1,
        description="least part of the individuals that each member gets; at most an even part",
    )


class Portfolio(Optimizer):
    """The members, whose each pending individual is, and who was successful lately."""

    name = "portfolio"
    summary = "Several optimizers side by side: when it is not known which one suits."
    format_version = 1
    Options: ClassVar[type[PortfolioOptions]] = PortfolioOptions
    capabilities = Capabilities(objectives="single", asynchronous=True, constraints=True)
    options: PortfolioOptions

    @classmethod
    def measures(cls, options: BaseModel) -> tuple[str, ...]:
        assert isinstance(options, PortfolioOptions)
        names: list[str] = []
        for member in options.members:
            inner = optimizers.get(member.name)
            names += inner.measures(inner.Options.model_validate(member.options))
        return tuple(sorted(set(names)))

    def _start(self) -> None:
        self._members: list[Nested] = []
        for i, member in enumerate(self.options.members):
            try:
                nested = Nested(member.name, member.options, self.space, inner_seed(self.seed, i))
            except OptimizerError as error:
                raise OptimizerError(f"Options of portfolio: members.{i}: {error}") from error
            self._members.append(nested)
        self._batch = 1
        self._asks = 0  # since the best was shared
        self._shared_id: int | None = None
        self._window_members: IntArray = np.empty(0, dtype=np.int64)
        self._window_good = np.empty(0)  # 1: a success, 0: none
        self._window_losses = np.empty(0)

    def _sample(self, n: int) -> FloatArray:
        self._batch = n
        self._share()
        genomes: list[FloatArray] = []
        for index, number in enumerate(self._divide(n)):
            if number:
                genomes += self._members[index].ask(number, self._next_id + len(genomes))
        for member in self._members:  # in place of those that have nothing left
            if len(genomes) < n:
                genomes += member.ask(n - len(genomes), self._next_id + len(genomes))
        return np.array(genomes).reshape(-1, self.space.dimension)

    def stop_reason(self) -> str | None:
        reasons = [member.optimizer.stop_reason() for member in self._members]
        return None if None in reasons else "; ".join(map(str, reasons))

    def _parts(self) -> FloatArray:
        """The part of the individuals that each member is to get, shape (members,), sum 1."""
        k = len(self._members)
        told = np.bincount(self._window_members, minlength=k)
        good = np.bincount(self._window_members, self._window_good, minlength=k)
        # Two successes of eight are assumed beforehand; squares, so that differences show.
        rate = ((good + 2) / (told + 8)) ** 2
        least = min(self.options.floor, 1 / k)
        return np.asarray(least + (1 - k * least) * rate / rate.sum())

    def _divide(self, n: int) -> list[int]:
        """Individuals for each member: the whole parts, and the rest by chance."""
        exact = self._parts() * n
        numbers = np.floor(exact + 1e-9)
        rest = n - int(numbers.sum())
        if rest:
            fraction = np.maximum(exact - numbers, 0.0) + 1e-9
            # Evenly spaced marks on the line of fractions: each member gets its expected number.
            marks = (self._rng.random() + np.arange(rest)) / rest
            edges = np.cumsum(fraction / fraction.sum())
            chosen = np.minimum(np.searchsorted(edges, marks, side="right"), len(numbers) - 1)
            numbers += np.bincount(chosen, minlength=len(numbers))
        return [int(number) for number in numbers]

    def _share(self) -> None:
        """Tell all members, its own too, of the best individual, when there is another one than before."""
        self._asks += 1
        row = self._elite.best()
        if not self.options.share_every or self._asks < self.options.share_every or row is None:
            return
        self._asks = 0
        best = int(self._elite.ids[row])
        if best != self._shared_id:
            self._shared_id = best
            for member in self._members:
                member.observe(self._elite.genomes[[row]], self._elite.means[[row]])

    def _learn(self, told: Told) -> None:
        owners = {outer: i for i, member in enumerate(self._members) for outer in member.own}
        members = np.array([owners[outer] for outer in told.ids.tolist()], dtype=np.int64)
        losses = told.losses[:, 0]
        self._window_members = np.concatenate([self._window_members, members])
        self._window_losses = np.concatenate([self._window_losses, losses])
        # The best quarter of the window as it is now: of those just told, and of those before them.
        everyone = self._window_losses
        limit = np.sort(everyone)[max(0, int(_GOOD * len(everyone)) - 1)]
        good = (losses <= limit) & np.isfinite(losses)
        self._window_good = np.concatenate([self._window_good, good])
        size = min(_LARGEST_WINDOW, max(_SMALLEST_WINDOW, _GENERATIONS * self._batch))
        self._window_members = self._window_members[-size:]
        self._window_good, self._window_losses = self._window_good[-size:], self._window_losses[-size:]
        for member in self._members:
            member.tell(told)

    def _observe(self, told: Told) -> None:
        for member in self._members:
            member.observe(told.genomes, told.losses[:, 0])

    def _figures(self) -> dict[str, float]:
        return {f"part_{i}": float(value) for i, value in enumerate(self._parts())}

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        own = {"batch": self._batch, "asks": self._asks, "shared_id": self._shared_id}
        arrays: Arrays = {
            "window.members": self._window_members,
            "window.good": self._window_good,
            "window.losses": self._window_losses,
        }
        for i, member in enumerate(self._members):
            arrays |= {f"{i}.{key}": array for key, array in member.save().items()}
        return own, arrays

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._batch, self._asks, self._shared_id = own["batch"], own["asks"], own["shared_id"]
        self._window_members = arrays["window.members"]
        self._window_good, self._window_losses = arrays["window.good"], arrays["window.losses"]
        for i, member in enumerate(self._members):
            member.load(part(arrays, f"{i}."))
