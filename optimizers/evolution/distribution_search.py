"""What optimizers share that fit a distribution to the best of a generation and draw the next one from it.

The first generation is uniform over the box. Later ones live in R^n and are folded into the cube as those of
`cmaes` are. Who was drawn from an earlier distribution counts as everybody else.

The spread of the best about their own mean shrinks too fast on a slope. Their spread about the last mean, as
in the rank-mu update, does not (Hansen, "The CMA evolution strategy: a comparing review", 2006); here it is
half of the way between both.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from optimizers import OptimizerError
from optimizers.base import Arrays, FloatArray, IntArray, Optimizer, Options, Recommendation, Told
from optimizers.bins import least_std
from optimizers.bounds import from_unit, to_unit
from optimizers.evolution.gaussian_mixture import Mixture, fit
from optimizers.generations import Waiting
from optimizers.versions import part

SMALLEST_POPULATION = 4
LARGEST_FULL = 1000
_LARGEST_AUTO = 200  # dimensions up to which "auto" learns correlations
_SMALLEST_STD = 1e-12
_SHIFT = 0.5  # share of the squared shift of each mean in its covariance


class DistributionOptions(Options):
    """Options of all optimizers that fit a distribution to the best."""

    distribution: Literal["gaussian", "noisy_gaussian", "mixture"] = Field(
        "gaussian", description="what is fitted; noisy_gaussian, mixture: with noise that decays"
    )
    covariance: Literal["auto", "full", "diagonal"] = Field(
        "auto", description="correlations or not; auto: full up to 200 dimensions"
    )
    components: int = Field(3, ge=2, description="Gaussians of a mixture")
    smoothing: float = Field(0.3, ge=0, lt=1, description="share of the last distribution that is kept")
    noise: float = Field(
        0.1, ge=0, le=1, description="first standard deviation of the added noise, as a share of each range"
    )
    noise_decay: float = Field(0.9, gt=0, le=1, description="factor on the noise, in each generation")
    temp_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="factor on the temperature (1 at first) at which worse ones join the best; 0: none do",
    )


class DistributionSearch(Optimizer):
    """Subclasses say how many are told for a fit (`_take`) and how many of them are the best (`_n_elite`)."""

    Options: ClassVar[type[DistributionOptions]] = DistributionOptions
    options: DistributionOptions

    def _start(self) -> None:
        d, covariance = self.space.dimension, self.options.covariance
        if covariance == "full" and d > LARGEST_FULL:
            raise OptimizerError(
                f"{self.name} with covariance full keeps n x n matrices: at most {LARGEST_FULL} dimensions, "
                f"got {d}. Use diagonal."
            )
        self._full = covariance == "full" or (covariance == "auto" and d <= _LARGEST_AUTO)
        self._population = 0  # told for the next fit; 0: the first ask will tell
        self._generation = 0
        self._waiting = Waiting(d)
        self._model: Mixture | None = None  # None: uniform over the cube

    @abstractmethod
    def _first_population(self, n: int) -> int:
        """How many are told for the first fit when `n` are asked for first."""

    @abstractmethod
    def _take(self) -> Told | None:
        """The next individuals to fit to, once enough were told."""

    @abstractmethod
    def _n_elite(self, n: int) -> int:
        """How many of `n` are the best."""

    def _unit(self, genome: FloatArray) -> FloatArray:
        return to_unit(genome)

    def _genome(self, unit: FloatArray) -> FloatArray:
        return from_unit(unit)

    def _sample(self, n: int) -> FloatArray:
        if not self._population:
            self._population = self._first_population(n)
            self._advance()  # with what was observed before
        if self._model is None:
            return from_unit(self._rng.random((n, self.space.dimension)))
        return self._model.sample(self._rng, n, self._noise())

    def _noise(self) -> FloatArray:
        """Variances that are added to those of the distribution, shape (dimension,)."""
        least = np.maximum(least_std(self.space, self._centre()), _SMALLEST_STD)
        if self.options.distribution == "gaussian":
            return least**2
        noise = self.options.noise * self.options.noise_decay ** (self._generation - 1)
        return np.maximum(least, noise) ** 2

    def _centre(self) -> FloatArray:
        """The mean of the heaviest component in the cube; only once something was fitted."""
        assert self._model is not None
        return to_unit(self._model.means[int(np.argmax(self._model.weights))])

    def _observe(self, told: Told) -> None:
        """What is known counts as told; before the first ask, only a population of the best of it."""
        self._waiting.add(told)
        if not self._population:
            everybody = self._waiting.peek()
            best = np.sort(everybody.order()[: self._first_population(0)])
            self._waiting.clear()
            self._waiting.add(everybody.rows(best))
        self._advance()

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._waiting.revise(individual, loss)

    def _learn(self, told: Told) -> None:
        self._waiting.add(told)
        self._advance()

    def _advance(self) -> None:
        while self._population and (told := self._take()) is not None:
            chosen = told.genomes[self._elite_rows(told)]
            if len(chosen) < 2:
                continue  # nothing is known about where to look
            components = self.options.components if self.options.distribution == "mixture" else 1
            model = fit(chosen, components, self._full, self._model, self._rng)
            if self._model is not None:
                model = model.widened(_SHIFT, self._model).smoothed(self._model, self.options.smoothing)
            self._model = model
            self._generation += 1

    def _elite_rows(self, told: Told) -> IntArray:
        """Rows to fit to: the best, whoever ties with the last of them, and some that are worse."""
        order = told.order()
        order = order[np.isfinite(told.violations[order])]
        n = min(max(2, self._n_elite(len(told.ids))), len(order))
        if n < 2:
            return order[:0]
        losses, violations = told.losses[order, 0], told.violations[order]
        ties = (losses == losses[n - 1]) & (violations == violations[n - 1])
        chosen = ties | (np.arange(len(order)) < n)
        if self.options.temp_decay and np.isfinite(losses[n - 1]):
            chosen |= self._rng.random(len(order)) < self._acceptance(losses, n)
        rows: IntArray = order[chosen]
        return rows

    def _acceptance(self, losses: FloatArray, n: int) -> FloatArray:
        """Probability to be fitted to, of sorted losses: exp of minus the distance from the n-th, in widths
        of the best n and degrees of temperature."""
        temperature = self.options.temp_decay ** (self._generation + 1)
        scale = max(float(np.abs(losses[np.isfinite(losses)]).max()), 1e-300)
        scaled = np.minimum(losses / scale, 4.0)  # so that no difference is infinite
        width = max(float(scaled[n - 1] - scaled[0]) * temperature, 1e-300)
        accepted: FloatArray = np.exp(-np.clip((scaled - scaled[n - 1]) / width, 0.0, 700.0))
        return np.where(np.isfinite(losses), accepted, 0.0)

    def recommend(self) -> Recommendation | None:
        """The mean of the heaviest component, which noise misleads less than the luckiest individual; before
        the first fit, the best individual told."""
        if self._model is None:
            return super().recommend()
        return Recommendation(self.space.decode(self._centre()), None, None)

    def _figures(self) -> dict[str, float]:
        figures: dict[str, float] = {
            "population": self._population,
            "model_generation": self._generation,
            "waiting": len(self._waiting),
        }
        if self._model is not None:
            spread = self._model.spread()
            figures["std_min"], figures["std_max"] = float(spread.min()), float(spread.max())
            figures["noise"] = float(np.sqrt(self._noise().max()))
        return figures

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        own = {"population": self._population, "generation": self._generation}
        arrays = {f"waiting.{name}": array for name, array in self._waiting.save().items()}
        if self._model is not None:
            arrays |= {f"model.{name}": array for name, array in self._model.save().items()}
        return own, arrays

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._population, self._generation = own["population"], own["generation"]
        self._waiting.load(part(arrays, "waiting."))
        model = part(arrays, "model.")
        self._model = Mixture.load(model) if model else None
