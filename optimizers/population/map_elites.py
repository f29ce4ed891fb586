"""MAP-Elites: not one best individual, but the best of each kind.

The kinds are cells of a grid over descriptors: metrics that the optimizee returns with the loss (firing rate,
energy, speed, ...). Each cell keeps its best individual; new ones are variations of those kept.
Mouret and Clune, "Illuminating search spaces by mapping elites", arXiv:1504.04909 (2015); iso+line emitter:
Vassiliades and Mouret, "Discovering the elite hypervolume by leveraging interspecies correlation" (2018);
QD score: Pugh, Soros and Stanley, "Quality diversity: a new frontier for evolutionary computation" (2016).

An individual outside the range of a descriptor counts for the cell at the end. Failed ones have no
descriptors and leave no trace. What was observed elsewhere has none either where metrics describe: the best
of it is evaluated here first.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from optimizers.base import Arrays, Capabilities, FloatArray, IntArray, Optimizer, Options, Told
from optimizers.bins import discrete, least_std
from optimizers.population.warm_start import Seeds

LARGEST_ARCHIVE = 100_000  # cells


class Descriptor(BaseModel):
    """One axis of the archive: the mean of a metric over the evaluations, in equal bins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: str = Field(min_length=1, description="name of the optimizee's metric")
    low: FiniteFloat = Field(description="where the first bin begins")
    high: FiniteFloat = Field(description="where the last bin ends")
    bins: int = Field(ge=1, le=LARGEST_ARCHIVE, description="number of bins")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low < self.high or not math.isfinite(self.high - self.low):
            raise ValueError(f"low must be less than high, got {self.low} and {self.high}")
        return self


class MapElitesOptions(Options):
    """Options of `map_elites`."""

    descriptors: Annotated[list[Descriptor], Field(max_length=8)] = Field(
        [], description="axes of the archive; empty: the first two coordinates of the unit cube"
    )
    bins: int = Field(16, ge=1, le=300, description="per axis, where no descriptors are given (1 to 300)")
    start: int = Field(64, ge=1, description="random individuals to begin with")
    emitter: Literal["iso_line", "gaussian"] = Field(
        "iso_line", description="variation: along the line to another elite, or around one"
    )
    sigma: float = Field(
        0.05, gt=0, le=1, description="standard deviation around an elite, share of each range"
    )
    line_sigma: float = Field(
        0.2, ge=0, description="standard deviation along the line, in distances of the two elites (iso_line)"
    )
    qd_offset: FiniteFloat | None = Field(
        None, description="loss that counts 0 in qd_score; null: the worst of the first individuals"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        cells = math.prod(d.bins for d in self.descriptors)
        if cells > LARGEST_ARCHIVE:
            raise ValueError(f"descriptors: {cells} cells, at most {LARGEST_ARCHIVE} are kept")
        return self


class MapElites(Optimizer):
    """The archive: elites sorted by their cell."""

    name = "map_elites"
    summary = "MAP-Elites: the best individual of each kind, over descriptors that you choose."
    format_version = 1
    Options: ClassVar[type[MapElitesOptions]] = MapElitesOptions
    capabilities = Capabilities(objectives="single", asynchronous=True)
    options: MapElitesOptions

    @classmethod
    def default_batch(cls, dimension: int) -> int:  # noqa: ARG003
        return 64

    @classmethod
    def measures(cls, options: BaseModel) -> tuple[str, ...]:
        """The descriptors, each once."""
        descriptors = options.descriptors if isinstance(options, MapElitesOptions) else []
        return tuple(dict.fromkeys(d.measure for d in descriptors))

    def _start(self) -> None:
        d = self.space.dimension
        axes = [(one.low, one.high, one.bins) for one in self.options.descriptors]
        axes = axes or [(0.0, 1.0, self.options.bins)] * min(2, d)
        self._low, self._high, bins = (
            np.array(column, dtype=np.float64) for column in zip(*axes, strict=True)
        )
        self._bins = bins.astype(np.int64)
        self._discrete = bool(discrete(self.space).any())
        self._offset = self.options.qd_offset
        self._placed = 0  # individuals with descriptors that were told
        self._worst = -math.inf  # loss of those
        self._cells: IntArray = np.empty(0, dtype=np.int64)
        self._ids: IntArray = np.empty(0, dtype=np.int64)
        self._genomes = np.empty((0, d))
        self._losses = np.empty(0)
        self._seeds = Seeds(d)

    def _sample(self, n: int) -> FloatArray:
        seeds = self._seeds.take(n)
        left = n - len(seeds)
        if not left:
            return seeds
        if self._placed < self.options.start:
            return np.concatenate([seeds, self._rng.random((left, self.space.dimension))])
        return np.concatenate([seeds, self._variations(left)])

    def _variations(self, n: int) -> FloatArray:
        """Of elites that are drawn evenly, whatever their loss."""
        one, other = self._rng.integers(0, len(self._cells), (2, n))
        parents = self._genomes[one]
        sigma = np.full(parents.shape, self.options.sigma)
        if self._discrete:  # a step must be able to leave the bin of a whole number or choice
            sigma = np.maximum(sigma, [least_std(self.space, genome) for genome in parents])
        steps = sigma * self._rng.standard_normal(parents.shape)
        if self.options.emitter == "iso_line":
            along = self.options.line_sigma * self._rng.standard_normal((n, 1))
            steps = steps + along * (self._genomes[other] - parents)
        points: FloatArray = np.clip(parents + steps, 0.0, 1.0)
        return points

    def _learn(self, told: Told) -> None:
        described = self._described(told)
        placed = told.ok & np.isfinite(described).all(axis=1)
        if placed.any():
            self._place(told.rows(placed), described[placed])

    def _observe(self, told: Told) -> None:
        if self.options.descriptors:
            self._seeds.add(told)
        else:
            self._learn(told)

    def _described(self, told: Told) -> FloatArray:
        """Descriptors, shape (n, number of axes); NaN where there is no metric."""
        if not self.options.descriptors:
            return told.genomes[:, : len(self._bins)]
        columns = [[_mean(v) for v in told.measures[one.measure]] for one in self.options.descriptors]
        described: FloatArray = np.array(columns, dtype=np.float64).T
        return described

    def _place(self, told: Told, described: FloatArray) -> None:
        """Put individuals into their cells; the better one of a cell stays, the older one if equal."""
        share = (np.clip(described, self._low, self._high) - self._low) / (self._high - self._low)
        bins = np.minimum((share * self._bins).astype(np.int64), self._bins - 1)
        cells = np.ravel_multi_index(tuple(bins.T), tuple(self._bins.tolist()))
        self._placed += len(told.ids)
        if self._offset is None:
            self._worst = max(self._worst, float(told.losses[:, 0].max()))
            if self._placed >= self.options.start:
                self._offset = self._worst
        cells = np.concatenate([self._cells, cells])
        ids = np.concatenate([self._ids, told.ids])
        losses = np.concatenate([self._losses, told.losses[:, 0]])
        genomes = np.concatenate([self._genomes, told.genomes])
        order = np.lexsort((np.arange(len(ids)), losses, cells))
        first = order[np.flatnonzero(np.diff(cells[order], prepend=-1))]
        self._cells, self._ids = cells[first], ids[first]
        self._genomes, self._losses = genomes[first], losses[first]

    def _revise(self, individual: int, loss: float, evaluations: int) -> None:  # noqa: ARG002
        self._losses[self._ids == individual] = loss

    def _figures(self) -> dict[str, float]:
        figures = {
            "cells": float(len(self._cells)),
            "coverage": len(self._cells) / math.prod(self._bins.tolist()),
        }
        if self._offset is not None and len(self._losses):
            with np.errstate(over="ignore"):
                figures["qd_score"] = float(np.maximum(0.0, self._offset - self._losses).sum())
        return figures

    def _save(self) -> tuple[dict[str, Any], Arrays]:
        return {
            "offset": self._offset,
            "placed": self._placed,
            "worst": self._worst if math.isfinite(self._worst) else None,
        }, {
            **self._seeds.save(),
            "cells": self._cells,
            "ids": self._ids,
            "genomes": self._genomes,
            "losses": self._losses,
        }

    def _restore(self, own: dict[str, Any], arrays: Arrays) -> None:
        self._offset, self._placed = own["offset"], own["placed"]
        self._worst = -math.inf if own["worst"] is None else own["worst"]
        self._seeds.load(arrays)
        self._cells, self._ids = arrays["cells"], arrays["ids"]
        self._genomes, self._losses = arrays["genomes"], arrays["losses"]


def _mean(values: FloatArray | None) -> float:
    """NaN of nothing; finite of finite values, however large."""
    return math.nan if values is None or not values.size else float((values / values.size).sum())
