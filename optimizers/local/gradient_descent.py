"""Gradient descent for losses without a gradient: it is estimated from samples around the current point.

A generation is the current point and pairs of samples at equal distances on both sides of it (antithetic:
even terms of the loss cancel). Least squares fit a plane to all samples told, wherever they really are:
failed ones are left out, samples cut off at a bound or told late still count. With fewer samples than
dimensions the plane of smallest slope is taken (as the L2L framework does with its pseudo-inverse).

Update rules: Cauchy (1847), classic; Robbins and Monro (1951), stochastic, here with noise added to the
gradient; Polyak (1964), momentum; Tieleman and Hinton (2012), RMSProp; Kingma and Ba, "Adam: a method for
stochastic optimization" (2015), Adam and AdaMax.

Steps do not depend on the scale of the loss. In a step, a coordinate changes by about `learning_rate` of its
range (Adam, AdaMax, RMSProp), or, in the mean over the coordinates, by that much where the gradient is as
large as it ever was and by less where it is smaller (classic, stochastic, momentum).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from optimizers.base import NUMBERS, Arrays, Capabilities, FloatArray, Migration, Optimizer, Options, Told
from optimizers.bins import least_std
from optimizers.generations import Waiting
from optimizers.starts import Start, first_point

Update = Literal["classic", "stochastic", "momentum", "rmsprop", "adam", "adamax"]

SMALLEST_POPULATION = 3
_LEAST_SPREAD = 0.05  # of the widest direction: in narrower ones the curvature passes for a steep slope
_LARGEST = 1e100  # of a gradient in units of the first one: its square is a float64


class GradientDescentOptions(Options):
    """Options of `gradient_descent`."""

    update: Update = Field("momentum", description="rule by which the gradient moves the point")
    learning_rate: float = Field(0.03, gt=0, le=1, description="first step, as a share of each range")
    decay: float = Field(0.99, gt=0, le=1, description="factor of the step (and the noise) per generation")
    exploration: float = Field(
        0.01, gt=0, le=1, description="standard deviation of the samples, as a share of each range"
    )
    population: int | None = Field(
        None, ge=SMALLEST_POPULATION, description="samples for each gradient; null: as many as the first ask"
    )
    first_moment: float = Field(
        0.9, ge=0, lt=1, description="share of the old mean gradient (momentum, adam, adamax)"
    )
    second_moment: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of the old mean square; null: 0.9 (rmsprop), 0.999 (adam, adamax)",
    )
    noise: float = Field(
        0.5, ge=0, description="length of the noise in that of the gradient, at first (stochastic)"
    )
    start: Start = Field("default", description="first point")


class GradientDescent(Optimizer):
    """Moments are of gradients in units of the first gradient's largest element."""

    name = "gradient_descent"
    summary = (
        "Gradient descent (Adam and others) on sampled gradients: smooth losses, any number of dimensions."
    )
    format_version = 2
    migrations: ClassVar[dict[int, Migration]] = {1: lambda meta, _: meta["own"].update(start_loss=None)}
    Options: ClassVar[type[GradientDescentOptions]] = GradientDescentOptions
    capabilities = Capabilities(objectives="single", asynchronous=False, kinds=NUMBERS)
    options: GradientDescentOptions

    @classmethod
    def default_batch(cls, dimension: int) -> int:  # noqa: ARG003
        """Few: many steps along a rough gradient lead further than few along the whole one."""
        return 6

    def _start(self) -> None:
        d = self.space.dimension
        self._population = self.options.population or 0  # 0: the first ask will tell
        self._generation = 0
        self._asked = 0  # in this generation
        self._point = first_point(self.space, self.options.start, self._rng)
        self._start_loss: float | None = None  # of the first point, if it was observed
        self._mirror = np.empty((0, d))  # the step of a sample whose counterpart comes next
        self._unit_gradient = 0.0  # largest element of the first gradient; 0: there was none yet
        self._largest = 0.0  # norm of the largest gradient so far, in units of the first
        self._slope = 0.0  # norm of the last one
        self._first, self._second = np.zeros(d), np.zeros(d)
        self._steps = 0
        self._waiting = Waiting(d)

    def _observe(self, told: Told) -> None:
        """Before the first step, the search begins at the best individual known."""
        best = told.order()[0]
        loss = float(told.losses[best, 0])
        known = math.inf if self._start_loss is None else self._start_loss
        if not self._generation and not self._asked and loss < known:
            self._point, self._start_loss = told.genomes[best], loss

    def _sample(self, n: int) -> FloatArray:
        if not self._population:
            self._population = self._size_for(n, SMALLEST_POPULATION)
        std = np.maximum(self.options.exploration, least_std(self.space, self._point))
        genomes = []
        for _ in range(n):
            if not self._asked:
                step = np.zeros(self.space.dimension)
            elif len(self._mirror):
                step, self._mirror = -self._mirror[0], self._mirror[:0]
            else:
                step = std * self._rng.standard_normal(self.space.dimension)
                self._mirror = step[None]
            self._asked += 1
            genomes.append(np.clip(self._point + step, 0.0, 1.0))
        return np.array(genomes)

    def _learn(self, told: Told) -> None:
        self._waiting.add(told)
        while self._population and (complete := self._waiting.take(self._population)) is not None:
            self._next_generation(complete)

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._waiting.revise(individual, loss)

    def _next_generation(self, told: Told) -> None:
        self._generation += 1
        self._asked, self._mirror = 0, self._mirror[:0]
        ok = told.ok
        gradient, scale = slope(told.genomes[ok], told.losses[ok, 0])
        largest = float(np.abs(gradient).max())
        if not 0 < largest < math.inf:
            return  # too few samples, too near to each other, or a plateau: nothing says where to go
        if not self._unit_gradient:
            self._unit_gradient = min(largest * scale, 1e300) or 1e-300
        # In an order in which neither a huge nor a tiny loss becomes infinite or zero.
        factor = min(scale / self._unit_gradient, 1e300)  # infinity times 0 is no number
        with np.errstate(over="ignore"):
            gradient = np.clip(gradient * factor, -_LARGEST, _LARGEST)
        self._steps += 1
        rate = self.options.learning_rate * self.options.decay ** (self._steps - 1)
        self._point = np.clip(self._point - rate * self._direction(gradient), 0.0, 1.0)

    def _direction(self, gradient: FloatArray) -> FloatArray:
        """What to go against, in units of the learning rate."""
        rule, t = self.options.update, self._steps
        self._slope = float(np.linalg.norm(gradient))
        self._largest = max(self._largest, self._slope)
        if rule in ("classic", "stochastic", "momentum"):
            if rule == "stochastic":
                noise = self._rng.standard_normal(len(gradient)) * self._slope / math.sqrt(len(gradient))
                gradient = gradient + self.options.noise * self.options.decay ** (t - 1) * noise
            scaled = gradient * (math.sqrt(len(gradient)) / self._largest) if self._largest else gradient
            if rule != "momentum":
                return scaled
            self._first = self.options.first_moment * self._first + scaled
            return self._first
        usual = 0.9 if rule == "rmsprop" else 0.999
        one, two = self.options.first_moment, self.options.second_moment or usual
        if rule == "adamax":
            self._second = np.maximum(two * self._second, np.abs(gradient))
            size = self._second
        else:
            self._second = two * self._second + (1 - two) * gradient**2
            size = np.sqrt(self._second / (1 - two**t))
        if rule == "rmsprop":
            return _ratio(gradient, size)
        self._first = one * self._first + (1 - one) * gradient
        return _ratio(self._first / (1 - one**t), size)

    def _figures(self) -> dict[str, float]:
        return {
            "population": float(self._population),
            "model_generation": float(self._generation),
            "waiting": float(len(self._waiting)),
            "gradient": self._slope * self._unit_gradient,
            "learning_rate": self.options.learning_rate * self.options.decay**self._steps,
        }

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        own = {
            "population": self._population,
            "generation": self._generation,
            "start_loss": self._start_loss,
            "asked": self._asked,
            "unit_gradient": self._unit_gradient,
            "largest": self._largest,
            "slope": self._slope,
            "steps": self._steps,
        }
        arrays = {"point": self._point, "mirror": self._mirror, "first": self._first, "second": self._second}
        return own, {**arrays, **self._waiting.save()}

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._population, self._generation = own["population"], own["generation"]
        self._asked, self._steps, self._start_loss = own["asked"], own["steps"], own["start_loss"]
        self._unit_gradient, self._largest, self._slope = own["unit_gradient"], own["largest"], own["slope"]
        self._point, self._mirror = arrays["point"], arrays["mirror"]
        self._first, self._second = arrays["first"], arrays["second"]
        self._waiting.load(arrays)


def slope(points: FloatArray, losses: FloatArray) -> tuple[FloatArray, float]:
    """Slope, shape (d,), of the plane that fits the losses (n,) at the points (n, d) best, and a factor:
    the gradient is their product. Of several such planes, the least steep; level where the points hardly
    spread (see _LEAST_SPREAD)."""
    scale = float(np.abs(losses).max(initial=0.0)) or 1.0
    if len(losses) < 2:
        return np.zeros(points.shape[1]), scale
    heights = losses / scale
    # The residuals are orthogonal to a constant, so the mean need not be fitted.
    steps, rises = points - points.mean(axis=0), heights - heights.mean()
    found: FloatArray = np.linalg.lstsq(steps, rises, rcond=_LEAST_SPREAD)[0]
    return found, scale


def _ratio(one: FloatArray, other: FloatArray) -> npt.NDArray[np.float64]:
    """Element by element, 0 where the divisor is 0."""
    return np.divide(one, other, out=np.zeros_like(one), where=other > 0)
