"""Metropolis chains, what simulated annealing and parallel tempering share: moves, acceptance, step sizes.

Metropolis et al., "Equation of state calculations by fast computing machines" (1953). A chain moves to a
proposal with the probability min(1, exp(-dE / T)), dE the difference of the losses. Proposals are Gaussian,
folded back at the bounds, and therefore symmetric. Step sizes follow the share of accepted proposals
(Robbins-Monro; Andrieu and Thoms, "A tutorial on adaptive MCMC", 2008).

Any number of proposals may be in flight: each belongs to a chain, and is judged against the state in which
that chain is when it is told.
"""

from __future__ import annotations

import heapq
import math
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from optimizers.base import Arrays, FloatArray, IntArray, Optimizer, Options, Told
from optimizers.bins import discrete, least_std, unordered
from optimizers.bounds import reflected

SMALLEST_SAMPLE = 8  # losses from which the scale of the temperature is estimated, at least
_KEPT = 256  # observations kept before the number of chains is known
_ATTEMPTS = 20  # at a proposal that differs from where its chain is, if there are only whole numbers, choices
_SMALLEST_STEP = 1e-12  # as a share of the range; float64 resolves no finer
_REDRAWN = 0.2  # share of proposals in which a categorical parameter is drawn anew


class ChainOptions(Options):
    """Options of all optimizers made of chains."""

    chains: int | None = Field(None, ge=1, description="number of chains; null: as many as the first ask")
    step: float = Field(0.3, gt=0, le=1, description="first length of a move, as a share of each range")
    acceptance: float = Field(
        0.35, gt=0, lt=1, description="share of accepted moves that the step sizes are adapted to"
    )


class Chains(Optimizer):
    """K chains. A subclass says at which temperatures, and what happens after a sweep: K proposals told.

    Attributes (K rows):
        _ids: individual that is the state of the chain, or -1.
        _genomes, _losses: of that state; infinite loss: there is none yet, the chain draws uniformly.
        _steps: standard length of a move, as a share of the range.
    """

    Options: ClassVar[type[ChainOptions]] = ChainOptions
    options: ChainOptions

    def _start(self) -> None:
        d = self.space.dimension
        self._ids: IntArray = np.empty(0, dtype=np.int64)
        self._genomes = np.empty((0, d))
        self._losses = np.empty(0)
        self._steps = np.empty(0)
        self._chains = 0  # 0: the first ask will tell
        self._owners: dict[int, int] = {}  # individual in flight -> its chain
        self._told_in_sweep = 0
        self._sweep = 0
        self._accepted, self._judged = 0, 0
        self._first_losses: list[float] = []
        self._scale: float | None = None  # of loss differences; None: not known yet
        bins = discrete(self.space)
        self._any_discrete, self._discrete = bool(bins.any()), bool(bins.all())
        self._choices = np.flatnonzero(unordered(self.space)).tolist()
        if self.options.chains is not None:
            self._resize(self.options.chains)

    @abstractmethod
    def _temperature(self, chain: int) -> float:
        """Of a chain, >= 0, in units of the loss; called only when `_scale` is known."""

    @abstractmethod
    def _after_sweep(self) -> None:
        """K proposals more were told, and `_sweep` was counted up."""

    def _chains_for(self, n: int) -> int:
        """How many chains there should be when `n` individuals are asked for at first."""
        return n

    def _adapt(self, chain: int, error: float) -> None:
        """Follow the acceptance: `error` is 1 or 0 less the wanted share."""
        self._steps[chain] *= math.exp(0.5 * error)

    def _resize(self, chains: int) -> None:
        """Set the number of chains; the best states known become theirs."""
        order = np.lexsort((self._ids, self._losses))[:chains]
        free = chains - len(order)
        self._ids = np.concatenate([self._ids[order], np.full(free, -1)])
        self._genomes = np.concatenate([self._genomes[order], np.zeros((free, self.space.dimension))])
        self._losses = np.concatenate([self._losses[order], np.full(free, np.inf)])
        self._steps = np.full(chains, self.options.step)
        self._chains = chains

    def _sample(self, n: int) -> FloatArray:
        if not self._chains:
            self._resize(self._chains_for(n))
        # The chain with the fewest proposals in flight is next; of equals, in turns over all asks.
        in_flight = np.bincount(list(self._owners.values()), minlength=self._chains).tolist()
        turns = [(in_flight[c], (c - self._next_id) % self._chains, c) for c in range(self._chains)]
        heapq.heapify(turns)
        genomes = []
        for individual in range(self._next_id, self._next_id + n):
            busy, turn, chain = turns[0]
            heapq.heapreplace(turns, (busy + 1, turn, chain))
            self._owners[individual] = chain
            genomes.append(self._move(chain))
        return np.array(genomes)

    def _move(self, chain: int) -> FloatArray:
        """A proposal of a chain."""
        if not math.isfinite(self._losses[chain]):
            return self._rng.random(self.space.dimension)
        here = self._genomes[chain]
        there = self._drawn(here, float(self._steps[chain]))
        if self._discrete:
            now = self.space.decode(here)
            for _ in range(_ATTEMPTS):
                if self.space.decode(there) != now:
                    break
                there = self._drawn(here, float(self._steps[chain]))
        return there

    def _drawn(self, here: FloatArray, step: float) -> FloatArray:
        d = self.space.dimension
        std = np.full(d, step / math.sqrt(d))
        if self._any_discrete:
            std = np.maximum(std, least_std(self.space, here))
            std[self._choices] = 0.0
        there = reflected(here + std * self._rng.standard_normal(d))
        if self._choices:
            anew = self._rng.random(len(self._choices)) < max(step, _REDRAWN / len(self._choices))
            there[self._choices] = np.where(anew, self._rng.random(len(self._choices)), here[self._choices])
        return there

    def _learn(self, told: Told) -> None:
        for i, individual in enumerate(told.ids.tolist()):
            loss = float(told.losses[i, 0])
            self._gather_scale(loss)
            chain = self._owners.pop(individual, None)
            if chain is None:
                self._take_in(individual, told.genomes[i], loss)
                continue
            self._judge(chain, individual, told.genomes[i], loss, bool(np.isfinite(told.violations[i])))
            self._told_in_sweep += 1
            if self._told_in_sweep >= self._chains:
                self._told_in_sweep = 0
                self._sweep += 1
                self._after_sweep()

    def _judge(self, chain: int, individual: int, genome: FloatArray, loss: float, informative: bool) -> None:
        """Metropolis' rule. Infeasible proposals are rejected; failed ones say nothing about the step."""
        first = not math.isfinite(self._losses[chain])
        accepted = math.isfinite(loss) and (first or self._accepts(chain, loss))
        if informative and not first:
            self._judged += 1
            self._accepted += accepted
            self._adapt(chain, accepted - self.options.acceptance)
            self._steps = np.clip(self._steps, _SMALLEST_STEP, 1.0)
        if accepted:
            self._ids[chain], self._genomes[chain], self._losses[chain] = individual, genome, loss

    def _accepts(self, chain: int, loss: float) -> bool:
        worse = loss - float(self._losses[chain])
        chance = float(self._rng.random())  # drawn in any case: what follows does not depend on the branch
        if worse <= 0 or self._scale is None:
            return True
        return chance < boltzmann(worse, self._temperature(chain))

    def _take_in(self, individual: int, genome: FloatArray, loss: float) -> None:
        """An individual from elsewhere becomes the state of a free chain, or of the worst one if better."""
        if not self._chains:
            self._ids = np.append(self._ids, individual)
            self._genomes = np.concatenate([self._genomes, genome[None]])
            self._losses = np.append(self._losses, loss)
            if len(self._ids) > _KEPT:
                best = np.lexsort((self._ids, self._losses))[:_KEPT]
                self._ids, self._genomes = self._ids[best], self._genomes[best]
                self._losses = self._losses[best]
            return
        worst = int(np.argmax(self._losses))
        if loss < self._losses[worst]:
            self._ids[worst], self._genomes[worst], self._losses[worst] = individual, genome, loss

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._losses[self._ids == individual] = loss

    def _gather_scale(self, loss: float) -> None:
        """The interquartile range of the first losses, or their range if that is 0."""
        if self._scale is not None or not math.isfinite(loss):
            return
        self._first_losses.append(loss)
        if len(self._first_losses) < max(SMALLEST_SAMPLE, self._chains):
            return
        losses = np.array(self._first_losses)
        largest = float(np.abs(losses).max()) or 1.0
        low, first, third, high = np.quantile(losses / largest, [0, 0.25, 0.75, 1])
        spread = float(third - first) or float(high - low)
        self._first_losses = []  # on a plateau, the next ones may tell
        if spread > 0:
            # Neither zero nor infinite, whatever the losses are.
            self._scale = min(max(spread * min(largest, 1e300), 1e-300), 1e300)

    def _figures(self) -> dict[str, float]:
        finite = self._losses[np.isfinite(self._losses)]
        figures = {"chains": float(self._chains), "sweep": float(self._sweep)}
        if self._judged:
            figures["accepted_share"] = self._accepted / self._judged
        if len(self._steps):
            figures["step_min"], figures["step_max"] = float(self._steps.min()), float(self._steps.max())
        if len(finite):
            figures["median_loss"] = 2 * float(np.median(finite / 2))
        return figures

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        owners = sorted(self._owners.items())
        own = {
            "chains": self._chains,
            "told_in_sweep": self._told_in_sweep,
            "sweep": self._sweep,
            "accepted": self._accepted,
            "judged": self._judged,
            "scale": self._scale,
        }
        return own, {
            "ids": self._ids,
            "genomes": self._genomes,
            "losses": self._losses,
            "steps": self._steps,
            "owners": np.array(owners, dtype=np.int64).reshape(-1, 2),
            "first_losses": np.array(self._first_losses, dtype=np.float64),
        }

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._chains, self._scale = own["chains"], own["scale"]
        self._told_in_sweep, self._sweep = own["told_in_sweep"], own["sweep"]
        self._accepted, self._judged = own["accepted"], own["judged"]
        self._ids, self._genomes = arrays["ids"], arrays["genomes"]
        self._losses, self._steps = arrays["losses"], arrays["steps"]
        self._owners = {int(i): int(chain) for i, chain in arrays["owners"]}
        self._first_losses = arrays["first_losses"].tolist()


def boltzmann(worse: float, temperature: float) -> float:
    """exp(-worse / temperature) for `worse` > 0, also where the quotient overflows; 0 at temperature 0."""
    return math.exp(-worse / temperature) if temperature > 0 else 0.0
